//! The layer around a service.

use super::*;

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

/// A body without data never accepts explicitly, and so would never be answered.
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

/// Reads a text ten bytes at a time, and then fails or ends.
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
