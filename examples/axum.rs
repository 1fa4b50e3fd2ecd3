//! A server on axum: auth, traces and limits around sessions, and two routes with
//! different idle timeouts.
//!
//!     cargo run --example axum
//!
//! Then, in another terminal:
//!
//!     curl -i http://127.0.0.1:8004/healthz                  200: a plain route
//!     curl -i http://127.0.0.1:8004/echo                     401: no token
//!     curl -i -H 'Authorization: Bearer secret' http://127.0.0.1:8004/echo
//!                                                            426, and a Status that says why
//!     npx wscat -H 'Authorization: Bearer secret' -s base64.channel.k8s.io \
//!         -c ws://127.0.0.1:8004/echo
//!
//! Type `0aGVsbG8=` ("hello" on channel 0): `1aGVsbG8=` comes back. After 30 s without
//! a message the server closes with 1001, and at `/console` after an hour. `/greet/ana`
//! greets the name in its path. Ctrl-C ends the sessions, and then the server.

#[path = "support/serve.rs"]
mod serve;

use std::time::Duration;

use axum::{
    Router,
    extract::{FromRequestParts, Path, Request},
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use subtle::ConstantTimeEq;
use tokio::{io::AsyncWriteExt, net::TcpListener, signal::ctrl_c};
use tower::ServiceBuilder;
use tower_http::trace::TraceLayer;
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, ConfigError, Rejection, Sessions,
    WsStreamLayer,
    access::SessionRateLimitLayer,
    body::{NoBody, ResponseBody},
    policy::IdleTimeoutLayer,
};

/// The largest number of sessions at once.
const SESSIONS: usize = 64;
/// The largest number of sessions that may begin in a second.
const SESSIONS_A_SECOND: u64 = 20;

const IDLE: Duration = Duration::from_secs(30);
const CONSOLE_IDLE: Duration = Duration::from_secs(60 * 60);

/// The inner service: sends the data of channel 0 back on channel 1.
async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no readable channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no writable channel 1")?;
    tokio::io::copy_buf(&mut input, &mut output).await?;
    output.shutdown().await?;
    Ok(())
}

/// Another inner service: greets the name in the path of its request. axum's extractors
/// read the path from the head, which a service takes out of the channels.
async fn greet(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut head = channels.take_request().ok_or("the head was taken")?;
    let Path(name) = Path::<String>::from_request_parts(&mut head, &()).await?;
    let mut output = channels.take_writer(1).ok_or("no writable channel 1")?;
    output
        .write_all(format!("hello, {name}").as_bytes())
        .await?;
    Ok(())
}

/// Lets requests with the token through. Others never reach the upgrade.
async fn authorize(
    request: Request,
    next: Next,
) -> Result<Response, Response<ResponseBody<NoBody>>> {
    let token = request.headers().get(header::AUTHORIZATION);
    let token = token.map_or(&[][..], |token| token.as_bytes());
    match bool::from(token.ct_eq(b"Bearer secret")) {
        true => Ok(next.run(request).await),
        // The answer has `WWW-Authenticate: Bearer`, and a Status that says why.
        false => Err(Rejection::new(StatusCode::UNAUTHORIZED, "no token").into_response()),
    }
}

fn app(live: &Sessions) -> Result<Router, ConfigError> {
    let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
    let layer = WsStreamLayer::new(protocols)
        .idle_timeout(IDLE)
        .sessions(live.clone());
    let greetings = ServiceBuilder::new().layer(layer.clone()).service_fn(greet);
    let sessions = ServiceBuilder::new()
        .layer(layer)
        // From here on a request is a session. If there is no permit, the answer is 503.
        .load_shed()
        .layer(SessionRateLimitLayer::new(
            SESSIONS_A_SECOND,
            Duration::from_secs(1),
        ))
        .concurrency_limit(SESSIONS)
        .service_fn(echo);
    // The same service with the same permits, and a longer idle timeout.
    let console = ServiceBuilder::new()
        .layer(IdleTimeoutLayer::new(CONSOLE_IDLE))
        .service(sessions.clone());
    // The span contains only the path, because the query of an exec holds its command.
    let trace = TraceLayer::new_for_http().make_span_with(|request: &Request| {
        tracing::info_span!("request", method = %request.method(), path = request.uri().path())
    });
    Ok(Router::new()
        .route_service("/echo", sessions)
        .route_service("/console", console)
        .route_service("/greet/{name}", greetings)
        .route_layer(from_fn(authorize))
        .route("/healthz", get(async || "ok\n"))
        .layer(trace))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_env_filter("info,tower_http=debug,tower_wsstream=debug")
        .init();
    let listener = TcpListener::bind("127.0.0.1:8004").await?;
    println!("listening on ws://{}", listener.local_addr()?);
    // This has timeouts, HTTP/2 and a drain, unlike axum's own `serve`.
    let sessions = Sessions::default();
    serve::serve(listener, app(&sessions)?, sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use tokio::time::{Instant, timeout};
    use tower_wsstream::testing::{Connect, Received, Refused};

    use super::*;

    fn with_token(path: &str) -> Connect {
        Connect::to(path).header(header::AUTHORIZATION, "Bearer secret")
    }

    #[tokio::test(start_paused = true)]
    async fn two_routes_are_idle_for_their_own_times() -> Result<(), BoxError> {
        let app = app(&Sessions::default())?;
        for (path, idle) in [("/echo", IDLE), ("/console", CONSOLE_IDLE)] {
            let mut client = with_token(path).connect(app.clone()).await?;
            client.send(0, b"hello").await?;
            let echo = client.receive().await;
            assert_eq!(echo, Received::Message(1, "hello".into()));
            let start = Instant::now();
            let end = timeout(2 * CONSOLE_IDLE, client.receive()).await?;
            assert_eq!(
                end,
                Received::Closed {
                    code: Some(1001),
                    reason: "idle timeout".into()
                },
                "{path}"
            );
            assert_eq!(start.elapsed().as_secs(), idle.as_secs(), "{path}");
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn the_path_has_the_name_to_greet() -> Result<(), BoxError> {
        let app = app(&Sessions::default())?;
        for (path, greeting) in [("ana", "hello, ana"), ("a%2Fb%20c", "hello, a/b c")] {
            let client = with_token(&format!("/greet/{path}")).connect(app.clone());
            let told = client.await?.read_to_end().await;
            assert_eq!(told.channel(1), greeting.as_bytes());
            assert_eq!(told.close_code, Some(1000));
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_the_token_is_refused() -> Result<(), BoxError> {
        for connect in [
            Connect::to("/echo"),
            Connect::to("/console").header(header::AUTHORIZATION, "Bearer other"),
        ] {
            let error = connect
                .connect(app(&Sessions::default())?)
                .await
                .unwrap_err();
            let refused = error.downcast_ref::<Refused>().ok_or("no answer")?;
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(refused.headers()[header::WWW_AUTHENTICATE], "Bearer");
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn all_routes_share_their_permits() -> Result<(), BoxError> {
        let app = app(&Sessions::default())?;
        let mut open = Vec::new();
        for n in 0..SESSIONS {
            // This is slower than the rate.
            tokio::time::advance(Duration::from_millis(100)).await;
            let path = ["/echo", "/console"][n % 2];
            open.push(with_token(path).connect(app.clone()).await?);
        }
        let error = with_token("/echo").connect(app).await.unwrap_err();
        let refused = error.downcast_ref::<Refused>().ok_or("no answer")?;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        Ok(())
    }
}
