//! A refusal is an HTTP answer: whatever can be known before the 101.

use std::{
    convert::Infallible,
    future::{Future, Ready, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, Rejection, RejectionKind, SessionConfig,
    WsStream, WsStreamLayer,
    policy::{Limits, OriginPolicy},
    remotecommand,
};

use crate::support::{
    Head, KEY, Refusal, SERVICE_FAILED, hold, read_head, refusal, refused, sorted, tasks,
};

fn table() -> ChannelProtocols {
    ChannelProtocols::standard([ChannelType::Read, ChannelType::Write]).unwrap()
}

/// Says how often it was asked for what.
#[derive(Debug, Default)]
struct Counts {
    clones: AtomicUsize,
    polls: AtomicUsize,
    calls: AtomicUsize,
}

/// A service that counts, and is always ready.
#[derive(Debug, Default)]
struct Probe {
    counts: Arc<Counts>,
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        self.counts.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            counts: Arc::clone(&self.counts),
        }
    }
}

impl Service<ChannelSet> for Probe {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.counts.polls.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _channels: ChannelSet) -> Self::Future {
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(()))
    }
}

impl Probe {
    fn asked(&self) -> [usize; 3] {
        let counts = [&self.counts.clones, &self.counts.polls, &self.counts.calls];
        counts.map(|count| count.load(Ordering::Relaxed))
    }
}

/// A refusal by the head alone: the inner service is not even cloned.
async fn refused_by_head(
    layer: WsStreamLayer,
    head: &Head,
    status: u16,
    kind: RejectionKind,
) -> Refusal {
    let probe = Probe::default();
    let service = layer.layer_on(Probe {
        counts: Arc::clone(&probe.counts),
    });
    let refusal = refused(service, head, status, kind).await;
    assert_eq!(probe.asked(), [0; 3], "clones, readiness, calls");
    refusal
}

trait LayerOn {
    fn layer_on<S>(&self, inner: S) -> WsStream<S>;
}

impl LayerOn for WsStreamLayer {
    fn layer_on<S>(&self, inner: S) -> WsStream<S> {
        tower::Layer::layer(self, inner)
    }
}

/// For the counts of the other tests to mean anything.
#[tokio::test(start_paused = true)]
async fn an_accepted_handshake_spawns_one_task_and_asks_a_clone() {
    let probe = Probe::default();
    let service = WsStreamLayer::new(table()).layer_on(Probe {
        counts: Arc::clone(&probe.counts),
    });
    let (request, _wire) = hold(&Head::to("/")).await;
    let before = tasks();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(response.extensions().get::<Rejection>().is_none());
    assert_eq!(tasks(), before + 1);
    assert_eq!(probe.asked(), [1; 3]);
}

// By the head.

const OFFERS_UPGRADE: [(&str, &str); 3] = [
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("upgrade", "websocket"),
];

#[tokio::test(start_paused = true)]
async fn no_upgrade_is_426() {
    for head in [
        Head::plain("/"),
        Head::to("/").without("Connection"),
        Head::to("/").without("Upgrade"),
        Head::plain("/")
            .with("Connection", "Upgrade")
            .with("Upgrade", "SPDY/3.1"),
    ] {
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 426, RejectionKind::NotAnUpgrade).await;
        assert_eq!(sorted(&refusal.headers), OFFERS_UPGRADE);
        assert!(
            refusal.message.contains("WebSocket client"),
            "{}",
            refusal.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_upgrade_goes_to_the_fallback_whole() {
    let fallback = service_fn(async |request: Request<Incoming>| {
        assert_eq!(request.uri(), "/page");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let probe = Probe::default();
    let service = tower::Layer::layer(
        &WsStreamLayer::new(table()).fallback(fallback),
        Probe {
            counts: Arc::clone(&probe.counts),
        },
    );
    let head = Head::plain("/page")
        .line("POST /page HTTP/1.1")
        .with("Content-Length", "0");
    let (request, _wire) = hold(&head).await;
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.extensions().get::<Rejection>().is_none());
    assert_eq!(probe.asked()[1..], [0; 2]);

    // What is an upgrade and a bad one is refused, and no page for the fallback.
    let bad = Head::to("/page").without("Sec-WebSocket-Key");
    refused(service, &bad, 400, RejectionKind::BadRequest).await;
}

#[tokio::test(start_paused = true)]
async fn another_method_is_405() {
    for method in ["POST", "PUT", "HEAD", "DELETE", "OPTIONS"] {
        let head = Head::to("/").line(&format!("{method} / HTTP/1.1"));
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 405, RejectionKind::MethodNotAllowed).await;
        assert_eq!(sorted(&refusal.headers), [("allow", "GET")]);
        assert_eq!(refusal.reason, "MethodNotAllowed");
        let named = refusal.message.contains(&format!("and not {method}"));
        assert!(named, "{}", refusal.message);
    }
    let head = Head::to("/").line(&format!("{} / HTTP/1.1", "X".repeat(18)));
    let layer = WsStreamLayer::new(table());
    let refusal = refused_by_head(layer, &head, 405, RejectionKind::MethodNotAllowed).await;
    assert!(!refusal.message.contains('X'), "{}", refusal.message);
}

/// hyper would say `Connection: Upgrade, close` in the 101, which strict clients refuse:
/// after the session has begun.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_closes_its_connection_is_400() {
    for lines in [
        &["close, Upgrade"][..],
        &["Upgrade, Close"],
        &["Upgrade", "close"],
    ] {
        let mut head = Head::to("/").without("Connection");
        for line in lines {
            head = head.with("Connection", line);
        }
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert!(
            refusal.message.contains("without close"),
            "{}",
            refusal.message
        );
    }
}

#[tokio::test(start_paused = true)]

async fn http_1_0_is_400() {
    let head = Head::to("/").line("GET / HTTP/1.0");
    let layer = WsStreamLayer::new(table());
    let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
    assert!(refusal.message.contains("HTTP/1.1"), "{}", refusal.message);
    assert_eq!(refusal.reason, "BadRequest");
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_400() {
    let none = Head::to("/").without("Sec-WebSocket-Key");
    for head in [
        none.clone(),
        none.clone().with("Sec-WebSocket-Key", ""),
        none.clone().with("Sec-WebSocket-Key", "short"),
        none.clone()
            .with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAAA"),
        none.clone()
            .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j_Q=="),
        Head::to("/").with("Sec-WebSocket-Key", KEY),
    ] {
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert!(
            refusal.message.contains("16 random bytes"),
            "{}",
            refusal.message
        );
        assert!(refusal.headers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_is_426_and_names_ours() {
    let none = Head::to("/").without("Sec-WebSocket-Version");
    let version = |version| none.clone().with("Sec-WebSocket-Version", version);
    for (head, named) in [
        (none.clone(), "version 13:"),
        (version("8"), "version 13, and not 8:"),
        (version("13, 8"), "version 13:"),
    ] {
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 426, RejectionKind::UnsupportedVersion).await;
        assert_eq!(sorted(&refusal.headers), OFFERS_UPGRADE);
        assert!(refusal.message.contains(named), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_400() {
    for (name, value) in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
        let layer = WsStreamLayer::new(table());
        let head = Head::to("/").with(name, value);
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert!(refusal.message.contains("no body"), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn no_common_subprotocol_is_403_and_tells_ours_but_not_theirs() {
    let v4 = || {
        let config = tower_wsstream::ChannelProtocolConfig::new(
            tower_wsstream::Encoding::Binary,
            [ChannelType::Read],
        );
        let table = ChannelProtocols::builder().protocol("v4.channel.k8s.io", config);
        WsStreamLayer::new(table.build().unwrap())
    };
    let kind = RejectionKind::NoCommonSubprotocol;
    let refusal = refused_by_head(v4(), &Head::to("/"), 403, kind).await;
    assert!(
        refusal.message.contains("none was offered"),
        "{}",
        refusal.message
    );
    assert_eq!(refusal.reason, "Forbidden");

    for offered in [
        "V4.channel.k8s.io",
        "v5.channel.k8s.io, secret",
        "base64url.bearer.authorization.k8s.io.c2VjcmV0",
    ] {
        let refusal = refused_by_head(v4(), &Head::to("/").offer(offered), 403, kind).await;
        assert!(refusal.message.ends_with("offer one of v4.channel.k8s.io"));
        assert!(!refusal.message.contains("secret") && !refusal.message.contains("c2VjcmV0"));
        assert!(refusal.headers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_origin_is_403() {
    const ALLOW: &str = "OriginPolicy::allow_list";
    const FORWARDED: &str = "OriginPolicy::forwarded_host";
    let same = OriginPolicy::same_origin;
    let list = || OriginPolicy::allow_list(["https://a.example"]).unwrap();
    let long = format!("https://{}.example", "x".repeat(300));
    for (origin, policy, named) in [
        (
            "http://elsewhere",
            same(),
            vec!["http://elsewhere", "localhost", ALLOW, FORWARDED],
        ),
        ("null", same(), vec!["null", "localhost", ALLOW, FORWARDED]),
        // As behind a proxy that strips the port of the host.
        (
            "http://localhost:81",
            same(),
            vec!["http://localhost:81", "host localhost:"],
        ),
        (
            "https://u:hunter2@a.example/",
            same(),
            vec!["(unreadable)", "localhost"],
        ),
        (&long, same(), vec!["(too long)", "localhost"]),
        (
            "http://elsewhere",
            same().forwarded_host(),
            vec!["(unreadable) of X-Forwarded-Host"],
        ),
        ("http://elsewhere", list(), vec!["http://elsewhere", ALLOW]),
        (
            "http://elsewhere",
            OriginPolicy::predicate(|_, _| false),
            vec!["http://elsewhere"],
        ),
    ] {
        let layer = WsStreamLayer::new(table()).config(SessionConfig::default().origin(policy));
        let head = Head::to("/").with("Origin", origin);
        let refusal = refused_by_head(layer, &head, 403, RejectionKind::Origin).await;
        assert_eq!(refusal.reason, "Forbidden");
        let message = refusal.message;
        assert!(named.iter().all(|part| message.contains(part)), "{message}");
        assert!(
            !message.contains("hunter2") && message.len() < 600,
            "{message}"
        );
    }
    let twice = Head::to("/")
        .with("Origin", "http://localhost")
        .with("Origin", "http://b");
    let refusal = refused_by_head(
        WsStreamLayer::new(table()),
        &twice,
        403,
        RejectionKind::Origin,
    );
    assert!(
        refusal
            .await
            .message
            .contains("more than one Origin header")
    );
    // The same origin passes on to the next check, and any origin where that is set.
    let same = Head::to("/").with("Origin", "http://localhost").offer("x");
    let layer = WsStreamLayer::new(table());
    refused_by_head(layer, &same, 403, RejectionKind::NoCommonSubprotocol).await;
    let any = Head::to("/").with("Origin", "null").offer("x");
    let layer =
        WsStreamLayer::new(table()).config(SessionConfig::default().origin(OriginPolicy::any()));
    refused_by_head(layer, &any, 403, RejectionKind::NoCommonSubprotocol).await;
}

#[tokio::test(start_paused = true)]
async fn options_of_remotecommand_that_make_no_sense_are_400() {
    for query in [
        "/exec",
        "/exec?command=ls",
        "/exec?stdout=false&command=ls",
        "/exec?tty=1&stderr=1",
        "/exec?stdout=1&command=%zz",
        "/exec?stdout=1&container=%ff",
    ] {
        let layer = WsStreamLayer::new(remotecommand::Protocols::default());
        let head = Head::to(query).offer("v5.channel.k8s.io");
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert_eq!(refusal.reason, "BadRequest");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_protocol_source_is_the_answer() {
    let layer = WsStreamLayer::new(|head: &http::request::Parts| {
        Err(Rejection::new(
            StatusCode::NOT_FOUND,
            format!("no pod at {}", head.uri.path()),
        ))
    });
    let refusal = refused_by_head(layer, &Head::to("/web"), 404, RejectionKind::Custom).await;
    assert_eq!(
        (&*refusal.message, &*refusal.reason),
        ("no pod at /web", "NotFound")
    );
}

// By the configuration.

#[tokio::test(start_paused = true)]
async fn invalid_limits_are_500_that_names_the_knob() {
    let limits = Limits::default();
    for (limits, knob) in [
        (limits.receive_window(0), "Limits::receive_window"),
        (limits.send_budget(0), "Limits::send_budget"),
        (limits.high_water(0), "Limits::high_water"),
        (limits.max_frame(0), "Limits::max_frame"),
    ] {
        let layer = WsStreamLayer::new(table()).limits(limits);
        let error = layer.check().unwrap_err().to_string();
        assert!(error.contains(knob), "{error}");
        let refusal =
            refused_by_head(layer.clone(), &Head::to("/"), 500, RejectionKind::Config).await;
        assert!(refusal.message.contains(&error), "{}", refusal.message);
        assert_eq!(refusal.reason, "InternalError");
        // What is no upgrade does not care.
        refused_by_head(layer, &Head::plain("/"), 426, RejectionKind::NotAnUpgrade).await;
    }
    assert!(WsStreamLayer::new(table()).limits(limits).check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_upgrades_is_500_that_says_so() {
    let (mut request, _wire) = hold(&Head::to("/")).await;
    request.extensions_mut().clear();
    let service = WsStreamLayer::new(table()).layer_on(Probe::default());
    let before = tasks();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(tasks(), before);
    let refusal = refusal(response, 500, RejectionKind::Config).await;
    assert!(
        refusal.message.contains("upgrades enabled"),
        "{}",
        refusal.message
    );
}

// By the inner service's readiness.

fn layer() -> WsStreamLayer {
    WsStreamLayer::new(table())
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_504_after_the_accept_timeout() {
    for (layer, after) in [
        (layer(), 10),
        (
            layer().config(SessionConfig::default().accept_timeout(Duration::from_secs(3))),
            3,
        ),
    ] {
        let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
        handle.allow(0);
        let started = Instant::now();
        let refusal = refused(
            layer.layer_on(mock),
            &Head::to("/"),
            504,
            RejectionKind::NotReady,
        )
        .await;
        assert_eq!(started.elapsed().as_secs(), after);
        assert_eq!(refusal.reason, "Timeout");
        assert!(refusal.message.contains("try again"), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_just_in_time_is_called() {
    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.allow(0);
    let (request, _wire) = hold(&Head::to("/")).await;
    let answer = tokio::spawn(layer().layer_on(mock).oneshot(request));
    tokio::time::sleep(Duration::from_millis(9_999)).await;
    assert!(!answer.is_finished());
    handle.allow(1);
    assert_eq!(answer.await.unwrap().unwrap().status(), 101);
    assert!(handle.next_request().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_overload_is_503_with_retry_after() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .load_shed()
        .concurrency_limit(1)
        .service_fn(async |_: ChannelSet| std::future::pending::<Result<(), BoxError>>().await);
    let (request, _wire) = hold(&Head::to("/")).await;
    assert_eq!(
        service.clone().oneshot(request).await.unwrap().status(),
        101
    );

    let refusal = refused(service, &Head::to("/"), 503, RejectionKind::Overloaded).await;
    assert_eq!(sorted(&refusal.headers), [("retry-after", "1")]);
    assert_eq!(refusal.reason, "ServiceUnavailable");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_is_a_refusal() {
    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.send_error("password=hunter2");
    let refusal = refused(
        layer().layer_on(mock),
        &Head::to("/"),
        500,
        RejectionKind::Internal,
    )
    .await;
    assert_eq!(refusal.message, SERVICE_FAILED);

    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.send_error(Rejection::new(StatusCode::TOO_MANY_REQUESTS, "slowly"));
    let refusal = refused(
        layer().layer_on(mock),
        &Head::to("/"),
        429,
        RejectionKind::Custom,
    )
    .await;
    assert_eq!(refusal.message, "slowly");
}

// By its first poll.

/// A service whose future ends at once with this error.
fn failing<E: Into<BoxError>>(
    error: impl Fn() -> E + Clone,
) -> impl Service<ChannelSet, Response = (), Error = BoxError, Future: Send + 'static> + Clone {
    service_fn(move |_: ChannelSet| ready(Err::<(), BoxError>(error().into())))
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_the_first_poll_keeps_its_code_and_headers() {
    let rejection = Rejection::new(StatusCode::NOT_FOUND, "no container \"web\"").with_header(
        http::header::RETRY_AFTER,
        http::HeaderValue::from_static("7"),
    );
    let service = layer().layer_on(failing(move || rejection.clone()));
    let refusal = refused(service, &Head::to("/"), 404, RejectionKind::Custom).await;
    assert_eq!(refusal.message, "no container \"web\"");
    assert_eq!(refusal.reason, "NotFound");
    assert_eq!(sorted(&refusal.headers), [("retry-after", "7")]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_passes_remotecommand_before_the_answer() {
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(remotecommand::Protocols::default()))
        .layer(remotecommand::RemoteCommandLayer::new())
        .service_fn(async |_: remotecommand::RemoteCommand| {
            Err::<remotecommand::ExitStatus, _>(Rejection::new(StatusCode::NOT_FOUND, "no pod"))
        });
    let head = Head::to("/exec?stdout=1&command=ls").offer("v5.channel.k8s.io");
    let refusal = refused(service, &head, 404, RejectionKind::Custom).await;
    assert_eq!(refusal.message, "no pod");
}

#[tokio::test(start_paused = true)]
async fn overload_and_timeout_of_the_first_poll_have_their_codes() {
    let service = layer().layer_on(failing(tower::load_shed::error::Overloaded::new));
    let refusal = refused(service, &Head::to("/"), 503, RejectionKind::Overloaded).await;
    assert_eq!(sorted(&refusal.headers), [("retry-after", "1")]);
    let service = layer().layer_on(failing(tower::timeout::error::Elapsed::new));
    refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
}

#[tokio::test(start_paused = true)]
async fn any_other_error_of_the_first_poll_is_500_with_a_fixed_text() {
    let service = layer().layer_on(failing(|| "password=hunter2"));
    let refusal = refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
    assert_eq!(refusal.message, SERVICE_FAILED);
    assert_eq!(refusal.reason, "InternalError");
    assert!(refusal.headers.is_empty());
}

// By a panic.

/// Where a [`Bomb`] goes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Clone,
    Ready,
    /// In `poll_ready`, and again when the service is dropped.
    ReadyAndDrop,
    Call,
    Poll,
    /// In the first poll, and again when the future is dropped.
    PollAndDrop,
    /// When an error was returned, in the drop of the future.
    FailAndDrop,
}

#[derive(Debug)]
struct Bomb(At);

impl Bomb {
    fn at(&self, at: At) {
        assert!(self.0 != at, "the bomb of {at:?}");
    }
}

impl Clone for Bomb {
    fn clone(&self) -> Self {
        self.at(At::Clone);
        Self(self.0)
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.at(At::ReadyAndDrop);
        }
    }
}

impl Service<ChannelSet> for Bomb {
    type Response = ();
    type Error = BoxError;
    type Future = Fuse;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.at(At::Ready);
        self.at(At::ReadyAndDrop);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, channels: ChannelSet) -> Fuse {
        self.at(At::Call);
        Fuse(self.0, Some(channels))
    }
}

/// The future of a [`Bomb`], with a hand on the channels.
struct Fuse(At, #[expect(dead_code, reason = "held")] Option<ChannelSet>);

impl Future for Fuse {
    type Output = Result<(), BoxError>;

    fn poll(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(self.0 == At::FailAndDrop, "the bomb of {:?}", self.0);
        Poll::Ready(Err("failed".into()))
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Where nothing unwinds: a panic in the middle of one aborts, and no
        // `catch_unwind` can help.
        let armed = matches!(self.0, At::PollAndDrop | At::FailAndDrop);
        assert!(!armed, "the bomb of {:?}, dropped", self.0);
    }
}

async fn bombed(at: At) {
    // Kept by the caller, so that only what is made of it goes off.
    let service = std::mem::ManuallyDrop::new(layer().layer_on(Bomb(at)));
    let (request, _wire) = hold(&Head::to("/")).await;
    let before = tasks();
    let mut service = service;
    poll_fn(|cx| Service::<Request<Incoming>>::poll_ready(&mut *service, cx))
        .await
        .unwrap();
    let response = service.call(request).await.unwrap();
    assert_eq!(tasks(), before, "spawned for a handshake that is refused");
    let refusal = refusal(response, 500, RejectionKind::Internal).await;
    assert_eq!(refusal.message, SERVICE_FAILED);
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_clone_is_500() {
    bombed(At::Clone).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_poll_ready_is_500() {
    bombed(At::Ready).await;
}

#[tokio::test(start_paused = true)]

async fn a_panic_in_poll_ready_and_in_the_drop_of_the_service_is_500() {
    bombed(At::ReadyAndDrop).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_call_is_500() {
    bombed(At::Call).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_first_poll_is_500() {
    bombed(At::Poll).await;
}

#[tokio::test(start_paused = true)]

async fn a_panic_in_the_first_poll_and_in_the_drop_of_the_future_is_500() {
    bombed(At::PollAndDrop).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_failed_future_is_500() {
    bombed(At::FailAndDrop).await;
}

/// The answer is decided by the call; what the drop of the ready service does
/// is the server's log.
#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_the_service_after_its_call_refuses_nothing() {
    #[derive(Clone)]
    struct Late(Arc<()>);
    impl Drop for Late {
        fn drop(&mut self) {
            let alone = Arc::strong_count(&self.0) == 1;
            assert!(alone || std::thread::panicking(), "the bomb in a clone");
        }
    }
    let original = Late(Arc::new(()));
    let inner = original.clone();
    let service = layer().layer_on(service_fn(move |_: ChannelSet| {
        let _inner = &inner;
        ready(Ok::<(), BoxError>(()))
    }));
    let mut service = std::mem::ManuallyDrop::new(service);
    let (request, _wire) = hold(&Head::to("/")).await;
    assert_eq!(service.call(request).await.unwrap().status(), 101);
    std::mem::forget(original);
}

// Afterwards.

#[tokio::test(start_paused = true)]
async fn a_connection_lives_on_after_a_refusal() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let service = hyper_util::service::TowerToHyperService::new(layer().layer_on(Probe::default()));
    tokio::spawn(
        hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(server), service)
            .with_upgrades(),
    );
    for (head, status) in [
        (Head::plain("/"), "426"),
        (Head::to("/").offer("unknown"), "403"),
        (Head::to("/"), "101"),
    ] {
        client.write_all(&head.bytes()).await.unwrap();
        let answer = read_head(&mut client).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        let length = answer
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        client.read_exact(&mut body).await.unwrap();
        let connection = answer
            .lines()
            .filter(|line| line.starts_with("connection: "));
        assert!(connection.count() <= 1, "{answer}");
    }
}
