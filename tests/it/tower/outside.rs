//! tower-http's layers in front of the upgrade, whose work ends at the 101.

use std::sync::{Arc, Mutex};

use http::{HeaderMap, header};
use http_body::Body;
use tower_http::{
    classify::ServerErrorsFailureClass,
    compression::CompressionLayer,
    limit::RequestBodyLimitLayer,
    sensitive_headers::{SetSensitiveHeadersLayer, SetSensitiveRequestHeadersLayer},
    timeout::{ResponseBodyTimeoutLayer, TimeoutLayer},
    trace::TraceLayer,
    validate_request::ValidateRequestHeaderLayer,
};

use super::*;

const TIMEOUT: Duration = Duration::from_secs(5);

/// All of them. The body of `TraceLayer` does not implement `Default`, which `TimeoutLayer` and
/// `ValidateRequestHeaderLayer` require of their inner service.
macro_rules! stack {
    ($inner:expr) => {
        ServiceBuilder::new()
            .layer(SetSensitiveHeadersLayer::new([header::AUTHORIZATION]))
            .layer(CompressionLayer::new())
            .layer(TraceLayer::new_for_http())
            .layer(RequestBodyLimitLayer::new(1024))
            .layer(TimeoutLayer::with_status_code(
                StatusCode::REQUEST_TIMEOUT,
                TIMEOUT,
            ))
            .layer(ValidateRequestHeaderLayer::custom(check_token))
            .layer(standard())
            .service($inner)
    };
}

fn check_token<B, A: Default>(request: &mut http::Request<B>) -> Result<(), http::Response<A>> {
    let token = request.headers().get(header::AUTHORIZATION);
    if token.is_some_and(|token| token == "Bearer secret") {
        return Ok(());
    }
    let mut answer = http::Response::new(A::default());
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    Err(answer)
}

fn with_token() -> Connect {
    Connect::to("/")
        .header(header::AUTHORIZATION, "Bearer secret")
        .header(header::ACCEPT_ENCODING, "gzip")
}

fn head_with_token(head: Head) -> Head {
    head.with("Authorization", "Bearer secret")
        .with("Accept-Encoding", "gzip")
}

#[tokio::test(start_paused = true)]
async fn a_session_works_under_all_of_them_and_outlives_their_timeout() {
    let service = stack!(service_fn(echo));
    let mut client = soon(with_token().connect(service)).await.unwrap();
    for _ in 0..10 {
        hears_its_echo(&mut client).await;
        sleep(TIMEOUT).await;
    }
    hears_its_echo(&mut client).await;
    finish(client).await;
}

#[tokio::test(start_paused = true)]
async fn the_101_passes_them_unchanged() {
    let mut client = serve_in_memory(stack!(service_fn(never)));
    let head = head_with_token(Head::to("/"));
    client.write_all(&head.bytes()).await.unwrap();
    let answer = read_head(&mut client).await;
    let mut lines: Vec<_> = answer.trim_end().lines().collect();
    lines.retain(|line| !line.starts_with("date: "));
    lines[1..].sort_unstable();
    let accept = format!("sec-websocket-accept: {}", ACCEPT);
    assert_eq!(
        lines,
        [
            "HTTP/1.1 101 Switching Protocols",
            "connection: Upgrade",
            &accept,
            "upgrade: websocket"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_body_of_the_101_keeps_its_size_through_all_of_them() {
    let (request, _wire) = hold(&head_with_token(Head::to("/"))).await;
    let response = stack!(service_fn(never)).oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.body().size_hint().exact(), Some(0));
    assert!(response.body().is_end_stream());
}

/// Proves that compression is at work, so the tests above can fail.
#[tokio::test(start_paused = true)]
async fn a_refusal_passes_them_and_is_compressed() {
    let service = stack!(service_fn(never));
    let head = head_with_token(Head::to("/")).offer("unknown");
    let (request, _wire) = hold(&head).await;
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
    let rejection = response.extensions().get::<tower_wsstream::Rejection>();
    assert_eq!(
        rejection.unwrap().kind(),
        tower_wsstream::RejectionKind::NoCommonSubprotocol
    );
}

/// A layer that wraps the body of the 101 and does not pass its size on makes it look like a
/// stream.
#[tokio::test(start_paused = true)]
async fn a_layer_that_wraps_bodies_belongs_outside_of_compression() {
    let head = Head::to("/").with("Accept-Encoding", "gzip");
    let wrap = || ResponseBodyTimeoutLayer::new(TIMEOUT);
    let (request, _wire) = hold(&head).await;
    let outside = ServiceBuilder::new()
        .layer(wrap())
        .layer(CompressionLayer::new())
        .layer(standard())
        .service(service_fn(never));
    let response = outside.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));

    let inside = ServiceBuilder::new()
        .layer(CompressionLayer::new())
        .layer(wrap())
        .layer(standard())
        .service(service_fn(echo));
    let (request, _wire) = hold(&head).await;
    let response = inside.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
    // Clients that ignore it still get their session.
    let connect = Connect::to("/").header(header::ACCEPT_ENCODING, "gzip");
    let mut client = soon(connect.connect(inside)).await.unwrap();
    hears_its_echo(&mut client).await;

    // Another solution: no compression for answers without a body.
    let picky = CompressionLayer::new().compress_when(
        |status: StatusCode, _: http::Version, _: &HeaderMap, _: &http::Extensions| {
            status != StatusCode::SWITCHING_PROTOCOLS
        },
    );
    let service = ServiceBuilder::new()
        .layer(picky)
        .layer(wrap())
        .layer(standard())
        .service(service_fn(never));
    let (request, _wire) = hold(&head).await;
    let response = service.oneshot(request).await.unwrap();
    assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_token_is_refused_before_the_service_is_asked() {
    let (inner, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    let service = stack!(inner);
    for connect in [
        Connect::to("/"),
        Connect::to("/").header(header::AUTHORIZATION, "Bearer other"),
    ] {
        let refused = refused_by(connect, service.clone()).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    }
    tokio_test::assert_pending!(tokio_test::task::spawn(handle.next_request()).poll());
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_waits_ends_with_the_outer_timeout() {
    let (inner, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.allow(0);
    let service = stack!(inner);
    let start = Instant::now();
    let refused = refused_by(with_token(), service.clone()).await;
    assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);
    assert_after(start, TIMEOUT);
    // Nothing of it is left: the next request gets the place.
    handle.allow(1);
    let _client = soon(with_token().connect(service)).await.unwrap();
    soon(handle.next_request()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn sensitive_headers_stay_sensitive_inside() {
    let (heads, head) = std::sync::mpsc::channel::<HeaderMap>();
    let service = ServiceBuilder::new()
        .layer(SetSensitiveRequestHeadersLayer::new([
            header::AUTHORIZATION,
            header::SEC_WEBSOCKET_PROTOCOL,
        ]))
        .layer(standard())
        .service_fn(move |set: ChannelSet| {
            let _ = heads.send(set.request().unwrap().headers.clone());
            echo(set)
        });
    let mut client = with_token()
        .offer("base64url.bearer.authorization.k8s.io.c2VjcmV0")
        .offer("channel.k8s.io")
        .connect(service)
        .await
        .unwrap();
    assert_eq!(client.subprotocol(), "channel.k8s.io");
    hears_its_echo(&mut client).await;
    let headers = head.try_recv().unwrap();
    for name in [header::AUTHORIZATION, header::SEC_WEBSOCKET_PROTOCOL] {
        assert!(headers[&name].is_sensitive(), "{name}");
        assert_eq!(format!("{:?}", headers[&name]), "Sensitive");
    }
}

#[tokio::test(start_paused = true)]
async fn trace_sees_the_answer_and_counts_only_our_own_failures() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let (responses, failures) = (Arc::clone(&events), Arc::clone(&events));
    let service = ServiceBuilder::new()
        .layer(
            TraceLayer::new_for_http()
                .on_response(
                    move |response: &http::Response<_>, _: Duration, _: &tracing::Span| {
                        let status = response.status().as_u16();
                        responses.lock().unwrap().push(format!("answer {status}"));
                    },
                )
                .on_failure(
                    move |class: ServerErrorsFailureClass, _: Duration, _: &tracing::Span| {
                        failures.lock().unwrap().push(format!("failure {class}"));
                    },
                ),
        )
        .layer(standard())
        .load_shed()
        .concurrency_limit(1)
        .service_fn(echo);
    let mut client = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    refused_by(Connect::to("/").offer("unknown"), service.clone()).await;
    refused_by(Connect::to("/"), service).await;
    hears_its_echo(&mut client).await;
    finish(client).await;
    assert_eq!(
        *events.lock().unwrap(),
        [
            "answer 101",
            "answer 403",
            "answer 503",
            "failure Status code: 503 Service Unavailable"
        ]
    );
}

/// Compression answers 406 to a client that takes no encoding at all, although the service behind
/// it was accepted.
#[tokio::test(start_paused = true)]
async fn a_101_that_an_outer_layer_replaces_ends_its_session_at_once() {
    let (ends, mut end) = tokio::sync::mpsc::unbounded_channel();
    let service = ServiceBuilder::new()
        .layer(CompressionLayer::new())
        .layer(standard())
        .service_fn(move |set: ChannelSet| {
            let ends = ends.clone();
            async move {
                let cause = set.session().ended().await;
                let _ = ends.send((cause, Instant::now()));
                Ok::<_, BoxError>(())
            }
        });
    let connect = Connect::to("/").header(header::ACCEPT_ENCODING, "gzip;q=0, identity;q=0");
    let start = Instant::now();
    let refused = refused_by(connect, service).await;
    assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE);
    let (cause, at) = soon(end.recv()).await.unwrap();
    assert!(
        matches!(cause, tower_wsstream::EndCause::UpgradeFailed { .. }),
        "{cause}"
    );
    assert_eq!(at, start);
}
