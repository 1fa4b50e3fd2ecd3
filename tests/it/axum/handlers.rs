//! The forms of a handler, and handlers that are dropped.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_closure_needs_no_types() {
    let app = route(layer(), async |_| Ok(()));
    for connect in transports("/") {
        let client = soon(connect.connect(app.clone())).await.unwrap();
        assert_eq!(soon(client.read_to_end()).await.close_code, Some(1000));
    }
    let layer = WsStreamLayer::from_fn(|head| match head.uri.path() {
        "/" => Ok(protocols()),
        path => Err(Rejection::new(StatusCode::NOT_FOUND, path)),
    });
    let layer = layer.config(SessionConfig::default().map_rejection(Rejection::from_error));
    let app = route(layer, async |_| {
        Err(Rejection::new(StatusCode::GONE, "gone").into())
    });
    for connect in transports("/") {
        assert_eq!(
            refused_by(connect, app.clone()).await.status(),
            StatusCode::GONE
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_is_shown_but_for_credentials() {
    let handler = async |upgrade: WsStreamUpgrade| {
        let offered: Vec<_> = upgrade.offered().collect();
        offered.join(" ")
    };
    let app = Router::new().route("/", any(handler));
    let head = Head::to("/")
        .offer("v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.aHVudGVyMg")
        .offer("Base64URL.Bearer.Authorization.k8s.io.aHVudGVyMg,, \t,own");
    let (request, _wire) = hold(&head).await;
    let answer = app.oneshot(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(&body[..], b"v5.channel.k8s.io own");
}

/// A handler that accepts uses the table that the layer looks up.
#[tokio::test(start_paused = true)]
async fn a_layer_that_looks_up_does_so_for_a_handler() {
    let layer = WsStreamLayer::from_async_fn(|_| async {
        sleep(Duration::from_secs(1)).await;
        Ok(protocols())
    });
    let app = route(layer, echo);
    for connect in transports("/") {
        let mut client = soon(connect.connect(app.clone())).await.unwrap();
        hears_its_echo(&mut client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_configuration_needs_no_layer_and_its_clones_share_their_sessions() {
    let config = config()
        .accept(AcceptMode::Explicit)
        .accept_timeout(Duration::from_secs(3));
    let sessions = Sessions::default();
    let config = config.sessions(sessions.clone());
    let handler = async move |State(config): State<SessionConfig>, upgrade: WsStreamUpgrade| {
        let query = upgrade.request().uri.query() == Some("accept");
        let upgrade = upgrade.protocols(protocols()).config(config);
        upgrade
            .on_upgrade(async move |channels: ChannelSet| {
                if query {
                    channels.session().accept().await;
                }
                echo(channels).await
            })
            .await
    };
    let app = Router::new().route("/", any(handler)).with_state(config);
    let mut clients = Vec::new();
    for connect in transports("/?accept") {
        let mut client = soon(connect.connect(app.clone())).await.unwrap();
        hears_its_echo(&mut client).await;
        clients.push(client);
        assert_eq!(sessions.len(), clients.len());
    }
    for connect in transports("/") {
        let start = Instant::now();
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(start.elapsed().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_dropped_leaves_nothing_behind() {
    for connect in transports("/") {
        let before = tasks();
        let sessions = Sessions::default();
        let layer = layer().config(
            config()
                .sessions(sessions.clone())
                .accept(AcceptMode::Explicit)
                .accept_timeout(LONG),
        );
        let (tell, mut told) = mpsc::unbounded_channel();
        let app = route(layer, move |channels: ChannelSet| {
            let tell = tell.clone();
            async move {
                tell.send(channels.session().clone())?;
                let _held = (channels, tell);
                pending::<Result<(), BoxError>>().await
            }
        });
        // Midway: the service was called, and has not accepted.
        let given_up = timeout(Duration::from_secs(1), connect.connect(app)).await;
        assert!(given_up.is_err());
        let session = soon(told.recv()).await.expect("the function was called");
        assert_eq!(soon(session.ended()).await, EndCause::Aborted);
        assert!(soon(told.recv()).await.is_none(), "its future is dropped");
        assert!(sessions.is_empty());
        sleep(AFTERWARDS).await;
        assert_eq!(tasks(), before);
    }
}

/// A glob import of this crate must not hide the crate `axum`.
mod globs {
    #[allow(unused_imports, reason = "what it brings is not the question")]
    use tower_wsstream::*;

    #[allow(dead_code, reason = "that it compiles is the test")]
    fn names_axum() -> axum::Router {
        axum::Router::new()
    }
}

/// A service has no extractors, but it has the head of its request.
#[tokio::test(start_paused = true)]
async fn a_service_reads_the_parameters_of_its_path() {
    use axum::extract::{FromRequestParts, RawPathParams};

    async fn greet(mut channels: ChannelSet) -> Result<(), BoxError> {
        let mut head = channels.take_request().ok_or("no head")?;
        let Path((room, name)) = Path::<(u64, String)>::from_request_parts(&mut head, &()).await?;
        let raw = RawPathParams::from_request_parts(&mut head, &()).await?;
        let raw: Vec<_> = raw
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let mut out = channels.take_writer(1).ok_or("no channel 1")?;
        out.write_all(format!("{room} {name} {}", raw.join(" ")).as_bytes())
            .await?;
        Ok(())
    }
    let app = Router::new().nest(
        "/rooms/{room}",
        Router::new().route_service("/{name}", session(greet)),
    );
    for connect in transports("/rooms/7/an%20a?room=8") {
        let client = soon(connect.connect(app.clone())).await.unwrap();
        let told = soon(client.read_to_end()).await.channel(1);
        assert_eq!(String::from_utf8(told).unwrap(), "7 an a room=7 name=an a");
    }
    for connect in transports("/rooms/x/ana") {
        let error = soon(connect.connect(app.clone())).await.unwrap_err();
        let refused = error.downcast::<Refused>().unwrap();
        assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
}
