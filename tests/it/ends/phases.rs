//! What a service can do wrong, in each phase of its session: the client always
//! gets its answer, and nothing is left running.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceBuilder};
use tower_wsstream::{
    AcceptMode, ChannelReader, ChannelWriter, SessionConfig, Status, WsStreamLayer,
    remotecommand::*,
};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Error,
    Panic,
    /// It returns `Ok`, whatever is unread.
    Ok,
    Never,
    /// It drops a handle, or all, and goes on for a while.
    DropsOne,
    DropsAll,
    /// Another task has its handles for two seconds more.
    Leaks,
    /// Its future does, after it has returned.
    PanicsInDrop,
}

use What::*;

const WHATS: [What; 8] = [
    Error,
    Panic,
    Ok,
    Never,
    DropsOne,
    DropsAll,
    Leaks,
    PanicsInDrop,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    PollReady,
    Call,
    FirstPoll,
    /// With an [`AcceptMode::Explicit`] that it has not used.
    Undecided,
    AfterMessage,
    /// The client does not read.
    InLargeWrite,
    /// The client sends more than the window takes.
    Paused,
    OutputHeld,
    /// The client has ended its input.
    AfterInput,
    AfterClose,
    InGrace,
    /// Its own Close waits for the client to read.
    Closing,
    Lingering,
}

const WHENS: [When; 13] = [
    When::PollReady,
    When::Call,
    When::FirstPoll,
    When::Undecided,
    When::AfterMessage,
    When::InLargeWrite,
    When::Paused,
    When::OutputHeld,
    When::AfterInput,
    When::AfterClose,
    When::InGrace,
    When::Closing,
    When::Lingering,
];

#[derive(Clone, Copy, Debug)]
struct Cell {
    when: When,
    what: What,
    command: bool,
    subprotocol: &'static str,
}

impl Cell {
    /// Whether there is such a thing.
    fn makes_sense(self) -> bool {
        match self.when {
            When::PollReady => matches!(self.what, Error | Panic | Never),
            When::Call => self.what == Panic,
            When::AfterInput => self.subprotocol == subprotocols::V5,
            _ => true,
        }
    }

    /// The answer where there is no session.
    fn refusal(self) -> Option<u16> {
        match (self.when, self.what) {
            (When::PollReady | When::Undecided, Never) => Some(504),
            (When::PollReady, _) => Some(500),
            // Of a command that is told with a Status.
            (When::Call | When::FirstPoll | When::Undecided, Error | Panic) => {
                (!self.command).then_some(500)
            }
            _ => None,
        }
    }

    fn close_code(self) -> u16 {
        match (self.when, self.what) {
            (When::Closing | When::Lingering, _) => 4001,
            (When::AfterClose | When::InGrace, _) => 1000,
            (_, Error | Panic) if !self.command => 1011,
            _ => 1000,
        }
    }

    /// Whether the command's Status is a success.
    fn succeeds(self) -> bool {
        match self.when {
            // It had not returned when the session said its last.
            When::Closing | When::Lingering => false,
            _ => !matches!(self.what, Error | Panic | Never),
        }
    }

    /// Within this time of the client's last act there is an end.
    fn limit(self) -> Duration {
        let half_close = self.subprotocol == subprotocols::V5;
        let grace = if half_close { secs(1) } else { secs(30) };
        let what = match self.what {
            Never => grace,
            Leaks => secs(2),
            _ => millis(100),
        };
        let when = match self.when {
            When::InGrace => millis(500),
            When::OutputHeld | When::Lingering => millis(300),
            // What comes in a trickle before the Close is seen.
            When::Paused => secs(5),
            _ => Duration::ZERO,
        };
        // Output of a command is held for a quarter of a second.
        what + when + millis(300)
    }

    /// Whether the client has to end what the service does not.
    fn is_endless(self) -> bool {
        let ends = matches!(
            self.when,
            When::AfterClose | When::InGrace | When::Closing | When::Lingering
        );
        self.what == Never && !ends
    }
}

struct Handles {
    stdin: ChannelReader,
    stdout: ChannelWriter,
    _stderr: ChannelWriter,
    session: Session,
}

type Finish = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// Brings the session to where the service does it.
async fn reach(when: When, handles: &mut Handles) -> Result<(), BoxError> {
    let Handles {
        stdin,
        stdout,
        session,
        ..
    } = handles;
    match when {
        When::PollReady | When::Call | When::FirstPoll => return Result::Ok(()),
        When::Undecided => {
            sleep(millis(5)).await;
            return Result::Ok(());
        }
        When::AfterMessage => {
            stdin.read_exact(&mut [0]).await?;
        }
        When::InLargeWrite => {
            let large = vec![7; 1_000_000];
            let write = tokio::time::timeout(millis(50), stdout.write_all(&large));
            write.await.expect_err("the client does not read");
            return Result::Ok(());
        }
        When::Paused => sleep(millis(700)).await,
        When::OutputHeld => {
            session.hold_output(Hold::until_peer_reads(millis(20), millis(250)));
            sleep(millis(5)).await;
        }
        When::AfterInput => {
            stdin.read_to_end(&mut Vec::new()).await?;
        }
        When::AfterClose => {
            session.ended().await;
        }
        When::InGrace => {
            session.ended().await;
            sleep(millis(500)).await;
        }
        When::Closing => {
            stdout.send(vec![7; 100_000]).await?;
            session.close(4001, "")?;
            sleep(millis(50)).await;
            return Result::Ok(());
        }
        When::Lingering => {
            session.close(4001, "")?;
            sleep(millis(550)).await;
            return Result::Ok(());
        }
    }
    stdout.write_all(b"out").await?;
    Result::Ok(())
}

async fn run(cell: Cell, mut handles: Handles) -> Result<(), BoxError> {
    reach(cell.when, &mut handles).await?;
    match cell.what {
        Error => return Err("failed on purpose".into()),
        Panic => panic!("panicked on purpose"),
        Ok | PanicsInDrop => {}
        Never => std::future::pending().await,
        DropsOne => {
            drop(handles.stdout);
            sleep(millis(100)).await;
        }
        DropsAll => {
            drop(handles);
            sleep(millis(100)).await;
        }
        Leaks => {
            tokio::spawn(async move {
                let _held = handles;
                sleep(secs(2)).await;
            });
        }
    }
    Result::Ok(())
}

/// Panics when it is dropped, where that is wanted.
struct Mine(bool);

impl Drop for Mine {
    fn drop(&mut self) {
        assert!(!self.0, "panicked in drop, on purpose");
    }
}

struct Mined {
    future: Finish,
    _alive: Arc<()>,
    _mine: Mine,
}

impl Future for Mined {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

#[derive(Clone)]
struct Inner {
    cell: Cell,
    alive: Arc<()>,
}

impl Inner {
    fn ready(&self) -> Poll<Result<(), BoxError>> {
        match (self.cell.when, self.cell.what) {
            (When::PollReady, Never) => Poll::Pending,
            (When::PollReady, Panic) => panic!("panicked on purpose"),
            (When::PollReady, _) => Poll::Ready(Err("failed on purpose".into())),
            _ => Poll::Ready(Result::Ok(())),
        }
    }

    fn start(&self, handles: Handles) -> Mined {
        assert!(self.cell.when != When::Call, "panicked on purpose");
        Mined {
            future: Box::pin(run(self.cell, handles)),
            _alive: Arc::clone(&self.alive),
            _mine: Mine(self.cell.what == PanicsInDrop),
        }
    }
}

impl Service<ChannelSet> for Inner {
    type Response = ();
    type Error = BoxError;
    type Future = Mined;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready()
    }

    fn call(&mut self, mut set: ChannelSet) -> Mined {
        self.start(Handles {
            stdin: set.take_reader(0).unwrap(),
            stdout: set.take_writer(1).unwrap(),
            _stderr: set.take_writer(2).unwrap(),
            session: set.session().clone(),
        })
    }
}

impl Service<RemoteCommand> for Inner {
    type Response = ExitStatus;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<ExitStatus, BoxError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.ready()
    }

    fn call(&mut self, command: RemoteCommand) -> Self::Future {
        let mined = self.start(Handles {
            stdin: command.stdin.unwrap(),
            stdout: command.stdout.unwrap(),
            _stderr: command.stderr.unwrap(),
            session: command.session,
        });
        Box::pin(AsExit(mined))
    }
}

/// Not an `async` block, which would drop the future before it has returned.
struct AsExit(Mined);

impl Future for AsExit {
    type Output = Result<ExitStatus, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let result = Pin::new(&mut self.0).poll(cx);
        result.map_ok(|()| ExitStatus::success())
    }
}

const PATH: &str = "/exec?command=x&stdin=true&stdout=true&stderr=true";

async fn handshake(cell: Cell, alive: &Arc<()>) -> Result<Raw<DuplexStream>, String> {
    let inner = Inner {
        cell,
        alive: Arc::clone(alive),
    };
    let accept = match cell.when {
        When::Undecided => AcceptMode::Explicit,
        _ => AcceptMode::Immediate,
    };
    let layer = WsStreamLayer::new(Protocols::default())
        .config(SessionConfig::default().keep_alive(None).accept(accept));
    // So little that a client that does not read is felt.
    let (near, far) = tokio::io::duplex(4096);
    if cell.command {
        let service = ServiceBuilder::new().layer(RemoteCommandLayer::new());
        serve(far, layer.layer(service.service(inner)));
    } else {
        serve(far, layer.layer(inner));
    }
    within(LONG, Raw::handshake_at(near, PATH, cell.subprotocol)).await
}

/// What the client does first, and when it begins to read.
async fn provoke(cell: Cell, client: &mut Raw<DuplexStream>) {
    match cell.when {
        When::AfterMessage => client.send(0, b"x").await.unwrap(),
        When::InLargeWrite | When::Closing => {
            // Or a command's output is held.
            client.send(0, b"x").await.unwrap();
            sleep(secs(1)).await;
        }
        When::Paused => {
            // A service that has returned takes the rest while it is closing.
            for _ in 0..30 {
                within(LONG, client.send(0, &[1; 10_000])).await.unwrap();
            }
        }
        When::AfterInput => client.close_channel(0).await.unwrap(),
        When::AfterClose | When::InGrace => client.close(Some(1000)).await.unwrap(),
        _ => {}
    }
    if cell.is_endless() {
        sleep(secs(5)).await;
        client.close(Some(1000)).await.unwrap();
    }
}

async fn scenario(cell: Cell) {
    let alive = Arc::new(());
    let before = tasks();
    match handshake(cell, &alive).await {
        Err(answer) => {
            let status = cell.refusal();
            let status = status.unwrap_or_else(|| panic!("{cell:?} is refused: {answer}"));
            let line = format!("HTTP/1.1 {status} ");
            assert!(answer.starts_with(&line), "{cell:?}: {answer}");
        }
        Result::Ok(mut client) => {
            assert_eq!(cell.refusal(), None, "{cell:?} is accepted");
            provoke(cell, &mut client).await;
            let start = Instant::now();
            let told = within(LONG, client.read_to_end()).await;
            let elapsed = start.elapsed();
            assert!(elapsed <= cell.limit(), "{cell:?} takes {elapsed:?}");
            check(cell, &told);
            // While the server lingers its service has no more than the grace.
            sleep(secs(2)).await;
            assert_eq!(Arc::strong_count(&alive), 1, "{cell:?} keeps its service");
        }
    }
    // What leaked ends by itself.
    sleep(secs(3)).await;
    assert_eq!(tasks(), before, "{cell:?} leaves tasks behind");
    assert_eq!(Arc::strong_count(&alive), 1, "{cell:?} leaves its service");
}

fn check(cell: Cell, told: &Told) {
    assert_eq!(told.close, Some(Some(cell.close_code())), "{cell:?}");
    let out = told.channel(1);
    match cell.when {
        When::AfterMessage
        | When::Paused
        | When::OutputHeld
        | When::AfterInput
        | When::AfterClose
        | When::InGrace => assert_eq!(out, b"out", "{cell:?}"),
        When::Closing => assert_eq!(out.len(), 100_000, "{cell:?}"),
        When::InLargeWrite => assert!(out.len() >= 32 * 1024, "{cell:?}"),
        _ => assert_eq!(out, b"", "{cell:?}"),
    }
    let said: Vec<_> = told.messages.iter().filter(|(id, _)| *id == 3).collect();
    let json = cell.subprotocol.starts_with("v4.") || cell.subprotocol.starts_with("v5.");
    if !cell.command || (!json && cell.succeeds()) {
        return assert!(said.is_empty(), "{cell:?}: {said:?}");
    }
    assert_eq!(said.len(), 1, "{cell:?}");
    assert_eq!(told.messages.last(), Some(said[0]), "{cell:?}");
    if json {
        let status = Status::from_json(&said[0].1).unwrap();
        assert_eq!(status.is_success(), cell.succeeds(), "{cell:?}: {status}");
    }
}

async fn every_cell(command: bool) {
    let _watchdog = Watchdog::bites_after(secs(50));
    for subprotocol in [
        subprotocols::V5,
        subprotocols::V4,
        subprotocols::V4_BASE64,
        subprotocols::BASE64_CHANNEL,
    ] {
        for when in WHENS {
            for what in WHATS {
                let cell = Cell {
                    when,
                    what,
                    command,
                    subprotocol,
                };
                if cell.makes_sense() {
                    scenario(cell).await;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_its_answer_whatever_the_service_does() {
    every_cell(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_gets_its_answer_whatever_the_command_does() {
    every_cell(true).await;
}
