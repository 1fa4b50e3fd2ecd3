//! A browser's token: where it arrives, and where it must not be found.
//!
//! The unit tests of `BearerSubprotocolLayer` cover each form of an entry.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, Response, StatusCode, header::AUTHORIZATION};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::{
    trace::{DefaultMakeSpan, DefaultOnFailure, DefaultOnRequest, DefaultOnResponse, TraceLayer},
    validate_request::ValidateRequestHeaderLayer,
};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, Rejection, RejectionKind, WsStreamLayer,
    access::BearerSubprotocolLayer, testing::Connect,
};
use tracing::Level;

use crate::support::{Head, HttpService, hold, logs, read_head, refusal, serve_in_memory, sorted};

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// The lengths are multiples of three, so the base64 of a longer text that begins like this begins
/// alike.
const SECRET: &str = "correct-horse-battery";
const OTHER: &str = "another-horse-battery";

fn entry(token: impl AsRef<[u8]>) -> String {
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(token))
}

#[track_caller]
fn assert_secret(what: &str, text: &str) {
    for form in [SECRET, &*URL_SAFE_NO_PAD.encode(SECRET)] {
        assert!(!text.contains(form), "{what}: {text}");
    }
}

/// Text from several sources.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn note(&self, what: &(impl Debug + ?Sized)) {
        let text = format!("{what:?}\n{what:#?}\n");
        self.0.lock().unwrap().extend_from_slice(text.as_bytes());
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn authenticate<B, A: Default>(request: &mut Request<B>) -> Result<(), Response<A>> {
    let value = request.headers().get(AUTHORIZATION);
    if value.is_some_and(|value| *value == format!("Bearer {SECRET}")) {
        return Ok(());
    }
    let mut answer = Response::new(A::default());
    *answer.status_mut() = StatusCode::UNAUTHORIZED;
    Err(answer)
}

/// Stacks `TraceLayer` at its most verbose, authentication and a session, and notes everything that
/// has a `Debug`.
macro_rules! stack {
    ($shown:expr) => {{
        let (head, session) = (Log::clone($shown), Log::clone($shown));
        let channels = [ChannelType::Read, ChannelType::Write];
        ServiceBuilder::new()
            .layer(
                TraceLayer::new_for_http()
                    .make_span_with(
                        DefaultMakeSpan::new()
                            .level(Level::TRACE)
                            .include_headers(true),
                    )
                    .on_request(DefaultOnRequest::new().level(Level::TRACE))
                    .on_response(
                        DefaultOnResponse::new()
                            .level(Level::TRACE)
                            .include_headers(true),
                    )
                    .on_failure(DefaultOnFailure::new().level(Level::TRACE)),
            )
            .map_request(move |request: Request<_>| {
                head.note(&request);
                request
            })
            .layer(ValidateRequestHeaderLayer::custom(authenticate))
            .layer(WsStreamLayer::new(
                ChannelProtocols::standard(channels).unwrap(),
            ))
            .service_fn(move |set: ChannelSet| {
                session.note(&set);
                session.note(&set.session());
                session.note(&set.request());
                let offered = set.request().unwrap().headers.get("sec-websocket-protocol");
                assert_eq!(offered.unwrap(), "channel.k8s.io");
                greet(set)
            })
    }};
}

async fn greet(mut set: ChannelSet) -> Result<(), BoxError> {
    let mut output = set.take_writer(1).ok_or("channel 1")?;
    output.write_all(b"hello").await?;
    Ok(())
}

/// Returns the whole answer, as it goes over the wire.
async fn answer(service: impl HttpService, head: &Head) -> String {
    let mut client = serve_in_memory(service);
    client.write_all(&head.bytes()).await.unwrap();
    let mut answer = read_head(&mut client).await;
    let length = answer
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    answer.push_str(&String::from_utf8(body).unwrap());
    answer
}

/// Sends the request over a connection and by a call, and notes everything that is visible of both.
async fn ask(shown: &Log, head: &Head) -> (u16, Option<RejectionKind>) {
    let layer = BearerSubprotocolLayer::new();
    let service = ServiceBuilder::new().layer(layer).service(stack!(shown));
    shown.note(&layer);
    shown.note(&service);
    let over_the_wire = answer(service.clone(), head).await;
    shown.note(&*over_the_wire);

    let (request, _wire) = hold(head).await;
    let mut service = service;
    let ready = ServiceExt::<Request<Incoming>>::ready(&mut service).await;
    let future = ready.unwrap().call(request);
    shown.note(&future);
    let response = future.await.unwrap();
    shown.note(&response);
    let rejection = response.extensions().get::<Rejection>().cloned();
    shown.note(&rejection);
    shown.note(&rejection.as_ref().map(ToString::to_string));
    let status = response.status().as_u16();
    assert!(over_the_wire.starts_with(&format!("HTTP/1.1 {status} ")));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    shown.note(&body);
    (status, rejection.map(|rejection| rejection.kind()))
}

#[tokio::test]
async fn the_token_is_in_no_trace_no_answer_and_no_debug() {
    logs::capture();
    let shown = Log::default();
    let secret = &*entry(SECRET);
    let offer = |line: &str| Head::to("/").offer(line);
    let not_utf8 = entry([SECRET.as_bytes(), b"\xff"].concat());
    let refused = Some(RejectionKind::Unauthorized);
    let cases = [
        // Accepted: everything that is logged about a session.
        (offer(&format!("{secret}, channel.k8s.io")), 101, None),
        (offer("channel.k8s.io").offer(secret), 101, None),
        // Refused by the layer itself.
        (offer(&format!("{secret}, {secret}, x")), 401, refused),
        (offer(&format!("{secret}=, channel.k8s.io")), 401, refused),
        (offer(&format!("{not_utf8}, channel.k8s.io")), 401, refused),
        (offer(&format!("{PREFIX}, channel.k8s.io")), 401, refused),
        (
            offer(&entry(format!("{SECRET}\r\n"))).offer("x"),
            401,
            refused,
        ),
        (
            offer(&entry(format!("{SECRET} x"))).offer("x"),
            401,
            refused,
        ),
        (offer(secret), 401, refused),
        (
            offer(&format!("{secret}, x")).with("Authorization", &format!("Bearer {SECRET}")),
            400,
            Some(RejectionKind::BadRequest),
        ),
        // Refused further inside, by authentication or by the handshake.
        (offer(&entry(format!("{SECRET}x"))).offer("x"), 401, None),
        (
            offer(&format!("{secret}, unknown")),
            403,
            Some(RejectionKind::NoCommonSubprotocol),
        ),
        // Not entries, though they look like one: they pass.
        (offer(&secret.replace("k8s", "K8S")).offer("x"), 401, None),
        (Head::plain("/").offer(secret), 401, None),
    ];
    for (head, status, kind) in &cases {
        assert_eq!(ask(&shown, head).await, (*status, *kind), "{head:?}");
    }

    let log = logs::captured();
    for event in [
        "started processing request",
        "finished processing request",
        "upgrade refused",
        "session over",
        // Proves that headers were shown.
        "\"sec-websocket-protocol\": \"channel.k8s.io\"",
        "\"authorization\": Sensitive",
    ] {
        assert!(log.contains(event), "{event}: {log}");
    }
    assert_secret("log", &log);
    let shown = shown.text();
    for sight in [
        "ChannelSet",
        "Parts",
        "401 Unauthorized",
        "BearerSubprotocolFuture",
    ] {
        assert!(shown.contains(sight), "{sight}: {shown}");
    }
    assert_secret("shown", &shown);
}

/// Proves that the test above can fail.
#[tokio::test]
async fn without_the_layer_the_token_is_in_trace_and_debug() {
    logs::capture();
    let shown = Log::default();
    let head = Head::to("/").offer(&format!("{}, channel.k8s.io", entry(OTHER)));
    let answer = answer(stack!(&shown), &head).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let encoded = URL_SAFE_NO_PAD.encode(OTHER);
    for text in [logs::captured(), shown.text()] {
        assert!(text.contains(&encoded), "{text}");
    }
}

#[tokio::test]
async fn a_browser_with_a_token_gets_its_session() {
    let service = ServiceBuilder::new()
        .layer(BearerSubprotocolLayer::new())
        .service(stack!(&Log::default()));
    let client = Connect::to("/")
        .offer(entry(SECRET))
        .offer("channel.k8s.io")
        .connect(service)
        .await
        .unwrap();
    assert_eq!(client.subprotocol(), "channel.k8s.io");
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.close_code, Some(1000));
}

#[tokio::test]
async fn a_refusal_is_a_status_that_challenges_for_a_token() {
    let service = ServiceBuilder::new()
        .layer(BearerSubprotocolLayer::new())
        .service(stack!(&Log::default()));
    let (request, _wire) = hold(&Head::to("/").offer(&entry(SECRET))).await;
    let answer = service.oneshot(request).await.unwrap();
    let refusal = refusal(answer, 401, RejectionKind::Unauthorized).await;
    assert_eq!(refusal.reason, "Unauthorized");
    assert_eq!(sorted(&refusal.headers), [("www-authenticate", "Bearer")]);
}

/// axum requires more traits of a route; the other layers are around it.
#[tokio::test]
async fn it_is_a_route_of_axums() {
    let service = ServiceBuilder::new()
        .layer(BearerSubprotocolLayer::new())
        .service(stack!(&Log::default()));
    let router: axum::Router = axum::Router::new().route_service("/exec", service);
    let offer = format!("{}, channel.k8s.io", entry(SECRET));
    let answer = answer(router, &Head::to("/exec").offer(&offer)).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}
