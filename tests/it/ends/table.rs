//! The table of [`EndCause`], as its documentation has it: each cause on each
//! subprotocol, with a plain service and with a command's.

use std::{collections::BTreeSet, io::ErrorKind};

use tokio::sync::watch;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_wsstream::{
    ChannelReader, ChannelWriter, Rejection, SessionConfig, Status, WsStream, WsStreamLayer,
    policy::KeepAlive, remotecommand::*,
};

use super::*;

/// One for each way into each cause.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cause {
    Completed,
    ServiceFailed,
    ServicePanicked,
    ClosedWell,
    ClosedWithoutCode,
    ClosedBadly,
    Closed,
    IdleTimeout,
    TimeLimit,
    Drained,
    PeerUnresponsive,
    UpgradeFailed,
    UpgradeTimedOut,
    ConnectionLost,
    ProtocolError,
    TooLarge,
    InvalidText,
    Stalled,
    Refused,
    Aborted,
}

use Cause::*;

const CAUSES: [Cause; 20] = [
    Completed,
    ServiceFailed,
    ServicePanicked,
    ClosedWell,
    ClosedWithoutCode,
    ClosedBadly,
    Closed,
    IdleTimeout,
    TimeLimit,
    Drained,
    PeerUnresponsive,
    UpgradeFailed,
    UpgradeTimedOut,
    ConnectionLost,
    ProtocolError,
    TooLarge,
    InvalidText,
    Stalled,
    Refused,
    Aborted,
];

const EVERY: [&str; 8] = [
    "",
    subprotocols::CHANNEL,
    subprotocols::BASE64_CHANNEL,
    subprotocols::V2,
    subprotocols::V3,
    subprotocols::V4,
    subprotocols::V4_BASE64,
    subprotocols::V5,
];

const HALF_CLOSE: &str = subprotocols::V5;

/// What the handles see.
struct Row {
    /// The variant, and what it says.
    variant: &'static str,
    words: &'static str,
    /// A reader without half-close and with it; `None` for EOF.
    whole: Option<ErrorKind>,
    half: Option<ErrorKind>,
    /// Whether a writer still works in the grace.
    late: bool,
}

fn row(cause: Cause) -> Row {
    use ErrorKind::{ConnectionAborted, ConnectionReset, InvalidData, TimedOut};
    let row = |variant, words, kind, late| Row {
        variant,
        words,
        whole: Some(kind),
        half: Some(kind),
        late,
    };
    match cause {
        Completed => row(
            "Completed",
            "the service has finished",
            ConnectionAborted,
            false,
        ),
        ServiceFailed => row(
            "ServiceFailed",
            "the service failed",
            ConnectionAborted,
            true,
        ),
        ServicePanicked => row(
            "ServicePanicked",
            "the service panicked",
            ConnectionAborted,
            true,
        ),
        ClosedWell => Row {
            whole: None,
            ..row(
                "PeerClosed",
                "the peer closed with code 1000",
                ConnectionAborted,
                true,
            )
        },
        ClosedWithoutCode => Row {
            whole: None,
            ..row(
                "PeerClosed",
                "the peer closed without a code",
                ConnectionAborted,
                true,
            )
        },
        ClosedBadly => row(
            "PeerClosed",
            "the peer closed with code 1001",
            ConnectionAborted,
            true,
        ),
        Closed => row(
            "Closed",
            "closed here with code 4001",
            ConnectionAborted,
            false,
        ),
        IdleTimeout => row(
            "IdleTimeout",
            "no data was exchanged within the idle timeout",
            TimedOut,
            true,
        ),
        TimeLimit => row(
            "TimeLimit",
            "the time limit of the session has expired",
            TimedOut,
            true,
        ),
        Drained => row(
            "Drained",
            "the server is shutting down",
            ConnectionAborted,
            true,
        ),
        PeerUnresponsive => row(
            "PeerUnresponsive",
            "the peer does not answer",
            TimedOut,
            false,
        ),
        UpgradeFailed => row(
            "UpgradeFailed",
            "the server did not hand the connection over: not connected",
            ConnectionReset,
            false,
        ),
        UpgradeTimedOut => row(
            "UpgradeFailed",
            "the server did not hand the connection over: timed out",
            ConnectionReset,
            false,
        ),
        ConnectionLost => row(
            "ConnectionLost",
            "the connection is lost: unexpected end of file",
            ConnectionReset,
            false,
        ),
        ProtocolError => row(
            "ProtocolError",
            "the peer broke the protocol: ",
            InvalidData,
            false,
        ),
        TooLarge => row(
            "TooLarge",
            "the peer sent more than the limits allow",
            InvalidData,
            false,
        ),
        InvalidText => row(
            "InvalidText",
            "the peer sent invalid text: text is not UTF-8",
            InvalidData,
            false,
        ),
        // Only behind a cause that stays what it was.
        Stalled => row(
            "Stalled",
            "the service has finished",
            ConnectionAborted,
            false,
        ),
        Refused | Aborted => row("Aborted", "the session was aborted", ConnectionReset, false),
    }
}

/// What comes on channel 3 from a command: in JSON since v4, before that its
/// message alone.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Say {
    Nothing,
    /// The command's own exit status.
    Exit,
    Failed,
    Panicked,
    Idle,
    Limited,
    Drained,
    /// The session ended first.
    Ended,
}

impl Say {
    /// Reason, code, and what is in the message.
    fn words(self) -> Option<(&'static str, u16, &'static str)> {
        Some(match self {
            Self::Nothing => return None,
            Self::Exit => ("NonZeroExitCode", 500, "exit status 3"),
            Self::Failed => ("InternalError", 500, "failed on purpose"),
            Self::Panicked => ("InternalError", 500, "the command's service failed"),
            Self::Idle => ("Timeout", 504, "the session was idle for too long"),
            Self::Limited => ("Timeout", 504, "the session has reached its time limit"),
            Self::Drained => ("ServiceUnavailable", 503, "the server is shutting down"),
            Self::Ended => (
                "InternalError",
                500,
                "the session ended before the command did",
            ),
        })
    }
}

/// `None` where no Close comes.
type Code = Option<Option<u16>>;

/// How the service can end behind a cause.
fn hows(cause: Cause) -> &'static [How] {
    match cause {
        Completed | Stalled => &[How::Ok],
        ServiceFailed | Refused => &[How::Err],
        ServicePanicked => &[How::Panic],
        Aborted => &[How::Never],
        ClosedWell | ClosedWithoutCode | ClosedBadly | Closed | IdleTimeout | TimeLimit
        | Drained | PeerUnresponsive | UpgradeFailed | UpgradeTimedOut | ConnectionLost
        | ProtocolError | TooLarge | InvalidText => &[How::Ok, How::Err, How::Panic, How::Never],
    }
}

/// What the client gets: the code of the Close where the service is a plain one;
/// what a command says, and the code behind that.
fn client(cause: Cause, how: How) -> (Code, Say, Code) {
    let said = |ended| match how {
        How::Ok => Say::Exit,
        How::Err => Say::Failed,
        How::Panic => Say::Panicked,
        How::Never => ended,
    };
    let only = |code| (Some(Some(code)), Say::Nothing, Some(Some(code)));
    match cause {
        Completed | ServiceFailed | ServicePanicked => (
            Some(Some(own_code(how))),
            said(Say::Nothing),
            Some(Some(1000)),
        ),
        ClosedWell => (Some(Some(1000)), said(Say::Ended), Some(Some(1000))),
        ClosedWithoutCode => (Some(None), said(Say::Ended), Some(None)),
        ClosedBadly => (Some(Some(1001)), said(Say::Ended), Some(Some(1001))),
        Closed => (Some(Some(4001)), said(Say::Ended), Some(Some(4001))),
        IdleTimeout | TimeLimit | Drained => {
            let told = if how == How::Ok { 1000 } else { 1001 };
            let say = match cause {
                IdleTimeout => Say::Idle,
                TimeLimit => Say::Limited,
                _ => Say::Drained,
            };
            (Some(Some(told)), said(say), Some(Some(1000)))
        }
        ProtocolError => only(1002),
        TooLarge => only(1009),
        InvalidText => only(1007),
        PeerUnresponsive | UpgradeFailed | UpgradeTimedOut | ConnectionLost | Stalled | Refused
        | Aborted => (None, Say::Nothing, None),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Plain,
    Command,
}

struct Handles {
    stdin: ChannelReader,
    stdout: ChannelWriter,
    stderr: ChannelWriter,
    session: Session,
}

struct Saw {
    cause: EndCause,
    /// A write as soon as the cause is known.
    write: io::Result<()>,
    input: (Vec<u8>, End),
    /// A write when all is over.
    after: io::Result<()>,
}

/// Holds the handles of a session, in a task of its own.
async fn observe(
    cause: Cause,
    handles: Handles,
    ready: oneshot::Sender<()>,
    over: oneshot::Receiver<()>,
) -> Saw {
    let Handles {
        mut stdin,
        mut stdout,
        mut stderr,
        session,
    } = handles;
    if cause == Stalled {
        stdout.send(vec![7; 100_000]).await.unwrap();
        drop(stdout);
        drop(stderr);
        let _ = ready.send(());
        let cause = session.ended().await;
        let input = read_out(&mut stdin).await;
        let gone = || Err(cause.clone().into());
        return Saw {
            write: gone(),
            after: gone(),
            cause,
            input,
        };
    }
    // It must keep nothing open, and is tried again in the end.
    let _ = stderr.shutdown().await;
    if cause == Completed {
        // The session would wait for it.
        let _ = stdout.shutdown().await;
    }
    let _ = ready.send(());
    let why = session.ended().await;
    let write = stdout.write_all(b"late").await;
    drop(stdout);
    let input = read_out(&mut stdin).await;
    let _ = over.await;
    Saw {
        cause: why,
        write,
        input,
        after: stderr.write_all(b"after").await,
    }
}

/// What one session is made of.
struct Plan {
    cause: Cause,
    how: How,
    /// Its error is the end that it was told, as a read's is with `?`.
    passes_on: bool,
    ready: oneshot::Sender<()>,
    over: oneshot::Receiver<()>,
    saw: oneshot::Sender<Saw>,
    go: watch::Receiver<bool>,
}

impl Plan {
    /// The service's part.
    async fn run(mut self, handles: Handles, kind: Kind) -> Result<(), BoxError> {
        let session = handles.session.clone();
        let (cause, saw) = (self.cause, self.saw);
        let observer = observe(cause, handles, self.ready, self.over);
        tokio::spawn(async move { saw.send(observer.await).map_err(drop) });
        if cause == Refused {
            return Err(Rejection::new(http::StatusCode::NOT_FOUND, "not here").into());
        }
        match cause {
            // It is a layer around the command that fails.
            ServiceFailed | ServicePanicked if kind == Kind::Command => {
                std::future::pending::<()>().await;
            }
            Completed | ServiceFailed | ServicePanicked | Stalled => {
                let _ = self.go.wait_for(|go| *go).await;
            }
            Closed => {
                let _ = self.go.wait_for(|go| *go).await;
                session.close(4001, "going")?;
                session.ended().await;
            }
            _ => {
                session.ended().await;
            }
        }
        if self.passes_on {
            return Err(io::Error::from(session.ended().await).into());
        }
        finish(self.how).await
    }
}

type Finish = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;
type Sessions = WsStream<BoxCloneSyncService<ChannelSet, (), BoxError>>;

fn service(plan: Plan, kind: Kind, registry: &tower_wsstream::Sessions) -> Sessions {
    let limits = Limits::default().max_frame(LARGEST);
    let config = SessionConfig::default()
        .limits(limits)
        .sessions(registry.clone());
    let config = match plan.cause {
        IdleTimeout => config.keep_alive(None).idle_timeout(secs(60)),
        TimeLimit => config.keep_alive(None).time_limit(secs(60)),
        PeerUnresponsive => config.keep_alive(KeepAlive::every(secs(20)).timeout(secs(10))),
        _ => config.keep_alive(None),
    };
    let layer = WsStreamLayer::new(Protocols::default()).config(config);
    let (cause, how, go) = (plan.cause, plan.how, plan.go.clone());
    let plan = Arc::new(Mutex::new(Some(plan)));
    let take = move || plan.lock().unwrap().take().expect("there is one session");
    layer.layer(match kind {
        Kind::Plain => BoxCloneSyncService::new(service_fn(move |mut set: ChannelSet| {
            let handles = Handles {
                stdin: set.take_reader(0).unwrap(),
                stdout: set.take_writer(1).unwrap(),
                stderr: set.take_writer(2).unwrap(),
                session: set.session().clone(),
            };
            take().run(handles, Kind::Plain)
        })),
        Kind::Command => {
            let command = ServiceBuilder::new()
                .layer(RemoteCommandLayer::new())
                .service_fn(move |mut command: RemoteCommand| {
                    let handles = Handles {
                        stdin: command.stdin.take().unwrap(),
                        stdout: command.stdout.take().unwrap(),
                        stderr: command.stderr.take().unwrap(),
                        session: command.session,
                    };
                    let run = take().run(handles, Kind::Command);
                    async move { run.await.map(|()| ExitStatus::from_code(3)) }
                });
            BoxCloneSyncService::new(service_fn(move |set| {
                let inner = command.clone().oneshot(set);
                let mut go = go.clone();
                // A layer around the command that fails in its place.
                let around: Finish = Box::pin(async move {
                    if !matches!(cause, ServiceFailed | ServicePanicked) {
                        return std::future::pending().await;
                    }
                    let _ = go.wait_for(|go| *go).await;
                    finish(how).await
                });
                let inner: Finish = Box::pin(inner);
                Box::pin(async move {
                    tokio::select! {
                        result = inner => result,
                        result = around => result,
                    }
                }) as Finish
            }))
        }
    })
}

const PATH: &str = "/exec?command=x&stdin=true&stdout=true&stderr=true";

/// A server that has the answer, and does not send it.
fn withhold(io: DuplexStream, cause: Cause, mut service: Sessions) {
    serve(
        io,
        service_fn(move |request| {
            let answer = service.call(request);
            async move {
                answer.await?;
                match cause {
                    UpgradeFailed => Err(BoxError::from("withheld")),
                    _ => std::future::pending::<Result<http::Response<String>, _>>().await,
                }
            }
        }),
    );
}

/// What the client was told, if it became one at all.
async fn trigger(
    cause: Cause,
    subprotocol: &str,
    service: Sessions,
    ready: oneshot::Receiver<()>,
    go: &watch::Sender<bool>,
    registry: &tower_wsstream::Sessions,
) -> Option<Told> {
    let capacity = if cause == Stalled { 4096 } else { 256 * 1024 };
    let (near, far) = tokio::io::duplex(capacity);
    if matches!(cause, UpgradeFailed | UpgradeTimedOut) {
        withhold(far, cause, service);
        let answer = Raw::handshake_at(near, PATH, subprotocol);
        // Without an end there would be none: the server has its connection still.
        let answer = tokio::time::timeout(secs(20), answer).await;
        assert!(!matches!(answer, Ok(Ok(_))), "no 101 has been sent");
        return None;
    }
    serve(far, service);
    let client = match Raw::handshake_at(near, PATH, subprotocol).await {
        Ok(client) => client,
        Err(answer) => {
            assert_eq!(cause, Refused, "{answer}");
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            return None;
        }
    };
    let mut client = client;
    client.send(0, b"before").await.unwrap();
    within(LONG, ready).await.unwrap();
    let acted = match cause {
        ClosedWell => act(Act::Close(Some(1000)), client).await,
        ClosedWithoutCode => act(Act::Close(None), client).await,
        ClosedBadly => act(Act::Close(Some(1001)), client).await,
        ProtocolError => act(Act::ReservedBit, client).await,
        TooLarge => act(Act::TooLarge, client).await,
        InvalidText => act(Act::NotUtf8, client).await,
        ConnectionLost => {
            client.io.shutdown().await.unwrap();
            Some(client)
        }
        Completed | ServiceFailed | ServicePanicked | Closed => {
            go.send_replace(true);
            Some(client)
        }
        Stalled => {
            go.send_replace(true);
            sleep(secs(91)).await;
            Some(client)
        }
        Drained => {
            drop(registry.drain(LONG));
            Some(client)
        }
        IdleTimeout | TimeLimit | PeerUnresponsive => Some(client),
        UpgradeFailed | UpgradeTimedOut | Refused | Aborted => unreachable!("{cause:?}"),
    };
    let mut client = acted.expect("the client is still there");
    Some(within(LONG, client.read_to_end()).await)
}

/// One cell. Returns the variant that the handles saw.
async fn cell(cause: Cause, how: How, kind: Kind, subprotocol: &str) -> String {
    cell_of(cause, how, false, kind, subprotocol).await
}

async fn cell_of(cause: Cause, how: How, passes_on: bool, kind: Kind, subprotocol: &str) -> String {
    let context = format!("{cause:?}, {kind:?} service, {how:?}, on {subprotocol:?}");
    let (ready, when_ready) = oneshot::channel();
    let (over, when_over) = oneshot::channel();
    let (saw, seen) = oneshot::channel();
    let (go, when_go) = watch::channel(false);
    let plan = Plan {
        cause,
        how,
        passes_on,
        ready,
        over: when_over,
        saw,
        go: when_go,
    };
    let registry = tower_wsstream::Sessions::default();
    let service = service(plan, kind, &registry);
    let told = trigger(cause, subprotocol, service, when_ready, &go, &registry).await;
    drop(over);
    let saw = within(LONG, seen).await.expect(&context);
    check_handles(cause, subprotocol, &saw, told.is_some(), &context);
    check_client(cause, how, kind, subprotocol, told, &context);
    format!("{:?}", saw.cause)
}

fn check_handles(cause: Cause, subprotocol: &str, saw: &Saw, connected: bool, context: &str) {
    let row = row(cause);
    let said = saw.cause.to_string();
    assert!(said.starts_with(row.words), "{context}: {said}");
    let kind = if subprotocol == HALF_CLOSE {
        row.half
    } else {
        row.whole
    };
    let end = match kind {
        None => End::Eof,
        Some(kind) => End::Error(kind, saw.cause.clone()),
    };
    let before: &[u8] = if connected { b"before" } else { b"" };
    assert_eq!(saw.input, (before.to_vec(), end), "{context}");
    let broken = End::Error(ErrorKind::BrokenPipe, saw.cause.clone());
    if cause == Stalled {
        // Its writers are gone, or it would not be over for them.
        return;
    }
    match &saw.write {
        Ok(()) => assert!(row.late, "{context}: a write behind the end"),
        Err(error) => {
            assert!(!row.late, "{context}: no write in the grace");
            assert_eq!(End::of(error), broken, "{context}");
        }
    }
    let error = saw.after.as_ref().expect_err(context);
    assert_eq!(End::of(error), broken, "{context}");
}

fn check_client(
    cause: Cause,
    how: How,
    kind: Kind,
    subprotocol: &str,
    told: Option<Told>,
    context: &str,
) {
    let Some(told) = told else { return };
    let (plain, say, command) = client(cause, how);
    let (say, code) = match kind {
        Kind::Plain => (Say::Nothing, plain),
        Kind::Command => (say, command),
    };
    assert_eq!(told.close, code, "{context}");
    if cause != Stalled {
        let late = if row(cause).late { "late" } else { "" };
        assert_eq!(told.text(1), late, "{context}");
    }
    let on_error: Vec<_> = told.messages.iter().filter(|(id, _)| *id == 3).collect();
    let Some((reason, code, text)) = say.words() else {
        return assert!(on_error.is_empty(), "{context}: {on_error:?}");
    };
    assert_eq!(on_error.len(), 1, "{context}");
    assert_eq!(told.messages.last(), Some(on_error[0]), "{context}");
    let message = if subprotocol.starts_with("v4.") || subprotocol.starts_with("v5.") {
        let status = Status::from_json(&on_error[0].1).expect(context);
        let seen = (status.reason(), status.code());
        assert_eq!(seen, (Some(reason), Some(code)), "{context}");
        status.message().unwrap_or_default().to_owned()
    } else {
        String::from_utf8(on_error[0].1.clone()).expect(context)
    };
    assert!(message.contains(text), "{context}: {message}");
    if say == Say::Ended {
        assert!(message.ends_with(row(cause).words), "{context}: {message}");
    }
}

/// A runtime that is shut down: what handles see that were carried out of it.
fn aborted(kind: Kind, subprotocol: &'static str) -> Saw {
    let (ready, _) = oneshot::channel();
    let (_, over) = oneshot::channel();
    let (saw, _) = oneshot::channel();
    let (_, go) = watch::channel(false);
    let (handed, handles) = oneshot::channel();
    let plan = Plan {
        cause: Aborted,
        how: How::Never,
        passes_on: false,
        ready,
        over,
        saw,
        go,
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    // Ends behind the runtime, so that the connection is not what is lost.
    let (near, far) = tokio::io::duplex(4096);
    let (client, handles) = runtime.block_on(async move {
        let inner = hand(handed, kind);
        drop(plan);
        let layer = WsStreamLayer::new(Protocols::default());
        serve(far, layer.layer(inner));
        let mut client = Raw::handshake_at(near, PATH, subprotocol).await.unwrap();
        client.send(0, b"before").await.unwrap();
        let mut handles: Handles = handles.await.unwrap();
        let mut first = [0; 3];
        handles.stdin.read_exact(&mut first).await.unwrap();
        (client, handles)
    });
    drop(runtime);
    let waiting = tokio::runtime::Builder::new_current_thread();
    let waiting = { waiting }.enable_all().build().unwrap();
    waiting.block_on(async move {
        let Handles {
            mut stdin,
            mut stdout,
            mut stderr,
            session,
        } = handles;
        let mut client = client;
        let told = client.read_to_end().await;
        assert_eq!((told.close, told.text(3)), (None, String::new()));
        let cause = session.ended().await;
        let (rest, end) = read_out(&mut stdin).await;
        Saw {
            cause,
            write: stdout.write_all(b"late").await,
            input: ([b"bef", rest.as_slice()].concat(), end),
            after: stderr.write_all(b"after").await,
        }
    })
}

/// Hands the handles out, and stays.
fn hand(
    handed: oneshot::Sender<Handles>,
    kind: Kind,
) -> BoxCloneSyncService<ChannelSet, (), BoxError> {
    let handed = Arc::new(Mutex::new(Some(handed)));
    let give = move |handles| {
        let handed = handed.lock().unwrap().take();
        let _ = handed.expect("there is one session").send(handles);
    };
    match kind {
        Kind::Plain => BoxCloneSyncService::new(service_fn(move |mut set: ChannelSet| {
            give(Handles {
                stdin: set.take_reader(0).unwrap(),
                stdout: set.take_writer(1).unwrap(),
                stderr: set.take_writer(2).unwrap(),
                session: set.session().clone(),
            });
            std::future::pending()
        })),
        Kind::Command => {
            let command = ServiceBuilder::new()
                .layer(RemoteCommandLayer::new())
                .service_fn(move |command: RemoteCommand| {
                    give(Handles {
                        stdin: command.stdin.unwrap(),
                        stdout: command.stdout.unwrap(),
                        stderr: command.stderr.unwrap(),
                        session: command.session,
                    });
                    std::future::pending::<Result<ExitStatus, BoxError>>()
                });
            BoxCloneSyncService::new(command)
        }
    }
}

async fn every_cell_of(cause: Cause) -> BTreeSet<String> {
    let _watchdog = Watchdog::bites_after(secs(50));
    let mut seen = BTreeSet::new();
    for subprotocol in EVERY {
        for kind in [Kind::Plain, Kind::Command] {
            for how in hows(cause) {
                let debug = cell(cause, *how, kind, subprotocol).await;
                seen.insert(name_of(&debug).to_owned());
            }
        }
    }
    seen
}

fn name_of(debug: &str) -> &str {
    debug.split([' ', '{', '(']).next().unwrap()
}

#[tokio::test(start_paused = true)]
async fn each_cell_is_what_the_table_says() {
    for cause in CAUSES {
        if cause == Aborted {
            continue;
        }
        let seen = every_cell_of(cause).await;
        if cause != Stalled {
            let variant = row(cause).variant.to_owned();
            assert_eq!(seen, BTreeSet::from([variant]), "{cause:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_passes_on_its_end_is_told_of_as_one_that_was_dropped() {
    for cause in [
        IdleTimeout,
        TimeLimit,
        Drained,
        ClosedWell,
        ClosedBadly,
        Closed,
    ] {
        for subprotocol in EVERY {
            for kind in [Kind::Plain, Kind::Command] {
                cell_of(cause, How::Never, true, kind, subprotocol).await;
            }
        }
    }
}

#[test]
fn handles_outlive_their_runtime() {
    let _watchdog = Watchdog::bites_after(secs(50));
    for kind in [Kind::Plain, Kind::Command] {
        for subprotocol in EVERY {
            let context = format!("{kind:?} service, on {subprotocol:?}");
            let saw = aborted(kind, subprotocol);
            check_handles(Aborted, subprotocol, &saw, true, &context);
        }
    }
}

/// The variants of `EndCause`, from its source: the compiler lets no other crate
/// match them all.
fn variants() -> Vec<&'static str> {
    let source = include_str!("../../../src/error/end_cause.rs");
    let (_, body) = source.split_once("pub enum EndCause {\n").unwrap();
    let (body, _) = body.split_once("\n}\n").unwrap();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    lines
        .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
        .map(|line| line.trim_end_matches([',', '{', ' ']))
        .collect()
}

#[test]
fn the_table_has_every_cause_here_and_in_the_documentation() {
    let mut tested: Vec<_> = CAUSES.iter().map(|cause| row(*cause).variant).collect();
    tested.sort_unstable();
    tested.dedup();
    let mut variants = variants();
    variants.sort_unstable();
    assert_eq!(tested, variants);

    let source = include_str!("../../../src/error/end_cause.rs");
    for variant in variants {
        let rows = source
            .lines()
            .filter(|line| line.starts_with(&format!("/// | `{variant}")));
        assert!(rows.count() > 0, "no row for {variant}");
    }
}
