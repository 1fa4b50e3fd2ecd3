//! The extractor for axum's handlers: one session out of one upgrade, under the rules of a
//! service, over each transport.

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use http_body_util::BodyExt;
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, EndCause, Rejection, SessionConfig, Sessions, WsStreamLayer,
    axum08::WsStreamUpgrade,
    subprotocols,
    testing::{Connect, Refused},
};

use crate::support::{
    self, AFTERWARDS, End, Head, LONG, config, echo, hears_its_echo, hold, http2, layer, protocols,
    read_out, refused_by, session, soon, tasks,
};

/// Both transports, as each test is run over.
fn transports(path: &str) -> [Connect; 2] {
    support::transports(path).map(|connect| connect.offer(subprotocols::V5))
}

fn message(refused: &Refused) -> String {
    let status = refused.refusal().expect("a Status");
    status.message().unwrap_or_default().to_owned()
}

/// A route whose sessions are those of a function, in a layer.
fn route<F, Fut>(layer: WsStreamLayer, session: F) -> Router
where
    F: Fn(ChannelSet) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let handler = async move |State(layer): State<WsStreamLayer>, upgrade: WsStreamUpgrade| {
        upgrade.layer(&layer).on_upgrade(session).await
    };
    Router::new().route("/", any(handler)).with_state(layer)
}

// Sessions.

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

        // Its other settings hold as well.
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

// Refusals.

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

// What the compiler finds out, and a handler of a gateway.

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

/// A table that is looked up is the layer's also where a handler accepts.
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

// Explicit acceptance.

#[tokio::test(start_paused = true)]
async fn an_explicit_acceptance_is_waited_for() {
    const LOOK_UP: Duration = Duration::from_secs(2);
    let app = route(
        layer().config(config().accept(AcceptMode::Explicit)),
        async |mut channels: ChannelSet| {
            sleep(LOOK_UP).await;
            let request = channels.take_request().ok_or("no head")?;
            if request.uri.query() == Some("nobody") {
                return Err(Rejection::new(StatusCode::NOT_FOUND, "nobody is here").into());
            }
            drop(request);
            channels.session().accept().await;
            echo(channels).await
        },
    );
    for connect in transports("/") {
        let start = Instant::now();
        let mut client = soon(connect.connect(app.clone())).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), LOOK_UP.as_secs());
        hears_its_echo(&mut client).await;
    }
    for connect in transports("/?nobody") {
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::NOT_FOUND);
        assert_eq!(message(&refused), "nobody is here");
    }
}

#[tokio::test(start_paused = true)]
async fn an_acceptance_that_does_not_come_is_named() {
    let app = route(
        layer().config(config().accept(AcceptMode::Explicit)),
        async |channels: ChannelSet| {
            let _channels = channels;
            pending::<Result<(), BoxError>>().await
        },
    );
    for connect in transports("/") {
        let refused = refused_by(connect, app.clone()).await;
        assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
        let message = message(&refused);
        assert!(message.contains("Session::accept"), "{message}");
    }
}

// A handler that is dropped.

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
        // In the middle: called, and not accepted.
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

/// A glob of this crate must not hide the crate that it is used with.
mod globs {
    #[allow(unused_imports, reason = "what it brings is not the question")]
    use tower_wsstream::*;

    #[allow(dead_code, reason = "that it compiles is the test")]
    fn names_axum() -> axum::Router {
        axum::Router::new()
    }
}

/// A service has no extractors, and the head of its request.
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
