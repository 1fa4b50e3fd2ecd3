//! The user's code under a net: errors that cannot be shown, values that panic when they are
//! dropped, cloned or compared. Each costs its own session at most, and the client is told.
//!
//! With a subscriber for `tracing`, because it is what shows the errors.

use std::{
    error::Error,
    fmt,
    future::{Future, pending, poll_fn},
    hash::{Hash, Hasher},
    io,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body::{Body, Frame};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{sleep, timeout},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelProtocols, ChannelSet, Rejection, SessionConfig, Sessions, Status,
    WsStreamLayer,
    access::SessionLimitLayer,
    axum08::WsStreamUpgrade,
    portforward::{self, ForwardedPort, PortForwardLayer},
    reader::{WsReader, WsReaderLayer},
    remotecommand::{self, ExitStatus, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Connect, Refused, Transcript},
};

use crate::support::{HttpService, SERVICE_FAILED, logs, standard};

const LONG: Duration = Duration::from_secs(600);
/// What an error of the user's does when it is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trap {
    Display,
    /// It returns an error of its own.
    DisplayFails,
    DisplayOfItsSource,
    Source,
    Drop,
}

const TRAPS: [Trap; 5] = [
    Trap::Display,
    Trap::DisplayFails,
    Trap::DisplayOfItsSource,
    Trap::Source,
    Trap::Drop,
];

impl Trap {
    fn name(self) -> &'static str {
        match self {
            Self::Display => "Display",
            Self::DisplayFails => "Display that fails",
            Self::DisplayOfItsSource => "Display of the source",
            Self::Source => "source",
            Self::Drop => "Drop",
        }
    }
}

struct Trapped {
    trap: Trap,
    source: Option<Box<Trapped>>,
}

impl Trapped {
    fn new(trap: Trap) -> Self {
        let source = (trap == Trap::DisplayOfItsSource).then(|| {
            Box::new(Self {
                trap: Trap::Display,
                source: None,
            })
        });
        Self { trap, source }
    }
}

impl fmt::Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trap {
            Trap::Display => panic!("in Display, on purpose"),
            Trap::DisplayFails => Err(fmt::Error),
            _ => f.write_str("password=hunter2"),
        }
    }
}

impl fmt::Debug for Trapped {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("in Debug, on purpose")
    }
}

impl Error for Trapped {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        assert!(self.trap != Trap::Source, "in source, on purpose");
        self.source.as_deref().map(|source| source as _)
    }
}

impl Drop for Trapped {
    fn drop(&mut self) {
        assert!(self.trap != Trap::Drop, "in Drop, on purpose");
    }
}

/// When the error comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Ready,
    AtOnce,
    Later,
}

/// A service that ends with an error.
#[derive(Clone, Copy)]
struct Failing {
    trap: Trap,
    when: When,
}

impl Failing {
    async fn fail<T>(self) -> Result<T, BoxError> {
        if self.when == When::Later {
            sleep(Duration::from_secs(1)).await;
        }
        Err(Trapped::new(self.trap).into())
    }
}

impl<R: Send + 'static> Service<R> for Failing {
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(match self.when {
            When::Ready => Err(Trapped::new(self.trap).into()),
            _ => Ok(()),
        })
    }

    fn call(&mut self, request: R) -> Self::Future {
        let this = *self;
        Box::pin(async move {
            let _request = request;
            this.fail().await
        })
    }
}

fn all() -> impl Iterator<Item = (Trap, When)> {
    let of = |trap| [When::Ready, When::AtOnce, When::Later].map(|when| (trap, when));
    TRAPS.into_iter().flat_map(of)
}

/// What a client has seen.
#[derive(Debug)]
enum Seen {
    Refused(StatusCode, Option<Status>),
    Session(Transcript),
    /// Neither an answer nor a session.
    Nothing(#[allow(dead_code, reason = "shown")] String),
}

async fn see(connect: Connect, service: impl HttpService) -> Seen {
    // Every event is shown.
    logs::capture();
    let connected = timeout(LONG, connect.connect(service)).await;
    match connected.expect("an answer, or none, but in time") {
        Ok(client) => {
            let read = timeout(LONG, client.read_to_end()).await;
            Seen::Session(read.expect("the session ends"))
        }
        Err(error) => match error.downcast::<Refused>() {
            Ok(refused) => Seen::Refused(refused.status(), refused.refusal()),
            Err(error) => Seen::Nothing(error.to_string()),
        },
    }
}

fn is_500(seen: &Seen) -> bool {
    matches!(seen, Seen::Refused(status, Some(text))
        if *status == 500 && text.message() == Some(SERVICE_FAILED))
}

fn is_1011(seen: &Seen) -> bool {
    matches!(seen, Seen::Session(transcript) if transcript.close_code == Some(1011))
}

/// All that went wrong, because each is a kind of its own.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn check(&mut self, what: String, is_right: bool, seen: &Seen) {
        if !is_right {
            self.0.push(format!("{what}: {seen:?}"));
        }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
    }
}

// Errors.

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_500_before_the_answer_and_1011_after_it() {
    let mut wrong = Wrong::default();
    for (trap, when) in all() {
        let service = standard().layer(Failing { trap, when });
        let seen = see(Connect::to("/"), service).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{} {when:?}", trap.name()), right, &seen);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_500_also_where_the_service_accepts() {
    let mut wrong = Wrong::default();
    for (trap, when) in all() {
        let service = standard()
            .config(SessionConfig::default().accept(AcceptMode::Explicit))
            .layer(Failing { trap, when });
        let seen = see(Connect::to("/"), service).await;
        wrong.check(format!("{} {when:?}", trap.name()), is_500(&seen), &seen);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_is_the_same_under_axum() {
    let mut wrong = Wrong::default();
    for (trap, when) in all().filter(|(_, when)| *when != When::Ready) {
        let handler = move |upgrade: WsStreamUpgrade| async move {
            let failing = Failing { trap, when };
            upgrade
                .layer(&standard())
                .on_upgrade(move |_| failing.fail())
                .await
        };
        let app: axum::Router = axum::Router::new().route("/", axum::routing::any(handler));
        let app = app.map_request(|request: Request<Incoming>| request.map(axum::body::Body::new));
        let seen = see(Connect::to("/"), app).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{} {when:?}", trap.name()), right, &seen);
    }
}

/// kubectl prints a Status and nothing else.
#[tokio::test(start_paused = true)]
async fn an_error_of_a_command_that_cannot_be_shown_is_a_status() {
    let mut wrong = Wrong::default();
    for (trap, when) in all().filter(|(_, when)| *when != When::Ready) {
        let failing = Failing { trap, when };
        let command = move |_: RemoteCommand| failing.fail::<ExitStatus>();
        // Of the command, and of a layer around the layer that tells of it.
        for around in [false, true] {
            let inner = RemoteCommandLayer::new().layer(service_fn(command));
            let service = WsStreamLayer::new(remotecommand::Protocols::default())
                .layer(Around(inner, around.then_some(failing)));
            let connect = Connect::to("/?stdout=1&command=x").offer(subprotocols::V4);
            let seen = see(connect, service).await;
            let right = match &seen {
                Seen::Session(transcript) => {
                    let status = transcript.status();
                    transcript.close_code == Some(1000)
                        && status.is_some_and(|it| it.reason() == Some("InternalError"))
                }
                // A layer that fails in the first poll is no command.
                _ => around && when == When::AtOnce && is_500(&seen),
            };
            let what = format!("{} {when:?} around: {around}", trap.name());
            wrong.check(what, right, &seen);
        }
    }
}

/// A layer around a service that lets it begin, and fails in its place.
#[derive(Clone)]
struct Around<S>(S, Option<Failing>);

impl<S> Service<ChannelSet> for Around<S>
where
    S: Service<ChannelSet, Response = (), Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = ();
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, channels: ChannelSet) -> Self::Future {
        let inner = self.0.call(channels);
        match self.1 {
            None => Box::pin(inner),
            Some(failing) => Box::pin(async move {
                let _inner = inner;
                failing.fail().await
            }),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_port_that_cannot_be_shown_is_its_own() {
    let mut wrong = Wrong::default();
    for (trap, when) in all().filter(|(_, when)| *when != When::Ready) {
        let failing = Failing { trap, when };
        let port = move |mut port: ForwardedPort| async move {
            if port.port == 81 {
                return failing.fail().await;
            }
            let mut all = Vec::new();
            port.stream.read_to_end(&mut all).await?;
            port.stream.write_all(&all).await?;
            Ok::<_, BoxError>(())
        };
        let service = WsStreamLayer::new(portforward::Protocols::default())
            .layer(PortForwardLayer::new().layer(service_fn(port)));

        let alone = Connect::to("/?ports=81").offer(subprotocols::V4);
        let seen = see(alone, service.clone()).await;
        let right = matches!(&seen, Seen::Session(transcript) if is_told(transcript, 1));
        wrong.check(format!("{} {when:?} alone", trap.name()), right, &seen);

        let beside = Connect::to("/?ports=80,81").offer(subprotocols::V4);
        let mut client = timeout(LONG, beside.connect(service))
            .await
            .unwrap()
            .unwrap();
        // The other port goes on until its client says that it is done.
        sleep(Duration::from_secs(5)).await;
        client.send(0, b"still there").await.unwrap();
        client.close(Some(1000)).await.unwrap();
        let transcript = timeout(LONG, client.read_to_end()).await.unwrap();
        let right = transcript.channel(0).ends_with(b"still there") && is_told(&transcript, 3);
        let what = format!("{} {when:?}", trap.name());
        wrong.check(what, right, &Seen::Session(transcript));
    }
}

/// Whether the error channel of port 81 says so.
fn is_told(transcript: &Transcript, channel: u8) -> bool {
    let text = transcript.channel(channel);
    text.get(2..)
        .is_some_and(|text| text.starts_with(b"error forwarding port 81: "))
}

struct FailingBody(Failing, Pin<Box<dyn Future<Output = ()> + Send>>);

impl Body for FailingBody {
    type Data = Bytes;
    type Error = Trapped;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Trapped>>> {
        let trapped = Trapped::new(self.0.trap);
        self.1.as_mut().poll(cx).map(|()| Some(Err(trapped)))
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_body_that_cannot_be_shown_is_500_or_1011() {
    let mut wrong = Wrong::default();
    // Each poll makes an error, so one with a trap in its drop is no good here.
    let shown = |(trap, when): &(Trap, When)| *when != When::Ready && *trap != Trap::Drop;
    for (trap, when) in all().filter(shown) {
        let failing = Failing { trap, when };
        let answer = move |_: Request<Incoming>| async move {
            let wait = sleep(Duration::from_secs(u64::from(failing.when == When::Later)));
            let body = FailingBody(failing, Box::pin(wait));
            Ok::<_, BoxError>(Response::new(body))
        };
        let service = WsReaderLayer::new().layer(service_fn(answer));
        let service = service.map_response(|answer: Response<_>| {
            answer.map(|body| http_body_util::BodyExt::map_err(body, |_| "a body failed"))
        });
        let seen = see(Connect::to("/"), service).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{} {when:?}", trap.name()), right, &seen);
    }
}

/// The payload of a panic is the user's too.
struct Payload;

impl Drop for Payload {
    fn drop(&mut self) {
        panic!("in the drop of a payload, on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_whose_payload_panics_when_it_is_dropped_is_a_panic() {
    let mut wrong = Wrong::default();
    for when in [When::AtOnce, When::Later] {
        let service = standard().layer(service_fn(move |channels: ChannelSet| async move {
            let _channels = channels;
            if when == When::Later {
                sleep(Duration::from_secs(1)).await;
            }
            panic_any::<Payload>(Payload);
            #[expect(unreachable_code, reason = "for the type of the future")]
            Ok::<_, BoxError>(())
        }));
        let seen = see(Connect::to("/"), service).await;
        let right = match when {
            When::Later => is_1011(&seen),
            _ => is_500(&seen),
        };
        wrong.check(format!("{when:?}"), right, &seen);
    }
}

// What belongs to a request.

/// A value that panics when it is dropped, where nothing unwinds already.
#[derive(Clone)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "in the drop of a bomb, on purpose"
        );
    }
}

type AddExtension = fn(Request<Incoming>) -> Request<Incoming>;

fn with_extension<S>(inner: S) -> tower::util::MapRequest<S, AddExtension>
where
    S: Service<Request<Incoming>>,
{
    let add: AddExtension = |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Bomb);
        request
    };
    inner.map_request(add)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_survives_the_drop_of_the_requests_extensions() {
    let mut wrong = Wrong::default();
    let cross = || Connect::to("/").header(header::ORIGIN, "https://evil.example");

    let by_head =
        with_extension(standard().layer(service_fn(async |_: ChannelSet| Ok::<_, BoxError>(()))));
    let seen = see(cross(), by_head).await;
    wrong.check("by the head".into(), refused_with(&seen, 403), &seen);

    let never = Failing {
        trap: Trap::Source,
        when: When::Ready,
    };
    let by_readiness = with_extension(standard().layer(never));
    let seen = see(Connect::to("/"), by_readiness).await;
    wrong.check("by readiness".into(), refused_with(&seen, 500), &seen);

    let body = async |_: Request<Incoming>| Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()));
    let by_reader = with_extension(WsReaderLayer::new().layer(service_fn(body)));
    let seen = see(cross(), by_reader).await;
    wrong.check("a reader's".into(), refused_with(&seen, 403), &seen);
}

fn refused_with(seen: &Seen, status: u16) -> bool {
    matches!(seen, Seen::Refused(seen, Some(_)) if *seen == status)
}

/// A body of a request that panics when it is dropped.
struct BombBody(#[allow(dead_code, reason = "goes off")] Bomb);

impl Body for BombBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(None)
    }
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_a_requests_body_changes_nothing() {
    let inner = standard().layer(service_fn(async |mut channels: ChannelSet| {
        channels.take_writer(1).unwrap().write_all(b"x").await?;
        Ok::<_, BoxError>(())
    }));
    let service = inner.map_request(|request: Request<Incoming>| request.map(|_| BombBody(Bomb)));
    let seen = see(Connect::to("/"), service).await;
    let mut wrong = Wrong::default();
    let right = matches!(&seen, Seen::Session(transcript) if transcript.channel(1) == b"x");
    wrong.check("accepted".into(), right, &seen);
}

#[tokio::test(start_paused = true)]
async fn the_drop_of_the_extensions_of_a_readers_answer_changes_nothing() {
    let answer = async |_: Request<Incoming>| {
        let mut answer = Response::new(http_body_util::Full::new(Bytes::from_static(b"x")));
        answer.extensions_mut().insert(Bomb);
        Ok::<_, BoxError>(answer)
    };
    let service = WsReaderLayer::new().layer(service_fn(answer));
    let seen = see(Connect::to("/"), service).await;
    let mut wrong = Wrong::default();
    let right = matches!(&seen, Seen::Session(transcript) if transcript.close_code == Some(1000));
    wrong.check("a reader's".into(), right, &seen);
}

/// A handler of an upgrade that cannot have its extensions gets no session.
#[tokio::test(start_paused = true)]
async fn an_extension_that_panics_in_clone_is_500_of_the_extractor() {
    struct Unclonable;
    impl Clone for Unclonable {
        fn clone(&self) -> Self {
            panic!("in the clone of an extension, on purpose")
        }
    }
    let mut head = Request::get("/")
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    head.extensions.insert(Unclonable);
    let extracting = pin!(async {
        <WsStreamUpgrade as axum::extract::FromRequestParts<()>>::from_request_parts(&mut head, &())
            .await
            .map(drop)
    });
    let mut extracting = extracting;
    let waker = std::task::Waker::noop();
    let polled = catch_unwind(AssertUnwindSafe(|| {
        extracting.as_mut().poll(&mut Context::from_waker(waker))
    }));
    let Ok(Poll::Ready(Err(rejection))) = polled else {
        panic!("it is refused, and does not panic");
    };
    assert_eq!(rejection.status(), 500);
}

/// A client that leaves takes the service with it, whatever that does.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_dropped_drops_the_service_quietly() {
    for explicit in [false, true] {
        #[derive(Clone)]
        struct Never(Arc<()>, bool);
        impl Drop for Never {
            fn drop(&mut self) {
                // The original stays; what is made of it goes off.
                let original = Arc::strong_count(&self.0) == 1;
                assert!(original || std::thread::panicking(), "on purpose");
            }
        }
        impl Service<ChannelSet> for Never {
            type Response = ();
            type Error = BoxError;
            type Future = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
                if self.1 {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            }
            fn call(&mut self, channels: ChannelSet) -> Self::Future {
                Box::pin(async move {
                    let (_channels, _bomb) = (channels, Bomb);
                    pending().await
                })
            }
        }
        let inner = Never(Arc::default(), explicit);
        let service = standard()
            .config(SessionConfig::default().accept(AcceptMode::Explicit))
            .layer(inner.clone());
        let mut service = std::mem::ManuallyDrop::new(service);
        let mut request = Request::get("/")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        let on = hyper::upgrade::on(&mut request);
        request.extensions_mut().insert(on);
        let mut answer = Box::pin(service.call(request));
        poll_fn(|cx| {
            assert!(answer.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(answer)));
        assert!(dropped.is_ok(), "explicit: {explicit}");
        std::mem::forget(inner);
    }
}

// Keys of a limit.

/// What a key does, and from which use on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Hash,
    Eq,
    Clone,
    Drop,
}

struct Key {
    uses: Arc<AtomicUsize>,
    trap: Use,
    after: usize,
}

impl Key {
    fn at(&self, at: Use) {
        if at == self.trap {
            let uses = self.uses.fetch_add(1, Ordering::Relaxed);
            assert!(uses < self.after, "in {at:?} of a key, on purpose");
        }
    }
}

impl Clone for Key {
    fn clone(&self) -> Self {
        self.at(Use::Clone);
        Self {
            uses: Arc::clone(&self.uses),
            ..*self
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, _: &Self) -> bool {
        self.at(Use::Eq);
        true
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, _: &mut H) {
        self.at(Use::Hash);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.at(Use::Drop);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_costs_its_own_session_at_most() {
    let mut wrong = Wrong::default();
    for trap in [Use::Hash, Use::Eq, Use::Clone, Use::Drop] {
        for after in 0..6 {
            // A panic of the session as well: its place is given back while that unwinds.
            for panics in [false, true] {
                let uses = Arc::<AtomicUsize>::default();
                let sessions = Sessions::default();
                let service = ServiceBuilder::new()
                    .layer(standard().sessions(sessions.clone()))
                    .layer(SessionLimitLayer::new(2, move |_: &ChannelSet| {
                        Some(Key {
                            uses: Arc::clone(&uses),
                            trap,
                            after,
                        })
                    }))
                    .service_fn(move |channels: ChannelSet| {
                        assert!(!panics, "in the call, on purpose");
                        async move {
                            let _channels = channels;
                            sleep(Duration::from_secs(1)).await;
                            Ok::<_, BoxError>(())
                        }
                    });
                for _ in 0..3 {
                    let seen = see(Connect::to("/"), service.clone()).await;
                    let right = match &seen {
                        Seen::Session(it) => it.close_code == Some(1000),
                        // What a key that cannot be found has taken is taken for ever.
                        _ => is_500(&seen) || refused_with(&seen, 429),
                    };
                    wrong.check(format!("{trap:?} {after} {panics}"), right, &seen);
                }
                sleep(LONG).await;
                assert!(sessions.is_empty());
            }
        }
    }
}

// The rest.

/// The end of a source is the end of what it said, whatever its drop does.
#[tokio::test(start_paused = true)]
async fn the_drop_of_a_source_at_its_end_changes_nothing() {
    struct Source(&'static [u8], #[allow(dead_code, reason = "goes off")] Bomb);
    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }
    let answer = async |_: Request<Incoming>| {
        Ok::<_, BoxError>(Response::new(WsReader::new(Source(b"a line\n", Bomb))))
    };
    let service = WsReaderLayer::new().layer(service_fn(answer));
    let seen = see(Connect::to("/"), service).await;
    let mut wrong = Wrong::default();
    let right = matches!(&seen, Seen::Session(transcript)
        if transcript.close_code == Some(1000) && transcript.channel(0) == b"a line\n");
    wrong.check("a source".into(), right, &seen);
}

/// Functions that the layer is given: each is asked, panics, and is answered for.
#[tokio::test(start_paused = true)]
async fn functions_of_the_user_that_panic_are_500() {
    let mut wrong = Wrong::default();
    let fine = || service_fn(async |_: ChannelSet| Ok::<_, BoxError>(()));

    let source =
        |_: &http::request::Parts| -> Result<ChannelProtocols, Rejection> { panic!("on purpose") };
    let seen = see(Connect::to("/"), WsStreamLayer::new(source).layer(fine())).await;
    wrong.check("source of protocols".into(), is_500(&seen), &seen);

    let policy = tower_wsstream::policy::OriginPolicy::predicate(|_, _| panic!("on purpose"));
    let connect = Connect::to("/").header(header::ORIGIN, "https://a.example");
    let seen = see(
        connect,
        standard()
            .config(SessionConfig::default().origin(policy))
            .layer(fine()),
    )
    .await;
    wrong.check("predicate of origins".into(), is_500(&seen), &seen);

    let mapped =
        standard().config(SessionConfig::default().map_rejection(|_| panic!("on purpose")));
    let failing = service_fn(async |_: ChannelSet| Err::<(), BoxError>("failed".into()));
    let seen = see(Connect::to("/"), mapped.layer(failing)).await;
    wrong.check("map_rejection".into(), is_500(&seen), &seen);

    let keyed = SessionLimitLayer::new(1, |_: &ChannelSet| -> Option<u8> { panic!("on purpose") });
    let seen = see(Connect::to("/"), standard().layer(keyed.layer(fine()))).await;
    wrong.check("key of a limit".into(), is_500(&seen), &seen);

    let tapped = tower_wsstream::channel::tap::TapLayer::new(|_: &ChannelSet| panic!("on purpose"));
    let seen = see(Connect::to("/"), standard().layer(tapped.layer(fine()))).await;
    wrong.check("function of a tap".into(), is_500(&seen), &seen);

    let told = standard().config(SessionConfig::default().on_end(|_| panic!("on purpose")));
    let seen = see(Connect::to("/"), told.layer(fine())).await;
    let right = matches!(&seen, Seen::Session(it) if it.close_code == Some(1000));
    wrong.check("on_end".into(), right, &seen);

    let words = service_fn(async |channels: ChannelSet| {
        channels.session().say_last(|_| panic!("on purpose"));
        Ok::<_, BoxError>(())
    });
    let seen = see(Connect::to("/"), standard().layer(words)).await;
    wrong.check("last words".into(), is_1011(&seen), &seen);
}

/// A service that panics in the clone for the second port, and must not be dropped while that
/// unwinds: a second panic, in a drop, would abort the process.
struct Fragile {
    /// Clones that are left, from readiness on.
    clones: Option<Arc<AtomicUsize>>,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        if let Some(clones) = &self.clones {
            let left = clones.load(Ordering::Relaxed);
            assert!(left > 0, "in a clone, on purpose");
            clones.store(left - 1, Ordering::Relaxed);
        }
        Self {
            clones: self.clones.clone(),
        }
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!std::thread::panicking(), "in a drop, on purpose");
    }
}

impl Service<ForwardedPort> for Fragile {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // The one that is called is replaced by a clone, so the next one is for a port.
        self.clones = Some(Arc::new(AtomicUsize::new(1)));
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: ForwardedPort) -> Self::Future {
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn a_port_that_panics_in_its_clone_drops_the_others_quietly() {
    let service = WsStreamLayer::new(portforward::Protocols::default())
        .layer(PortForwardLayer::new().layer(Fragile { clones: None }));
    let connect = Connect::to("/?ports=80,81,82").offer(subprotocols::V4);
    let seen = see(connect, service).await;
    assert!(is_500(&seen), "{seen:?}");
}
