//! Refusals, by the extractor and by a handler.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_no_upgrade_never_comes_to_the_handler() {
    let calls = Arc::new(AtomicUsize::new(0));
    let called = Arc::clone(&calls);
    let app = Router::new().route(
        "/",
        any(async move |_upgrade: WsStreamUpgrade| {
            called.fetch_add(1, Ordering::Relaxed);
        }),
    );

    let (request, _wire) = hold(&Head::plain("/")).await;
    let answer = app.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    assert_eq!(answer.headers()[header::UPGRADE], "websocket");
    assert_eq!(answer.headers()[header::SEC_WEBSOCKET_VERSION], "13");
    let rejection = answer
        .extensions()
        .get::<Rejection>()
        .expect("left for layers");
    let expected = rejection.to_status().to_response_json();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, expected);

    let (mut connection, _wire) = http2::connect(app).await;
    let plain = connection.get("/").await;
    assert_eq!(plain.status, StatusCode::BAD_REQUEST);
    assert!(!plain.headers.contains_key(header::UPGRADE));
    assert!(plain.body.contains("\"code\":400"), "{}", plain.body);
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_names_no_subprotocols_is_told_so() {
    let handler = async |upgrade: WsStreamUpgrade| upgrade.on_upgrade(echo).await;
    let app = Router::new().route("/", any(handler));
    for connect in transports("/") {
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let message = message(&refused);
        assert!(message.contains("WsStreamUpgrade::protocols"), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_subprotocol_that_is_not_spoken_is_refused() {
    let app = route(layer(), echo);
    for connect in [Connect::to("/"), Connect::to("/").http2()] {
        let refused = refused_by(connect.offer("chat"), app.clone()).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_at_once_is_an_answer_and_no_session() {
    type Failure = fn() -> BoxError;
    let cases: [(Failure, u16, &str); 3] = [
        (
            || Rejection::new(StatusCode::NOT_FOUND, "no such room").into(),
            404,
            "no such room",
        ),
        (|| "password=hunter2".into(), 500, ""),
        (|| panic!("at once"), 500, ""),
    ];
    for (fails, code, said) in cases {
        let sessions = Sessions::default();
        let app = route(
            layer().sessions(sessions.clone()),
            move |_: ChannelSet| async move { Err::<(), _>(fails()) },
        );
        for connect in transports("/") {
            let refused = refused_by(connect, app.clone()).await;
            assert_eq!(refused.status(), code);
            let message = message(&refused);
            assert!(
                message.contains(said) && !message.contains("hunter2"),
                "{message}"
            );
            assert!(sessions.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_fails_later_is_a_close() {
    let app = route(layer(), async |_: ChannelSet| {
        tokio::task::yield_now().await;
        Err::<(), BoxError>("too late".into())
    });
    for connect in transports("/") {
        let client = soon(connect.connect(app.clone())).await.unwrap();
        assert_eq!(soon(client.read_to_end()).await.close_code, Some(1011));
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_is_let_go_is_not_made() {
    let handler = async |upgrade: WsStreamUpgrade| {
        let known = upgrade
            .request()
            .headers
            .contains_key(header::AUTHORIZATION);
        match known {
            true => upgrade.layer(&layer()).on_upgrade(echo).await,
            false => StatusCode::UNAUTHORIZED.into_response(),
        }
    };
    let app = Router::new().route("/", any(handler));
    for connect in transports("/") {
        let stranger = refused_by(connect.clone(), app.clone()).await;
        assert_eq!(stranger.status(), StatusCode::UNAUTHORIZED);
        let known = connect.header(header::AUTHORIZATION, "Bearer x");
        let mut client = soon(known.connect(app.clone())).await.unwrap();
        hears_its_echo(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_one_handlers() {
    let handler = async |first: WsStreamUpgrade, second: Result<WsStreamUpgrade, Rejection>| {
        drop(first);
        let second = second.expect("the request still asks for one");
        second.layer(&layer()).on_upgrade(echo).await
    };
    let app = Router::new().route(
        "/",
        any(async move |request: axum::extract::Request| -> Response {
            use axum::extract::FromRequestParts;
            let (mut parts, _) = request.into_parts();
            let first = WsStreamUpgrade::from_request_parts(&mut parts, &()).await;
            let second = WsStreamUpgrade::from_request_parts(&mut parts, &()).await;
            handler(first.expect("an upgrade"), second).await
        }),
    );
    for connect in transports("/") {
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}

#[tokio::test(start_paused = true)]
async fn debug_shows_no_credentials() {
    let handler = async |upgrade: WsStreamUpgrade| format!("{upgrade:?}");
    let app = Router::new().route("/", any(handler));
    let head = Head::to("/?token=hunter2")
        .with("Authorization", "Bearer hunter2")
        .offer("hunter2");
    let (request, _wire) = hold(&head).await;
    let answer = app.oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let shown = String::from_utf8_lossy(&body);
    assert!(shown.contains("WsStreamUpgrade"), "{shown}");
    assert!(!shown.contains("hunter2"), "{shown}");
}
