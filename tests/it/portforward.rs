//! Port-forward: each port a service of its own, and what its client is told.

use std::{
    convert::Infallible,
    future::{pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceBuilder, service_fn, util::ServiceFn};
use tower_wsstream::{
    AcceptMode, BoxError, EndCause, Rejection, RejectionKind, SessionConfig, WsStream,
    WsStreamLayer,
    portforward::{ForwardedPort, PortForward, PortForwardLayer, Protocols},
    protocol::subprotocols::{self, V4, V4_BASE64, V5},
    testing::{Client, Connect, Received, Refused, Transcript},
};

use crate::support::{
    BINARY, BITE, CLOSE, End, LONG, Raw, TEXT, Watchdog, base64, frame, on, read_out, secs, serve,
    within,
};

const OFFERS: [&str; 3] = ["", V4, V4_BASE64];
const MIB: usize = 1 << 20;

/// Says nothing of its own.
fn layer() -> WsStreamLayer {
    WsStreamLayer::new(Protocols::default()).config(SessionConfig::default().keep_alive(None))
}

type Forward<F> = WsStream<PortForward<ServiceFn<F>>>;

/// The ports of a function.
fn forward<F, Fut>(function: F) -> Forward<F>
where
    F: FnMut(ForwardedPort) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    forward_in(layer(), function)
}

fn forward_in<F, Fut>(layer: WsStreamLayer, function: F) -> Forward<F>
where
    F: FnMut(ForwardedPort) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    layer.layer(PortForwardLayer::new().layer(service_fn(function)))
}

/// A client that reads and writes its frames by hand.
async fn open<F, Fut>(service: Forward<F>, query: &str, offer: &str) -> Raw<DuplexStream>
where
    F: FnMut(ForwardedPort) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(256 * 1024);
    serve(far, service);
    let path = format!("/?{query}");
    Raw::handshake_at(near, &path, offer)
        .await
        .expect("no refusal")
}

async fn refused(connecting: impl Future<Output = Result<Client, BoxError>>) -> (u16, String) {
    let error = within(LONG, connecting).await.unwrap_err();
    let refused = error.downcast::<Refused>().expect("an HTTP answer");
    let status = refused.refusal().expect("a Status");
    let message = status.message().expect("a message").to_owned();
    (refused.status().as_u16(), message)
}

/// Sends back what comes, until the client has closed the session.
async fn echo(mut port: ForwardedPort) -> Result<(), BoxError> {
    let (mut from, mut to) = tokio::io::split(&mut port.stream);
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}

/// The next message; what keeps a paused session alive is passed over.
async fn message(client: &mut Raw<DuplexStream>) -> (u8, Vec<u8>) {
    loop {
        let frame = within(LONG, client.next()).await.expect("a frame");
        if matches!(frame.opcode, BINARY | TEXT) {
            return client.split(&frame.payload);
        }
    }
}

fn greeting(port: u16) -> Vec<u8> {
    port.to_le_bytes().to_vec()
}

/// The messages of each channel, of which there are so many.
fn by_channel(messages: &[(u8, Vec<u8>)], channels: usize) -> Vec<Vec<Vec<u8>>> {
    let mut sorted = vec![Vec::new(); channels];
    for (channel, payload) in messages {
        sorted[usize::from(*channel)].push(payload.clone());
    }
    sorted
}

/// The texts on the error channel of a port, without its first message.
fn texts(transcript: &Transcript, index: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for (channel, payload) in &transcript.messages {
        if usize::from(*channel) == 2 * index + 1 {
            texts.push(String::from_utf8_lossy(payload).into_owned());
        }
    }
    assert!(!texts.is_empty(), "a first message: {transcript:?}");
    texts.remove(0);
    texts
}

/// Bytes of which no two ports have the same.
fn payload(port: u16, len: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(31) ^ (at >> 8) ^ usize::from(port)) as u8;
    (0..len).map(byte).collect()
}

// First messages.

#[tokio::test(start_paused = true)]
async fn the_number_of_the_port_comes_first_and_alone() {
    for offer in OFFERS {
        for query in [
            "ports=80,65535,258",
            "ports=80&ports=65535&ports=258",
            "&ports=80%2C65535&x=y&ports=258",
        ] {
            // Written in the very first poll.
            let service = forward(async |mut port: ForwardedPort| {
                port.stream.write_all(b"hello").await?;
                port.stream
                    .write_all(&port.index.to_string().into_bytes())
                    .await?;
                Ok(())
            });
            let mut client = open(service, query, offer).await;
            let told = within(LONG, client.read_to_end()).await;
            let mut expected = Vec::new();
            for (index, port) in [80, 65535, 258].into_iter().enumerate() {
                let index = index.to_string().into_bytes();
                expected.push(vec![greeting(port), b"hello".to_vec(), index]);
                expected.push(vec![greeting(port)]);
            }
            assert_eq!(by_channel(&told.messages, 6), expected, "{offer} {query}");
            assert_eq!(told.close, Some(Some(1000)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn first_messages_wait_for_no_service() {
    let service = forward(async |port: ForwardedPort| {
        let _port = port;
        pending().await
    });
    let mut client = open(service, "ports=80,443", V4).await;
    for expected in [
        on(0, &[80, 0]),
        on(1, &[80, 0]),
        on(2, &[187, 1]),
        on(3, &[187, 1]),
    ] {
        let frame = within(LONG, client.next()).await.unwrap();
        assert_eq!((frame.fin, frame.opcode), (true, BINARY));
        assert_eq!(frame.payload, expected);
    }
}

// Negotiation.

#[tokio::test(start_paused = true)]
async fn v4_is_picked_wherever_it_is_offered() {
    let service = forward(async |_: ForwardedPort| Ok(()));
    for (offers, expected) in [
        (
            &[
                V5,
                V4,
                "v3.channel.k8s.io",
                "v2.channel.k8s.io",
                "channel.k8s.io",
            ][..],
            V4,
        ),
        (&[V5, V4], V4),
        (&["SPDY/3.1+portforward.k8s.io", V4], V4),
        (&[V4_BASE64, V4], V4_BASE64),
        (&[], ""),
    ] {
        let connect = offers
            .iter()
            .fold(Connect::to("/?ports=80"), |to, offer| to.offer(*offer));
        let client = within(LONG, connect.connect(service.clone()))
            .await
            .unwrap();
        assert_eq!(client.subprotocol(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_spoken_is_refused() {
    let service = forward(async |_: ForwardedPort| Ok(()));
    for offer in [
        V5,
        "SPDY/3.1+portforward.k8s.io",
        subprotocols::CHANNEL,
        "binary.k8s.io",
    ] {
        let connect = Connect::to("/?ports=80").offer(offer);
        let (status, message) = refused(connect.connect(service.clone())).await;
        assert_eq!(status, 403, "{offer}");
        assert!(message.contains(V4), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_are_no_ports_is_refused() {
    let service = forward(async |_: ForwardedPort| Ok(()));
    let many = |count: usize| format!("ports={}", vec!["80"; count].join(","));
    for (query, offer, words) in [
        ("ports=0", V4, "from 1 to 65535"),
        ("ports=65536", V4, "from 1 to 65535"),
        ("ports=80&ports=x", V4, "from 1 to 65535"),
        ("ports=", V4, "from 1 to 65535"),
        ("", V4, "ports=8080"),
        ("x=80", "", "ports=8080"),
        (&many(128), V4, "127 at most"),
        (&many(40), V4_BASE64, "39 at most"),
    ] {
        let connect = Connect::to(format!("/?{query}")).offer(offer);
        let (status, message) = refused(connect.connect(service.clone())).await;
        assert_eq!(status, 400, "{query}");
        assert!(message.contains(words), "{query}: {message}");
    }
}

#[tokio::test(start_paused = true)]
async fn as_many_ports_as_there_can_be() {
    for (offer, count) in [("", 127), (V4, 127), (V4_BASE64, 39)] {
        let service = forward(echo);
        let ports: Vec<_> = (1..=count).map(|port| port.to_string()).collect();
        let query = format!("ports={}", ports.join(","));
        let mut client = open(service, &query, offer).await;
        let mut expected = Vec::new();
        for port in 1..=count {
            let said = payload(port, 3);
            client.send(2 * (port as u8 - 1), &said).await.unwrap();
            expected.push(vec![greeting(port), said]);
            expected.push(vec![greeting(port)]);
        }
        client.close(None).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        let channels = usize::from(count) * 2;
        assert_eq!(by_channel(&told.messages, channels), expected, "{offer}");
    }
}

// Data.

#[tokio::test]
async fn two_ports_at_once_give_back_every_byte() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in OFFERS {
        let client = open(forward(echo), "ports=80,443", offer).await;
        let (mut client, mut write) = client.into_halves();
        let sent = [payload(80, 2 * MIB), payload(443, 3 * MIB)];
        let pieces = sent.clone();
        let sending = tokio::spawn(async move {
            // Of different sizes, so that they do not keep step.
            let mut left = [pieces[0].chunks(33_000), pieces[1].chunks(50_001)];
            let mut more = true;
            while more {
                more = false;
                for (chunks, channel) in left.iter_mut().zip([0, 2]) {
                    let Some(piece) = chunks.next() else { continue };
                    more = true;
                    let message = match offer {
                        V4_BASE64 => frame(true, TEXT, &base64(channel, piece)),
                        _ => frame(true, BINARY, &on(channel, piece)),
                    };
                    write.write_all(&message).await.unwrap();
                }
            }
            write.write_all(&frame(true, CLOSE, &[])).await.unwrap();
            write
        });
        let told = client.read_to_end().await;
        for (channel, port, sent) in [(0, 80, &sent[0]), (2, 443, &sent[1])] {
            let got = told.channel(channel);
            assert_eq!(got.len(), sent.len() + 2);
            assert!(
                got[..2] == greeting(port) && got[2..] == **sent,
                "{offer} {port}"
            );
            assert_eq!(told.channel(channel + 1), greeting(port));
        }
        assert_eq!(told.close, Some(None), "the client's own");
        drop(sending.await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_port_gets_its_text_and_the_other_goes_on() {
    let _watchdog = Watchdog::bites_after(BITE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (mut from, mut to) = socket.split();
        tokio::io::copy(&mut from, &mut to).await.unwrap();
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bad = closed.local_addr().unwrap().port();
    drop(closed);

    let service = forward(async |mut port: ForwardedPort| {
        let mut target = TcpStream::connect(("127.0.0.1", port.port)).await?;
        copy_bidirectional(&mut port.stream, &mut target).await?;
        Ok(())
    });
    let mut client = open(service, &format!("ports={bad},{good}"), V4).await;
    let mut heard = Vec::new();
    while heard.len() < 5 {
        heard.push(client.next().await.unwrap().payload);
    }
    let text = heard
        .iter()
        .filter(|payload| payload[0] == 1)
        .nth(1)
        .unwrap();
    let text = str::from_utf8(&text[1..]).unwrap();
    assert!(
        text.starts_with(&format!("error forwarding port {bad}: ")),
        "{text}"
    );
    assert!(text.to_lowercase().contains("refused"), "{text}");

    client.send(0, b"into the void").await.unwrap();
    client.send(2, b"still here").await.unwrap();
    assert_eq!(client.next().await.unwrap().payload, on(2, b"still here"));
    client.close(Some(1000)).await.unwrap();
    let told = client.read_to_end().await;
    assert_eq!((told.messages, told.close), (vec![], Some(Some(1000))));
}

#[tokio::test(start_paused = true)]
async fn a_stalled_port_stalls_only_itself() {
    const WINDOW: usize = 256 * 1024;
    let service = forward(async |port: ForwardedPort| match port.index {
        0 => {
            let _unread = port;
            pending().await
        }
        _ => echo(port).await,
    });
    for offer in OFFERS {
        let mut client = open(service.clone(), "ports=1,2", offer).await;
        for _ in 0..WINDOW / 8192 {
            client.send(0, &[7; 8192]).await.unwrap();
        }
        client.send(2, b"hello").await.unwrap();
        for _ in 0..4 {
            message(&mut client).await;
        }
        let heard = message(&mut client).await;
        assert_eq!(heard, (2, b"hello".to_vec()), "{offer}");
    }
}

/// A port whose service reads no more, and says so by dropping its reader, holds
/// nobody up, whatever comes for it.
#[tokio::test(start_paused = true)]
async fn a_port_that_only_writes_holds_nobody_up() {
    let service = forward(async |port: ForwardedPort| match port.index {
        0 => {
            let (reader, _writer) = port.stream.into_split();
            drop(reader);
            pending().await
        }
        _ => echo(port).await,
    });
    let mut client = open(service, "ports=1,2", V4).await;
    for _ in 0..64 {
        within(LONG, client.send(0, &[7; 32 * 1024])).await.unwrap();
    }
    client.send(2, b"hello").await.unwrap();
    for _ in 0..4 {
        message(&mut client).await;
    }
    assert_eq!(message(&mut client).await, (2, b"hello".to_vec()));
}

// Ends.

/// How a port ends.
#[derive(Clone, Copy, Debug)]
enum How {
    Error,
    ErrorAtOnce,
    Panic,
    PanicAtOnce,
    PanicInCall,
    PanicInTheDropToo,
    PanicInTheError,
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("panicked in its drop, on purpose");
    }
}

#[derive(Debug)]
struct Untellable;

impl std::fmt::Display for Untellable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("panicked in its Display, on purpose")
    }
}

impl std::error::Error for Untellable {}

type Running = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

fn ends(how: How, mut port: ForwardedPort) -> Running {
    if let How::PanicInCall = how {
        panic!("panicked on purpose");
    }
    Box::pin(async move {
        if let How::ErrorAtOnce = how {
            return Err("failed on purpose".into());
        }
        if let How::PanicAtOnce = how {
            panic!("panicked on purpose");
        }
        port.stream.write_all(b"data").await?;
        match how {
            How::PanicInTheDropToo => {
                let _note = PanicsWhenDropped;
                pending::<()>().await;
            }
            How::PanicInTheError => return Err(Untellable.into()),
            How::Panic => panic!("panicked on purpose"),
            _ => {}
        }
        Err("failed on purpose".into())
    })
}

#[tokio::test(start_paused = true)]
async fn a_port_that_fails_or_panics_ends_alone_with_one_text() {
    for offer in [V4, V4_BASE64] {
        for how in [
            How::Error,
            How::ErrorAtOnce,
            How::Panic,
            How::PanicAtOnce,
            How::PanicInCall,
            How::PanicInTheError,
        ] {
            let service = forward(move |port: ForwardedPort| -> Running {
                match port.index {
                    1 => ends(how, port),
                    _ => Box::pin(echo(port)),
                }
            });
            let connect = Connect::to("/?ports=80,81,82").offer(offer);
            let mut client = within(LONG, connect.connect(service)).await.unwrap();
            let mut before = Vec::new();
            loop {
                match within(LONG, client.receive()).await {
                    Received::Message(3, payload) if payload.len() > 2 => {
                        before.push((3, payload));
                        break;
                    }
                    Received::Message(channel, payload) => before.push((channel, payload)),
                    other => panic!("{other:?}, {how:?}"),
                }
            }
            let text = str::from_utf8(&before.last().unwrap().1)
                .unwrap()
                .to_owned();
            let expected = match how {
                How::Error | How::ErrorAtOnce => "failed on purpose",
                _ => "the port's service failed",
            };
            assert_eq!(
                text,
                format!("error forwarding port 81: {expected}"),
                "{how:?}"
            );

            client.send(2, b"void").await.unwrap();
            for channel in [0, 4] {
                client.send(channel, b"alive").await.unwrap();
                let heard = within(LONG, client.receive()).await;
                assert_eq!(
                    heard,
                    Received::Message(channel, Bytes::from("alive")),
                    "{how:?}"
                );
            }
            client.close(Some(1000)).await.unwrap();
            let transcript = within(LONG, client.read_to_end()).await;
            assert_eq!(transcript.messages, [], "{how:?}");
            assert_eq!(transcript.close_code, Some(1000));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ports_that_panic_in_their_drop_do_not_abort_the_process() {
    let service = forward(|port: ForwardedPort| ends(How::PanicInTheDropToo, port));
    let connect = Connect::to("/?ports=80,81,82").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    drop(client);
    // Each of the three panics when its grace is over.
    sleep(secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn the_session_ends_with_its_last_port() {
    let service = forward(async |mut port: ForwardedPort| {
        sleep(secs(u64::from(port.port))).await;
        port.stream.write_all(b"bye").await?;
        if port.port == 30 {
            return Err("late".into());
        }
        Ok(())
    });
    let start = Instant::now();
    let connect = Connect::to("/?ports=30,10,20").offer(V4);
    let mut client = within(LONG, connect.connect(service)).await.unwrap();
    for _ in 0..6 {
        let _greeting = client.receive().await;
    }
    for (channel, text, at) in [
        (2, "bye", 10),
        (4, "bye", 20),
        (0, "bye", 30),
        (1, "error forwarding port 30: late", 30),
    ] {
        let heard = within(LONG, client.receive()).await;
        assert_eq!(heard, Received::Message(channel, Bytes::from(text)));
        assert_eq!(start.elapsed().as_secs(), at);
    }
    // All is told.
    assert_eq!(
        client.receive().await,
        Received::Closed {
            code: Some(1000),
            reason: "".into()
        }
    );
    assert_eq!(start.elapsed().as_secs(), 30);
}

/// A Close of the client is the end of what it sends, and no more than that.
#[tokio::test(start_paused = true)]
async fn what_a_port_says_after_the_clients_close_is_heard() {
    for (offer, code) in [
        ("", None),
        (V4, None),
        (V4, Some(1000)),
        (V4_BASE64, Some(1000)),
    ] {
        let service = forward(async |mut port: ForwardedPort| {
            let mut all = Vec::new();
            port.stream.read_to_end(&mut all).await?;
            sleep(secs(20)).await;
            port.stream.write_all(&all).await?;
            match port.index {
                0 => Ok(()),
                _ => Err("the target has reset".into()),
            }
        });
        let mut client = open(service, "ports=1,2", offer).await;
        client.send(0, b"one").await.unwrap();
        client.send(2, b"two").await.unwrap();
        client.close(code).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(
            by_channel(&told.messages, 4),
            [
                vec![greeting(1), b"one".to_vec()],
                vec![greeting(1)],
                vec![greeting(2), b"two".to_vec()],
                vec![
                    greeting(2),
                    b"error forwarding port 2: the target has reset".to_vec()
                ],
            ]
        );
        assert_eq!(told.close, Some(code));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_is_an_error_for_each_port_and_no_text() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let service = forward(move |port: ForwardedPort| {
        let ended = ended.clone();
        async move {
            let (mut reader, _writer) = port.stream.into_split();
            let (all, end) = read_out(&mut reader).await;
            let cause = port.session.ended().await;
            ended.send((all, end, cause.clone())).unwrap();
            Err(io::Error::from(cause).into())
        }
    });
    let mut client = open(service, "ports=1,2", V4).await;
    client.send(0, b"cut").await.unwrap();
    client.send(2, b"cut").await.unwrap();
    client.close(Some(1001)).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.messages.len(), 4, "first messages alone");
    assert_eq!(told.close, Some(Some(1001)));
    for _ in 0..2 {
        let (all, end, cause) = ends.recv().await.unwrap();
        assert_eq!(all, b"cut");
        let End::Error(kind, read) = end else {
            panic!("a cut upload looks complete");
        };
        assert_eq!(kind, io::ErrorKind::ConnectionAborted);
        assert_eq!(read, cause);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_tells_each_port() {
    let service = forward_in(layer().idle_timeout(secs(60)), echo);
    let connect = Connect::to("/?ports=80,81").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    for (index, port) in [80, 81].into_iter().enumerate() {
        let texts = texts(&transcript, index);
        assert_eq!(texts.len(), 1);
        let begin = format!("error forwarding port {port}: the session has ended");
        assert!(texts[0].starts_with(&begin), "{texts:?}");
    }
    assert_eq!(transcript.close_code, Some(1000), "all was told");
}

/// Tells when it is dropped.
struct Dropped(mpsc::UnboundedSender<usize>, usize);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_lost_drops_every_port() {
    let (dropped, mut drops) = mpsc::unbounded_channel();
    let service = forward(move |port: ForwardedPort| {
        let note = Dropped(dropped.clone(), port.index);
        async move {
            let _note = note;
            let _port = port;
            pending().await
        }
    });
    let client = open(service, "ports=1,2,3", V4).await;
    let start = Instant::now();
    drop(client);
    let mut gone = Vec::new();
    while gone.len() < 3 {
        gone.push(within(LONG, drops.recv()).await.unwrap());
    }
    gone.sort_unstable();
    assert_eq!(gone, [0, 1, 2]);
    assert!(start.elapsed() < secs(2), "after the grace of a second");
}

// Who is polled.

#[tokio::test(start_paused = true)]
async fn a_wake_of_one_port_polls_no_other() {
    const PORTS: usize = 100;
    let polls: Arc<[AtomicUsize; PORTS]> = Arc::new([const { AtomicUsize::new(0) }; PORTS]);
    let counts = Arc::clone(&polls);
    let service = forward(move |port: ForwardedPort| {
        let (counts, index) = (Arc::clone(&counts), port.index);
        let mut running = Box::pin(echo(port));
        poll_fn(move |cx| {
            counts[index].fetch_add(1, Ordering::Relaxed);
            running.as_mut().poll(cx)
        })
    });
    let ports: Vec<_> = (1..=PORTS).map(|port| port.to_string()).collect();
    let mut client = open(service, &format!("ports={}", ports.join(",")), V4).await;
    for _ in 0..2 * PORTS {
        let _greeting = within(LONG, client.next()).await.unwrap();
    }
    let seen = || {
        polls
            .iter()
            .map(|polls| polls.load(Ordering::Relaxed))
            .collect::<Vec<_>>()
    };
    for talking in [0, 63, 64, 99] {
        let before = seen();
        for _ in 0..10 {
            client.send(2 * talking, b"hello").await.unwrap();
            let frame = within(LONG, client.next()).await.unwrap();
            assert_eq!(frame.payload, on(2 * talking, b"hello"));
        }
        for (index, (before, after)) in before.into_iter().zip(seen()).enumerate() {
            assert_eq!(
                after > before,
                index == usize::from(talking),
                "port {index}"
            );
        }
    }
}

/// tokio gives a task a budget, which a busy port can use up alone.
#[tokio::test]
async fn a_port_that_is_always_busy_starves_no_other() {
    let _watchdog = Watchdog::bites_after(BITE);
    for busy in [0, 1, 2] {
        let done = Arc::new(AtomicUsize::new(0));
        let service = forward(move |port: ForwardedPort| {
            let done = Arc::clone(&done);
            async move {
                if port.index == busy {
                    while done.load(Ordering::Relaxed) < 2 {
                        tokio::task::coop::consume_budget().await;
                    }
                } else {
                    for _ in 0..1000 {
                        tokio::task::coop::consume_budget().await;
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
        });
        let mut client = open(service, "ports=1,2,3", V4).await;
        let told = client.read_to_end().await;
        assert_eq!(told.close, Some(Some(1000)));
    }
}

// Readiness.

/// Insists on a poll of its readiness before every call, as tower allows it.
#[derive(Debug, Default)]
struct Strict {
    ready: bool,
}

impl Clone for Strict {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Service<ForwardedPort> for Strict {
    type Response = ();
    type Error = Infallible;
    type Future = std::future::Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _port: ForwardedPort) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called before it was ready"
        );
        ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn every_port_is_called_when_its_service_is_ready() {
    let service = layer().layer(PortForwardLayer::new().layer(Strict::default()));
    let connect = Connect::to("/?ports=1,2,3").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    for index in 0..3 {
        assert_eq!(texts(&transcript, index), [""; 0]);
    }

    let (inner, mut handle) = tower_test::mock::pair::<ForwardedPort, ()>();
    handle.allow(1);
    let service = layer().layer(PortForwardLayer::new().layer(inner));
    let connect = Connect::to("/?ports=1,2,3").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    for index in 0..3 {
        let (port, end) = within(LONG, handle.next_request()).await.unwrap();
        assert_eq!((port.index, usize::from(port.port)), (index, index + 1));
        sleep(secs(5)).await;
        drop(port);
        end.send_response(());
        handle.allow(1);
    }
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn concurrency_limit_inside_counts_ports() {
    let now = Arc::new(Mutex::new((0, 0)));
    let counted = Arc::clone(&now);
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(PortForwardLayer::new())
        .concurrency_limit(2)
        .service_fn(move |_port: ForwardedPort| {
            let counted = Arc::clone(&counted);
            async move {
                {
                    let (now, most) = &mut *counted.lock().unwrap();
                    *now += 1;
                    *most = (*most).max(*now);
                }
                sleep(secs(10)).await;
                counted.lock().unwrap().0 -= 1;
                Ok::<_, BoxError>(())
            }
        });
    let start = Instant::now();
    let connect = Connect::to("/?ports=1,2,3,4,5").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1000));
    assert_eq!(*now.lock().unwrap(), (0, 2));
    assert_eq!(start.elapsed().as_secs(), 30, "two at a time");
}

#[tokio::test(start_paused = true)]
async fn load_shed_inside_tells_the_ports_it_has_no_place_for() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(PortForwardLayer::new())
        .load_shed()
        .concurrency_limit(1)
        .service_fn(echo);
    let connect = || Connect::to("/?ports=1,2").offer(V4);
    let mut client = within(LONG, connect().connect(service.clone()))
        .await
        .unwrap();
    // Every port of it: that can be said in time.
    let (status, _) = refused(connect().connect(service)).await;
    assert_eq!(status, 503);
    client.send(0, b"hello").await.unwrap();
    client.close(None).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(transcript.channel(0), b"\x01\x00hello");
    let shed = texts(&transcript, 1);
    assert_eq!(shed.len(), 1);
    assert!(shed[0].contains("as many ports as it can"), "{shed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_for_the_first_port_is_504() {
    let (inner, mut handle) = tower_test::mock::pair::<ForwardedPort, ()>();
    handle.allow(0);
    let service = layer().layer(PortForwardLayer::new().layer(inner));
    let (status, _) = refused(Connect::to("/?ports=1").connect(service)).await;
    assert_eq!(status, 504);
}

// Refusals.

fn no_pod() -> BoxError {
    Rejection::new(StatusCode::NOT_FOUND, "no such pod").into()
}

#[tokio::test(start_paused = true)]
async fn ports_that_all_refuse_at_once_are_an_answer() {
    let service = forward(async |mut port: ForwardedPort| {
        // Nothing of it is accepted before the upgrade is.
        let mut writing = pin!(port.stream.write_all(b"too soon"));
        let early = poll_fn(|cx| Poll::Ready(writing.as_mut().poll(cx).is_ready())).await;
        assert!(!early);
        Err(no_pod())
    });
    let (status, message) = refused(Connect::to("/?ports=1,2").connect(service)).await;
    assert_eq!((status, &*message), (404, "no such pod"));
}

#[tokio::test(start_paused = true)]
async fn one_that_refuses_among_others_is_told_by_its_text() {
    for others_fail in [false, true] {
        let service = forward(move |port: ForwardedPort| {
            ready(match port.index {
                1 => Err(no_pod()),
                _ if others_fail => Err("failed".into()),
                _ => Ok(()),
            })
        });
        let connect = Connect::to("/?ports=80,81").offer(V4);
        let client = within(LONG, connect.connect(service)).await.unwrap();
        let transcript = within(LONG, client.read_to_end()).await;
        let own = texts(&transcript, 1);
        assert_eq!(own, ["error forwarding port 81: no such pod"]);
        assert_eq!(texts(&transcript, 0).len(), usize::from(others_fail));
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn with_explicit_acceptance_ports_can_look_up_first() {
    let layer = || {
        layer().config(
            SessionConfig::default()
                .keep_alive(None)
                .accept(AcceptMode::Explicit),
        )
    };
    let service = forward_in(layer(), async |port: ForwardedPort| {
        sleep(secs(port.index as u64 + 1)).await;
        Err(no_pod())
    });
    let start = Instant::now();
    let (status, message) = refused(Connect::to("/?ports=1,2").connect(service)).await;
    assert_eq!((status, &*message), (404, "no such pod"));
    assert_eq!(start.elapsed().as_secs(), 2);

    // One that accepts does so for all; what failed before is told then.
    let service = forward_in(layer(), async |mut port: ForwardedPort| {
        match port.index {
            0 => return Err(no_pod()),
            1 => sleep(secs(2)).await,
            // From a task of its own, and without waiting.
            _ => {
                sleep(secs(3)).await;
                let session = port.session.clone();
                let accepting = tokio::spawn(async move { session.accept().await });
                drop(accepting);
            }
        }
        port.stream.write_all(b"hello").await?;
        Ok(())
    });
    let start = Instant::now();
    let connect = Connect::to("/?ports=80,81,82").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 3);
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(
        texts(&transcript, 0),
        ["error forwarding port 80: no such pod"]
    );
    for (channel, port) in [(2, 81_u16), (4, 82)] {
        let expected = [&greeting(port)[..], b"hello"].concat();
        assert_eq!(transcript.channel(channel), expected);
    }
    assert_eq!(transcript.close_code, Some(1000));

    // What is no refusal is none.
    let service = forward_in(layer(), async |_: ForwardedPort| Err("failed".into()));
    let connect = Connect::to("/?ports=80").offer(V4);
    let client = within(LONG, connect.connect(service)).await.unwrap();
    let transcript = within(LONG, client.read_to_end()).await;
    assert_eq!(texts(&transcript, 0), ["error forwarding port 80: failed"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_session_was_refused_says_so() {
    let (keep, kept) = oneshot::channel();
    let keep = Arc::new(Mutex::new(Some(keep)));
    let service = forward(move |port: ForwardedPort| {
        let keep = keep.lock().unwrap().take();
        if let Some(keep) = keep {
            let _ = keep.send(port.stream);
        }
        ready(Err(no_pod()))
    });
    let (status, _) = refused(Connect::to("/?ports=1").connect(service)).await;
    assert_eq!(status, 404);
    let error = kept.await.unwrap().write_all(b"late").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(EndCause::from_error(&error), Some(&EndCause::Aborted));
}

#[tokio::test(start_paused = true)]
async fn other_channels_than_those_of_the_ports_are_the_servers_mistake() {
    let protocols = tower_wsstream::ChannelProtocols::standard([
        tower_wsstream::ChannelType::ReadWrite,
        tower_wsstream::ChannelType::Write,
    ]);
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols.unwrap()))
        .layer(PortForwardLayer::new())
        .service_fn(echo);
    let connect = |query: &str| Connect::to(format!("/?{query}"));
    let (status, message) = refused(connect("ports=1,2").connect(service.clone())).await;
    assert_eq!(status, 500);
    assert!(message.contains("portforward::Protocols"), "{message}");
    let (status, _) = refused(connect("").connect(service)).await;
    assert_eq!(status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_ports_has_the_kind_of_a_bad_request() {
    let (head, ()) = http::Request::get("/?ports=0")
        .body(())
        .unwrap()
        .into_parts();
    let source: &dyn tower_wsstream::ProtocolSource = &Protocols::default();
    let rejection = source.protocols(&head).unwrap_err();
    assert_eq!(rejection.kind(), RejectionKind::BadRequest);
}
