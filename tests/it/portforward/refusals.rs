//! Ports that refuse before the answer.

use super::*;

fn no_pod() -> BoxError {
    Rejection::new(StatusCode::NOT_FOUND, "no such pod").into()
}

#[tokio::test(start_paused = true)]
async fn ports_that_all_refuse_at_once_are_an_answer() {
    let service = forward(async |mut port: ForwardedPort| {
        // Nothing is accepted before the upgrade is.
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

    // A port that accepts does so for all. Earlier failures are then reported.
    let service = forward_in(layer(), async |mut port: ForwardedPort| {
        match port.index {
            0 => return Err(no_pod()),
            1 => sleep(secs(2)).await,
            // From another task, and without waiting.
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

    // An error that is not a rejection does not refuse.
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
