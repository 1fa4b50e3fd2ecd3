//! Waits, in paused time.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_client_that_stalls_makes_the_service_wait_and_loses_nothing() {
    const MUCH: usize = 4 << 20;
    for connect in transports("/") {
        let (tell, mut told) = oneshot::channel();
        let service = once(move |mut channels: ChannelSet| async move {
            let mut output = channels.take_writer(1).ok_or("no channel 1")?;
            output.write_all(&vec![7; MUCH]).await?;
            let _ = tell.send(());
            Ok(())
        });
        let connect = connect.offer(subprotocols::V4).buffer(10_000);
        let mut client = soon(connect.connect(service)).await.unwrap();
        let start = Instant::now();
        client.stall(Duration::from_secs(60)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
        assert!(told.try_recv().is_err(), "it cannot be done");
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.channel(1).len(), MUCH);
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn hours_are_over_at_once_and_exactly() {
    const IDLE: Duration = Duration::from_secs(4 * 60 * 60);
    for connect in transports("/") {
        let service = layer().idle_timeout(IDLE).layer(service_fn(echo));
        let connect = connect.offer(subprotocols::V5);
        let mut client = connect.connect(service).await.unwrap();
        client.send(0, b"hello").await.unwrap();
        client.receive().await;
        let start = Instant::now();
        let transcript = timeout(2 * IDLE, client.read_to_end()).await.unwrap();
        assert_eq!(transcript.close_code, Some(1001));
        let late = start.elapsed() - IDLE;
        assert!(late < Duration::from_secs(2), "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_upgrade_is_told_as_each_transport_can() {
    // A route that hides the upgrade, as a layer that rebuilds requests may.
    for (connect, code) in transports("/").into_iter().zip([426, 400]) {
        let session = session(echo);
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let version = request.version();
            let mut plain = http::Request::new(request.into_body());
            *plain.version_mut() = version;
            session.clone().oneshot(plain)
        });
        let error = soon(connect.connect(service)).await.unwrap_err();
        let refused = error.downcast::<Refused>().expect("an answer");
        assert_eq!(refused.status(), code);
    }
}

/// Pings keep the clock moving. Without a bound in the client, the test would spin for ever.
#[tokio::test(start_paused = true)]
async fn a_wait_for_what_never_comes_ends() {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    // The service reads nothing, and never ends.
    let service = WsStreamLayer::new(protocols())
        .limits(Limits::default().stall_reserve(0))
        .layer(service_fn(async |channels: ChannelSet| {
            let _channels = channels;
            pending::<Result<(), BoxError>>().await
        }));
    let assert_over = |start: Instant, limit: Duration, text: String| {
        assert_eq!(start.elapsed().as_secs(), limit.as_secs(), "{text}");
        assert!(text.contains("testing::Connect::call_timeout"), "{text}");
    };
    for connect in transports("/") {
        let mut client = soon(connect.connect(service.clone())).await.unwrap();
        let start = Instant::now();
        let receiving = tokio::spawn(async move { client.receive().await });
        let panic = timeout(2 * DAY, receiving).await.unwrap().unwrap_err();
        assert_over(start, DAY, panic.to_string());
    }

    const MINUTE: Duration = Duration::from_secs(60);
    for connect in transports("/") {
        let connect = connect.buffer(1000).call_timeout(MINUTE);
        let client = async || {
            soon(connect.clone().connect(service.clone()))
                .await
                .unwrap()
        };

        let reading = client().await.read_to_end();
        let start = Instant::now();
        let reading = timeout(DAY, tokio::spawn(reading)).await.unwrap();
        assert_over(start, MINUTE, reading.unwrap_err().to_string());

        let mut full = client().await;
        let flood = vec![7; 1 << 20];
        // Over HTTP/2, a few writes of any size have room.
        let (start, error) = loop {
            let start = Instant::now();
            let sent = timeout(DAY, full.send(0, &flood)).await.unwrap();
            if let Err(error) = sent {
                break (start, error);
            }
        };
        assert_over(start, MINUTE, error.to_string());

        // The handshake is not answered either.
        let silent = service_fn(|_: http::Request<hyper::body::Incoming>| {
            pending::<Result<http::Response<axum::body::Body>, BoxError>>()
        });
        let start = Instant::now();
        let answer = timeout(DAY, connect.connect(silent)).await.unwrap();
        assert_over(start, MINUTE, answer.unwrap_err().to_string());
    }

    let connect = Connect::to("/").buffer(1000).call_timeout(MINUTE);
    let client = soon(connect.connect(service)).await.unwrap();
    let start = Instant::now();
    let cut = timeout(DAY, client.cut_off(0, &[7; 1 << 20])).await;
    assert_over(start, MINUTE, cut.unwrap().unwrap_err().to_string());
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_days_can_be_asked_for() {
    const DAYS: Duration = Duration::from_secs(3 * 24 * 60 * 60);
    for connect in transports("/") {
        let service = WsStreamLayer::new(protocols())
            .idle_timeout(DAYS)
            .layer(service_fn(echo));
        let connect = connect.call_timeout(None);
        let mut client = connect.connect(service).await.unwrap();
        assert_eq!(
            client.receive().await,
            Received::Closed {
                code: Some(1001),
                reason: "idle timeout".into()
            }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_channel_is_refused_where_there_is_none() {
    for offer in ALL {
        let service = layer().layer(service_fn(echo));
        let connect = match offer {
            "" => Connect::to("/"),
            offer => Connect::to("/").offer(offer),
        };
        let client = connect.connect(service).await;
        let closed = client.unwrap().close_channel(0).await;
        assert_eq!(
            closed.is_ok(),
            offer == subprotocols::V5,
            "{offer}: {closed:?}"
        );
    }
}
