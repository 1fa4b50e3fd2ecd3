//! An HTTP response body as messages: the cases of Go's reader, and the hard ends.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, ReadBuf},
    sync::mpsc,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, Encoding, SessionConfig, Sessions,
    policy::{ByteRate, Limits, PolicyLayer, TimeLimit},
    reader::{ReaderProtocols, WsReader, WsReaderLayer},
};

use crate::support::{self, BINARY, CLOSE, LONG, Raw, SOON, TEXT, frame, serve, within};

const TEXT_OF_30: &str = "this is a test string of bytes";

/// A body of pieces, and then how it ends.
type Pieces =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, io::Error>>>>;

fn pieces(pieces: Vec<Result<&'static [u8], io::Error>>) -> Pieces {
    let frames: Vec<_> = pieces
        .into_iter()
        .map(|piece| piece.map(|bytes| Frame::data(Bytes::from_static(bytes))))
        .collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

/// Frames until the end, and the code of the Close.
async fn read_out(client: &mut Raw<DuplexStream>) -> (Vec<support::Frame>, Option<Option<u16>>) {
    let mut frames = Vec::new();
    while let Some(frame) = within(SOON, client.next()).await {
        if frame.opcode == CLOSE {
            return (frames, Some(frame.close_code()));
        }
        frames.push(frame);
    }
    (frames, None)
}

fn joined(frames: &[support::Frame]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|frame| frame.payload.to_vec())
        .collect()
}

async fn open<L, B>(layer: WsReaderLayer, offer: &str, make: L) -> Result<Raw<DuplexStream>, String>
where
    L: Fn() -> B + Clone + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = layer.layer(service_fn(move |_: Request<Incoming>| {
        let body = make();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let (near, far) = tokio::io::duplex(256 * 1024);
    serve(far, service);
    Raw::handshake(near, offer).await
}

#[tokio::test(start_paused = true)]
async fn the_text_arrives_whole() {
    for (offer, opcode) in [
        ("", BINARY),
        ("binary.k8s.io", BINARY),
        ("base64.binary.k8s.io", TEXT),
    ] {
        let body = || Full::new(Bytes::from(TEXT_OF_30));
        let mut client = open(WsReaderLayer::new(), offer, body).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        assert!(frames.iter().all(|frame| frame.opcode == opcode), "{offer}");
        let got = match opcode {
            TEXT => decode(&joined(&frames)),
            _ => joined(&frames),
        };
        assert_eq!(got, TEXT_OF_30.as_bytes());
        assert_eq!(close, Some(Some(1000)));
    }
}

fn decode(text: &[u8]) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn with_ping_the_first_message_is_empty() {
    for (offer, opcode) in [("", BINARY), ("base64.binary.k8s.io", TEXT)] {
        let body = || Full::new(Bytes::from(TEXT_OF_30));
        let layer = WsReaderLayer::new().ping(true);
        let mut client = open(layer, offer, body).await.unwrap();
        let (frames, _) = read_out(&mut client).await;
        assert_eq!((frames[0].opcode, frames[0].payload.len()), (opcode, 0));
        assert_eq!(frames.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_of_ones_own_is_spoken_and_nothing_else() {
    let protocols = || {
        ReaderProtocols::new([
            ("v1.raw", Encoding::Binary),
            ("v1.base64", Encoding::Base64),
        ])
        .unwrap()
    };
    let body = || Full::new(Bytes::from(TEXT_OF_30));
    let layer = || WsReaderLayer::new().protocols(protocols());
    let mut client = open(layer(), "v1.base64", body).await.unwrap();
    let (frames, _) = read_out(&mut client).await;
    assert_eq!(decode(&joined(&frames)), TEXT_OF_30.as_bytes());
    for offer in ["", "binary.k8s.io", "channel.k8s.io"] {
        let refused = open(layer(), offer, body).await.unwrap_err();
        assert!(refused.starts_with("HTTP/1.1 403 "), "{offer}: {refused}");
    }
    let refused = open(WsReaderLayer::new(), "channel.k8s.io", body).await;
    assert!(refused.unwrap_err().starts_with("HTTP/1.1 403 "));
}

#[tokio::test(start_paused = true)]
async fn an_error_after_two_reads_delivers_both_and_is_no_clean_end() {
    let body = || pieces(vec![Ok(b"one"), Ok(b"two"), Err(io::Error::other("disk"))]);
    let mut client = open(WsReaderLayer::new(), "", body).await.unwrap();
    let (frames, close) = read_out(&mut client).await;
    assert_eq!(joined(&frames), b"onetwo");
    assert_eq!(close, Some(Some(1011)));
}

#[tokio::test(start_paused = true)]
async fn an_error_before_anything_is_an_http_answer() {
    let body = || pieces(vec![Err(io::Error::other("disk"))]);
    let refused = open(WsReaderLayer::new(), "", body).await.unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 500 "), "{refused}");
}

/// Two pieces, and then it panics.
struct Panics(usize);

impl Body for Panics {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0 += 1;
        assert!(self.0 <= 2, "the source panics");
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_delivers_what_was_read_and_takes_nothing_down() {
    for _ in 0..2 {
        let mut client = open(WsReaderLayer::new(), "", || Panics(0)).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        assert_eq!(joined(&frames), b"piecepiece");
        assert_eq!(close, Some(Some(1011)));
    }
}

/// A body that waits for what the test sends, and tells when it is dropped.
struct Followed {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    _alive: Arc<()>,
}

impl Body for Followed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.poll_recv(cx);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// A session of a body that waits.
async fn follow(
    layer: WsReaderLayer,
) -> (Raw<DuplexStream>, mpsc::UnboundedSender<Bytes>, Arc<()>) {
    let (send, pieces) = mpsc::unbounded_channel();
    let alive = Arc::new(());
    let body = Arc::new(Mutex::new(Some(Followed {
        pieces,
        _alive: Arc::clone(&alive),
    })));
    let client = open(layer, "", move || body.lock().unwrap().take().unwrap()).await;
    (client.unwrap(), send, alive)
}

#[tokio::test(start_paused = true)]
async fn what_a_followed_body_says_arrives_when_it_says_it() {
    let (mut client, say, alive) =
        follow(WsReaderLayer::new().config(SessionConfig::default().keep_alive(None))).await;
    for line in ["first\n", "second\n"] {
        tokio::time::sleep(SOON).await;
        say.send(line.into()).unwrap();
        let frame = within(Duration::from_millis(10), client.next()).await;
        assert_eq!(frame.unwrap().payload, line);
    }
    drop(say);
    let (_, close) = read_out(&mut client).await;
    assert_eq!(close, Some(Some(1000)));
    assert_eq!(Arc::strong_count(&alive), 1, "the body is gone");
}

#[tokio::test(start_paused = true)]
async fn what_the_client_sends_is_ignored_and_its_close_answered_at_once() {
    let (mut client, say, alive) =
        follow(WsReaderLayer::new().config(SessionConfig::default().keep_alive(None))).await;
    for payload in [&b""[..], b"\0hello", &[255, 0], &[7; 100_000]] {
        client.bytes(&frame(true, BINARY, payload)).await.unwrap();
    }
    client
        .bytes(&frame(true, TEXT, b"no base64!"))
        .await
        .unwrap();
    say.send("still there".into()).unwrap();
    let frame = within(SOON, client.next()).await.unwrap();
    assert_eq!(frame.payload, "still there");
    client.close(Some(1000)).await.unwrap();
    let answered = within(Duration::from_millis(10), client.next())
        .await
        .unwrap();
    assert_eq!(answered.close_code(), Some(1000));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(Arc::strong_count(&alive), 1, "a body that waits is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_vanishes_ends_a_body_that_waits() {
    let (client, _say, alive) = follow(WsReaderLayer::new()).await;
    drop(client);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(Arc::strong_count(&alive), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_cut_off_never_looks_complete() {
    let layer = WsReaderLayer::new().config(SessionConfig::default().keep_alive(None));
    // Idle.
    let (mut client, say, alive) = follow(layer.clone().idle_timeout(SOON)).await;
    say.send("x".into()).unwrap();
    let mut codes = Vec::new();
    while let Some(frame) = within(LONG, client.next()).await {
        if frame.opcode == CLOSE {
            codes.push(frame.close_code());
        }
    }
    assert_eq!(codes, [Some(1001)]);
    drop(client);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(Arc::strong_count(&alive), 1);
    // Drained.
    let sessions = Sessions::default();
    let (mut client, _say, _alive) = follow(layer.sessions(sessions.clone())).await;
    let drain = sessions.drain(LONG);
    let (_, close) = read_out(&mut client).await;
    assert_eq!(close, Some(Some(1001)));
    drop(client);
    within(SOON, drain).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_gets_a_prefix_and_no_more_is_asked_for() {
    let taken = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&taken);
    let body = move || {
        let counted = Arc::clone(&counted);
        StreamBody::new(futures_util::stream::repeat_with(move || {
            *counted.lock().unwrap() += 1;
            Ok::<_, Infallible>(Frame::data(Bytes::from(vec![7; 32 * 1024])))
        }))
    };
    let mut client = open(WsReaderLayer::new(), "", body).await.unwrap();
    tokio::time::sleep(SOON).await;
    let before = *taken.lock().unwrap();
    assert!(
        before < 20,
        "{before} pieces of 32 KiB are held for a client that reads none"
    );
    let mut got = 0;
    while got < 1 << 20 {
        got += within(SOON, client.next()).await.unwrap().payload.len();
    }
    drop(client);
    tokio::time::sleep(SOON).await;
    let after = *taken.lock().unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(*taken.lock().unwrap(), after, "nobody reads it any more");
}

#[tokio::test(start_paused = true)]
async fn large_pieces_leave_as_messages_of_the_size_that_was_set() {
    let body = || Full::new(Bytes::from(vec![7; 100_000]));
    for (layer, size) in [
        (WsReaderLayer::new(), 32 * 1024),
        (WsReaderLayer::new().message_size(1000), 1000),
        (WsReaderLayer::new().message_size(0), 1),
    ] {
        let mut client = open(layer, "", body).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        let largest = frames.iter().map(|frame| frame.payload.len()).max();
        assert_eq!((joined(&frames).len(), largest), (100_000, Some(size)));
        assert_eq!(close, Some(Some(1000)));
        assert!(
            frames.iter().all(|frame| frame.fin),
            "messages, not fragments"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_gets_an_ordinary_get_and_its_failures_pass_unchanged() {
    let seen = Arc::new(Mutex::new(None));
    let tell = Arc::clone(&seen);
    let service = WsReaderLayer::new().layer(service_fn(move |request: Request<Incoming>| {
        let (head, _) = request.into_parts();
        *tell.lock().unwrap() = Some(head);
        async {
            let mut answer = Response::new(Full::new(Bytes::from("no such pod")));
            *answer.status_mut() = StatusCode::NOT_FOUND;
            answer
                .headers_mut()
                .insert("x-reason", "gone".parse().unwrap());
            Ok::<_, Infallible>(answer)
        }
    }));
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service);
    let refused = Raw::handshake_at(near, "/log?follow=1", "binary.k8s.io")
        .await
        .unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 404 "), "{refused}");
    assert!(refused.contains("x-reason: gone"), "{refused}");
    let head = seen.lock().unwrap().take().unwrap();
    assert_eq!(
        (head.method, head.uri.to_string()),
        (Method::GET, "/log?follow=1".into())
    );
    let names: Vec<_> = head.headers.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["host"], "nothing of the handshake");
}

/// A body that has nothing to say yet never accepts, and so would never be answered.
#[tokio::test(start_paused = true)]
async fn the_response_accepts_whatever_the_configuration_says() {
    let config = SessionConfig::default().accept(AcceptMode::Explicit);
    for layer in [
        WsReaderLayer::new().config(config.clone()),
        WsReaderLayer::new().config(config).idle_timeout(SOON),
    ] {
        let (mut client, say, _alive) = follow(layer).await;
        say.send("late".into()).unwrap();
        let frame = within(Duration::from_millis(10), client.next()).await;
        assert_eq!(frame.unwrap().payload, "late");
    }
}

#[tokio::test(start_paused = true)]
async fn the_policies_of_the_layer_hold() {
    let endless = || StreamBody::new(futures_util::stream::pending::<io::Result<Frame<Bytes>>>());
    let layer = WsReaderLayer::new().config(SessionConfig::default().time_limit(SOON / 2));
    assert!(layer.check().is_ok());
    let mut client = open(layer, "binary.k8s.io", endless).await.unwrap();
    let start = tokio::time::Instant::now();
    assert_eq!(read_out(&mut client).await.1, Some(Some(1001)));
    assert_eq!(start.elapsed().as_secs(), (SOON / 2).as_secs());

    let layer = WsReaderLayer::new().limits(Limits::default().max_message(2));
    let mut client = open(layer, "binary.k8s.io", endless).await.unwrap();
    client.send(0, b"long").await.unwrap();
    assert_eq!(read_out(&mut client).await.1, Some(Some(1009)));

    let layer = WsReaderLayer::new()
        .config(SessionConfig::default().byte_rate(ByteRate::default().outbound(0)));
    assert!(layer.check().unwrap_err().to_string().contains("ByteRate"));
    let refused = open(layer, "binary.k8s.io", endless).await.err().unwrap();
    assert!(refused.starts_with("HTTP/1.1 500 "), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_no_upgrade_passes_unchanged() {
    let service = ServiceBuilder::new()
        .layer(PolicyLayer::new(TimeLimit(None)))
        .layer(WsReaderLayer::new())
        .service_fn(|request: Request<Full<Bytes>>| async move {
            let (head, body) = request.into_parts();
            let mut answer = Response::new(body);
            answer
                .headers_mut()
                .insert("x-method", head.method.as_str().parse().unwrap());
            Ok::<_, Infallible>(answer)
        });
    let request = Request::post("/log")
        .body(Full::new(Bytes::from("as it was")))
        .unwrap();
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["x-method"], "POST");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "as it was");
}

/// Gives a text in reads of ten bytes, and then an error or its end.
struct Slowly(&'static str, bool);

impl tokio::io::AsyncRead for Slowly {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (now, later) = self.0.split_at(self.0.len().min(10));
        if now.is_empty() && self.1 {
            return Poll::Ready(Err(io::Error::other("the disk is gone")));
        }
        buf.put_slice(now.as_bytes());
        self.0 = later;
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn an_async_read_is_a_body() {
    for (fails, code) in [(false, 1000), (true, 1011)] {
        let body = move || WsReader::new(Slowly(TEXT_OF_30, fails));
        let mut client = open(WsReaderLayer::new(), "", body).await.unwrap();
        let (frames, close) = read_out(&mut client).await;
        assert_eq!(joined(&frames), TEXT_OF_30.as_bytes());
        assert_eq!(frames.len(), 3, "a message a read");
        assert_eq!(close, Some(Some(code)));
    }
    let whole = WsReader::new(Slowly(TEXT_OF_30, false)).collect().await;
    assert_eq!(whole.unwrap().to_bytes(), TEXT_OF_30);
    let broken = WsReader::new(Slowly(TEXT_OF_30, true)).collect().await;
    assert_eq!(broken.unwrap_err().to_string(), "the disk is gone");
}

#[tokio::test(start_paused = true)]
async fn readers_are_sessions_that_are_counted() {
    let sessions = Sessions::default();
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let layer = WsReaderLayer::new().config(
        SessionConfig::default()
            .sessions(sessions.clone())
            .on_end(move |summary| tell.lock().unwrap().push(summary.clone())),
    );
    let (mut client, say, _alive) = follow(layer).await;
    assert_eq!(sessions.len(), 1);
    say.send("twelve bytes".into()).unwrap();
    drop(say);
    read_out(&mut client).await;
    drop(client);
    tokio::time::sleep(SOON).await;
    assert!(sessions.is_empty());
    let summary = &told.lock().unwrap()[0];
    assert_eq!((summary.sent().messages, summary.sent().bytes), (1, 12));
    assert_eq!(summary.close_code, Some(1000));
}

#[tokio::test]
async fn a_pipe_is_followed_until_it_ends() {
    let (mut write, read) = tokio::io::duplex(1024);
    let mut body = WsReader::new(read);
    write.write_all(b"line\n").await.unwrap();
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "line\n");
    drop(write);
    assert!(body.frame().await.is_none());
    assert!(body.is_end_stream());
}
