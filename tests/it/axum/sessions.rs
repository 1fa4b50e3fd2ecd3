//! Sessions of handlers.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_handler_has_its_other_extractors_beside_the_channels() {
    async fn greet(
        Path(name): Path<String>,
        State(greeting): State<&'static str>,
        headers: HeaderMap,
        upgrade: WsStreamUpgrade,
    ) -> Response {
        let language = headers[header::ACCEPT_LANGUAGE]
            .to_str()
            .unwrap()
            .to_owned();
        upgrade
            .protocols(protocols())
            .on_upgrade(async move |mut channels: ChannelSet| {
                assert_eq!(channels.subprotocol(), subprotocols::V5);
                let request = channels.request().ok_or("no head")?;
                assert_eq!(request.uri.path(), "/greet/alice");
                let mut out = channels.take_writer(1).ok_or("no channel 1")?;
                let text = format!("{greeting}, {name} ({language})");
                out.write_all(text.as_bytes()).await?;
                Ok::<_, BoxError>(())
            })
            .await
    }
    let app = Router::new()
        .route("/greet/{name}", any(greet))
        .with_state("good morning");
    for connect in transports("/greet/alice") {
        let connect = connect.header(header::ACCEPT_LANGUAGE, "en");
        let client = soon(connect.connect(app.clone())).await.unwrap();
        assert_eq!(client.subprotocol(), subprotocols::V5);
        let transcript = soon(client.read_to_end()).await;
        assert_eq!(transcript.channel(1), b"good morning, alice (en)");
        assert_eq!(transcript.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_outlives_its_handler_and_hears_its_client() {
    let app = route(layer(), echo);
    for connect in transports("/") {
        let mut client = soon(connect.connect(app.clone())).await.unwrap();
        hears_its_echo(&mut client).await;
        client.stall(LONG).await;
        hears_its_echo(&mut client).await;
        client.close_channel(0).await.unwrap();
        assert_eq!(soon(client.read_to_end()).await.close_code, Some(1000));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_client_is_no_end_of_input() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let app = route(layer(), move |mut channels: ChannelSet| {
        let tell = tell.clone();
        async move {
            let mut input = channels.take_reader(0).ok_or("no channel 0")?;
            tell.send(read_out(&mut input).await)?;
            Ok::<_, BoxError>(())
        }
    });
    for connect in transports("/") {
        let client = soon(connect.connect(app.clone())).await.unwrap();
        client.cut_off(0, b"half").await.unwrap();
        let (bytes, end) = soon(told.recv()).await.unwrap();
        assert_eq!(bytes, b"half", "{end:?}");
        let End::Error(kind, cause) = end else {
            panic!("an upload that was cut off looks complete");
        };
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        assert!(matches!(cause, EndCause::ConnectionLost { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_those_of_the_layer() {
    const IDLE: Duration = Duration::from_secs(600);
    for connect in transports("/") {
        let sessions = Sessions::default();
        let layer = layer().sessions(sessions.clone()).idle_timeout(IDLE);
        let app = route(layer, echo);
        let mut first = soon(connect.clone().connect(app.clone())).await.unwrap();
        let second = soon(connect.clone().connect(app.clone())).await.unwrap();
        assert_eq!(sessions.len(), 2);
        assert_eq!(&*sessions.list()[0].subprotocol, subprotocols::V5);

        second.lose();
        hears_its_echo(&mut first).await;
        sleep(AFTERWARDS).await;
        assert_eq!(sessions.len(), 1);

        // Other settings apply as well.
        let start = Instant::now();
        let transcript = soon(first.read_to_end()).await;
        assert_eq!(transcript.close_code, Some(1001));
        assert!(start.elapsed() < IDLE + AFTERWARDS);
        sleep(AFTERWARDS).await;
        assert!(sessions.is_empty());

        sessions.close();
        let draining = refused_by(connect, app.clone()).await;
        assert_eq!(draining.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(draining.headers().contains_key(header::RETRY_AFTER));
    }
}
