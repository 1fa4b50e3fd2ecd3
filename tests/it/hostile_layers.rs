//! Services and bodies inside of each layer that panic, fail, are never ready or never end, at
//! each stage: the client gets an answer or a Close, and nothing is left running.

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::response::IntoResponse;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Sleep, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_wsstream::{
    BoxError, ChannelSet, SessionConfig, Sessions, WsStreamLayer,
    axum08::WsStreamUpgrade,
    channel::tap::TapLayer,
    portforward::{self, ForwardedPort, PortForwardLayer},
    reader::WsReaderLayer,
    subprotocols,
};

use crate::support::{
    CLOSE, Raw, Watchdog,
    http2::{self, Connection},
    layer, serve, within,
};

/// What ends by itself ends sooner; what takes longer hangs.
const LONG: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

/// How a service or a body goes wrong, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotReady,
    FailsToBeReady,
    PanicsInReady,
    PanicsInCall,
    PanicsAtOnce,
    FailsAtOnce,
    /// Behind the upgrade, with a byte said.
    PanicsLater,
    FailsLater,
    /// And panics once more where what panicked is dropped.
    PanicsTwice,
    PanicsInDrop,
    NeverEnds,
}

use Fault::*;

const ALL: [Fault; 11] = [
    NotReady,
    FailsToBeReady,
    PanicsInReady,
    PanicsInCall,
    PanicsAtOnce,
    FailsAtOnce,
    PanicsLater,
    FailsLater,
    PanicsTwice,
    PanicsInDrop,
    NeverEnds,
];

/// What the client, and the operator, do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Waits,
    Closes,
    Leaves,
    Drains,
}

/// Whose service it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    /// A body, and the service that makes it.
    Reader,
    ReadersBody,
    Ports,
    Extractor,
    Tap,
    TapsFunction,
}

/// Counts as running until it is dropped, which may be a trap.
struct Guard {
    fault: Fault,
    running: Arc<AtomicUsize>,
}

impl Guard {
    fn new(fault: Fault, running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self {
            fault,
            running: Arc::clone(running),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        let trap = matches!(self.fault, PanicsTwice | PanicsInDrop);
        assert!(!trap, "in the drop, on purpose");
    }
}

/// A future of a service. What panics in its poll is not dropped before the layer drops it.
struct Guarded<T> {
    future: Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>,
    _guard: Guard,
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

/// Goes wrong before, or a second behind, what it has to say.
async fn go_wrong(
    fault: Fault,
    say: impl Future<Output = Result<(), BoxError>>,
) -> Result<(), BoxError> {
    match fault {
        PanicsAtOnce => panic!("at once, on purpose"),
        FailsAtOnce => return Err("at once, on purpose".into()),
        _ => {}
    }
    say.await?;
    sleep(SECOND).await;
    match fault {
        PanicsLater | PanicsTwice => panic!("later, on purpose"),
        FailsLater => Err("later, on purpose".into()),
        PanicsInDrop => Ok(()),
        _ => pending().await,
    }
}

/// A service of whatever comes, which has a fault.
#[derive(Clone)]
struct Faulty<F> {
    fault: Fault,
    running: Arc<AtomicUsize>,
    function: F,
}

impl<F, Fut, R, T> Service<R> for Faulty<F>
where
    F: Fn(Fault, R) -> Fut,
    Fut: Future<Output = Result<T, BoxError>> + Send + 'static,
{
    type Response = T;
    type Error = BoxError;
    type Future = Guarded<T>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.fault {
            NotReady => Poll::Pending,
            FailsToBeReady => Poll::Ready(Err("not ready, on purpose".into())),
            PanicsInReady => panic!("in poll_ready, on purpose"),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: R) -> Guarded<T> {
        assert!(self.fault != PanicsInCall, "in call, on purpose");
        Guarded {
            future: Box::pin((self.function)(self.fault, request)),
            _guard: Guard::new(self.fault, &self.running),
        }
    }
}

async fn session(fault: Fault, mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut output = channels.take_writer(1).ok_or("no channel 1")?;
    let say = async { Ok(output.write_all(b"x").await?) };
    go_wrong(fault, say).await
}

async fn port(fault: Fault, mut port: ForwardedPort) -> Result<(), BoxError> {
    let say = async { Ok(port.stream.write_all(b"x").await?) };
    go_wrong(fault, say).await
}

/// Has nothing to say before its answer.
async fn answer(fault: Fault, _: Request<Incoming>) -> Result<Response<Empty<Bytes>>, BoxError> {
    go_wrong(fault, async { Ok(()) }).await?;
    Ok(Response::default())
}

/// A body that says a byte, and goes wrong before or a second behind it.
struct FaultyBody {
    guard: Guard,
    said: bool,
    wait: Pin<Box<Sleep>>,
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let failure = || Poll::Ready(Some(Err(io::Error::other("on purpose"))));
        match self.guard.fault {
            PanicsAtOnce => panic!("at once, on purpose"),
            FailsAtOnce => return failure(),
            _ => {}
        }
        if !std::mem::replace(&mut self.said, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))));
        }
        ready!(self.wait.as_mut().poll(cx));
        match self.guard.fault {
            PanicsLater | PanicsTwice => panic!("later, on purpose"),
            FailsLater => failure(),
            PanicsInDrop => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}

type Answering = BoxCloneService<Request<Incoming>, Response<axum::body::Body>, BoxError>;

/// Also keeps the first request of the client over HTTP/2 away, which is no upgrade.
fn boxed<S, B>(service: S) -> Answering
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    BoxCloneService::new(service_fn(move |request: Request<Incoming>| {
        let service = service.clone();
        async move {
            if (request.method(), request.version()) == (&Method::GET, Version::HTTP_2) {
                return Ok(StatusCode::NOT_FOUND.into_response());
            }
            let answer = service.oneshot(request).await.map_err(Into::into)?;
            Ok(answer.map(axum::body::Body::new))
        }
    }))
}

/// What each scenario is of.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    around: Around,
    fault: Fault,
    meanwhile: Meanwhile,
}

impl Scenario {
    /// Whether there is such a thing, and an end of it to wait for.
    fn exists(self) -> bool {
        let has_no_end = self.fault == NeverEnds && self.meanwhile == Meanwhile::Waits;
        let is_readiness = matches!(self.fault, NotReady | FailsToBeReady | PanicsInReady);
        match self.around {
            // How long it takes to answer is the HTTP service's own.
            Around::Reader => !matches!(
                (self.fault, self.meanwhile),
                (
                    NotReady | NeverEnds,
                    Meanwhile::Waits | Meanwhile::Closes | Meanwhile::Drains
                )
            ),
            Around::ReadersBody => !is_readiness && self.fault != PanicsInCall && !has_no_end,
            // axum's handlers are always ready.
            Around::Extractor => !is_readiness && !has_no_end,
            Around::Ports | Around::Tap => !has_no_end,
            Around::TapsFunction => self.fault == PanicsInCall,
        }
    }

    /// What the client has to see where it waits.
    fn expected(self) -> Seen {
        match (self.around, self.fault) {
            // An HTTP service's own errors pass, and become what hyper makes of them.
            (Around::Reader, FailsToBeReady | PanicsInReady | FailsAtOnce | FailsLater) => {
                Seen::Lost
            }
            (Around::Reader, PanicsInDrop) => Seen::Closed(Some(1000)),
            (Around::Reader, _) => Seen::Refused(500),
            (_, NotReady) => Seen::Refused(504),
            (_, FailsToBeReady | PanicsInReady) => Seen::Refused(500),
            // A port ends alone, with its text.
            (Around::Ports, _) => Seen::Closed(Some(1000)),
            (_, PanicsInCall | PanicsAtOnce | FailsAtOnce) => Seen::Refused(500),
            (_, PanicsLater | FailsLater | PanicsTwice) => Seen::Closed(Some(1011)),
            (_, PanicsInDrop | NeverEnds) => Seen::Closed(Some(1000)),
        }
    }

    fn target(self) -> (&'static str, &'static str) {
        match self.around {
            Around::Reader | Around::ReadersBody => ("/", ""),
            Around::Ports => ("/?ports=80,81", subprotocols::V4),
            _ => ("/", subprotocols::V5),
        }
    }

    fn service(self, sessions: &Sessions, running: &Arc<AtomicUsize>) -> Answering {
        let configured = |layer: WsStreamLayer| {
            let config = SessionConfig::default()
                .sessions(sessions.clone())
                .accept_timeout(SECOND)
                .on_end(|_| panic!("in on_end, on purpose"));
            layer.config(config)
        };
        let reader = WsReaderLayer::new().config(
            SessionConfig::default()
                .sessions(sessions.clone())
                .on_end(|_| panic!("in on_end, on purpose")),
        );
        let Self { around, fault, .. } = self;
        let running = Arc::clone(running);
        match around {
            Around::Reader => boxed(reader.layer(Faulty {
                fault,
                running,
                function: answer,
            })),
            Around::ReadersBody => boxed(reader.layer(service_fn(move |_: Request<_>| {
                let body = FaultyBody {
                    guard: Guard::new(fault, &running),
                    said: false,
                    wait: Box::pin(sleep(SECOND)),
                };
                std::future::ready(Ok::<_, Infallible>(Response::new(body)))
            }))),
            Around::Ports => {
                let ports = PortForwardLayer::new().layer(Faulty {
                    fault,
                    running,
                    function: port,
                });
                boxed(
                    configured(WsStreamLayer::new(portforward::Protocols::default())).layer(ports),
                )
            }
            Around::Extractor => {
                let layer = configured(layer());
                let handler = async move |upgrade: WsStreamUpgrade| {
                    let mut inner = Faulty {
                        fault,
                        running,
                        function: session,
                    };
                    let upgrade = upgrade.layer(&layer);
                    upgrade.on_upgrade(move |set| inner.call(set)).await
                };
                boxed(axum::Router::new().route("/", axum::routing::any(handler)))
            }
            Around::Tap | Around::TapsFunction => {
                let panics = around == Around::TapsFunction;
                let tap = TapLayer::new(move |_: &ChannelSet| {
                    assert!(!panics, "in the function of the layer, on purpose");
                    None
                });
                boxed(configured(layer()).layer(tap.layer(Faulty {
                    fault,
                    running,
                    function: session,
                })))
            }
        }
    }
}

/// What came of it for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Refused(u16),
    Closed(Option<u16>),
    /// Neither.
    Lost,
}

/// What a client sees that has got its session.
async fn watch<T>(mut client: Raw<T>, meanwhile: Meanwhile, sessions: &Sessions) -> Seen
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match meanwhile {
        Meanwhile::Waits => {}
        Meanwhile::Closes => client.close(Some(1000)).await.unwrap(),
        Meanwhile::Leaves => return Seen::Lost,
        // Goes on whether it is awaited or not.
        Meanwhile::Drains => drop(sessions.drain(LONG)),
    }
    while let Some(frame) = client.next().await {
        if frame.opcode == CLOSE {
            return Seen::Closed(frame.close_code());
        }
    }
    Seen::Lost
}

async fn over_http1(scenario: Scenario, service: Answering, sessions: &Sessions) -> Seen {
    let (path, offer) = scenario.target();
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service);
    match Raw::handshake_at(near, path, offer).await {
        Ok(client) => watch(client, scenario.meanwhile, sessions).await,
        Err(answer) => match answer.split(' ').nth(1) {
            Some(status) => Seen::Refused(status.parse().unwrap()),
            None => Seen::Lost,
        },
    }
}

async fn over_http2(scenario: Scenario, mut connection: Connection, sessions: &Sessions) -> Seen {
    let (path, offer) = scenario.target();
    match connection.try_ask(http2::request(path, offer)).await {
        Ok(Ok(answer)) => {
            let client = http2::upgraded(answer, offer).await;
            watch(client, scenario.meanwhile, sessions).await
        }
        Ok(Err(refused)) => Seen::Refused(refused.status.as_u16()),
        Err(_) => Seen::Lost,
    }
}

async fn run(scenario: Scenario, is_http2: bool) {
    let what = format!("{scenario:?}, HTTP/2: {is_http2}");
    let sessions = Sessions::default();
    let running = Arc::new(AtomicUsize::new(0));
    let service = scenario.service(&sessions, &running);
    // Over HTTP/2 the connection outlives its session.
    let mut connection = None;
    let seen = {
        let sees: Pin<Box<dyn Future<Output = Seen>>> = if is_http2 {
            let (opened, wire) = http2::connect(service).await;
            connection = Some((opened.clone(), wire));
            Box::pin(over_http2(scenario, opened, &sessions))
        } else {
            Box::pin(over_http1(scenario, service, &sessions))
        };
        match scenario.meanwhile {
            // In the middle of whatever it is.
            Meanwhile::Leaves => timeout(SECOND / 2, sees).await.ok(),
            _ => Some(within(LONG, sees).await),
        }
    };
    match scenario.meanwhile {
        Meanwhile::Waits => assert_eq!(seen, Some(scenario.expected()), "{what}"),
        Meanwhile::Closes | Meanwhile::Drains => match scenario.expected() {
            Seen::Closed(_) => assert!(matches!(seen, Some(Seen::Closed(_))), "{what}: {seen:?}"),
            expected => assert_eq!(seen, Some(expected), "{what}"),
        },
        Meanwhile::Leaves => {}
    }
    // Longer than a grace, and than what is lingered for.
    sleep(Duration::from_secs(60)).await;
    assert_eq!(running.load(Ordering::Relaxed), 0, "left running: {what}");
    assert_eq!(sessions.len(), 0, "{what}");
    drop(connection);
}

/// Each fault under each layer, whatever else happens, over both versions of HTTP.
async fn run_all(around: Around) {
    let _watchdog = Watchdog::bites_after(Duration::from_secs(50));
    let mut count = 0;
    for fault in ALL {
        for meanwhile in [
            Meanwhile::Waits,
            Meanwhile::Closes,
            Meanwhile::Leaves,
            Meanwhile::Drains,
        ] {
            let scenario = Scenario {
                around,
                fault,
                meanwhile,
            };
            if scenario.exists() {
                for is_http2 in [false, true] {
                    run(scenario, is_http2).await;
                    count += 1;
                }
            }
        }
    }
    assert!(count > 0);
}

#[tokio::test(start_paused = true)]
async fn of_a_reader_the_service() {
    run_all(Around::Reader).await;
}

#[tokio::test(start_paused = true)]
async fn of_a_reader_the_body() {
    run_all(Around::ReadersBody).await;
}

#[tokio::test(start_paused = true)]
async fn the_ports_of_a_port_forward() {
    run_all(Around::Ports).await;
}

#[tokio::test(start_paused = true)]
async fn the_function_of_axums_extractor() {
    run_all(Around::Extractor).await;
}

#[tokio::test(start_paused = true)]
async fn a_tapped_service() {
    run_all(Around::Tap).await;
}

#[tokio::test(start_paused = true)]
async fn the_function_of_a_tap() {
    run_all(Around::TapsFunction).await;
}
