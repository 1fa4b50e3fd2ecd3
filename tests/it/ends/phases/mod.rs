//! Faults of a service, in each phase of its session: the client always gets its answer, and
//! nothing is left running.

mod service;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tower::{Layer, Service, ServiceBuilder};
use tower_wsstream::{
    AcceptMode, ChannelReader, ChannelWriter, SessionConfig, Status, WsStreamLayer,
    remotecommand::*,
};

use self::service::Inner;
use super::*;
use crate::support::tasks;

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Error,
    Panic,
    /// The service returns `Ok`, even if input is unread.
    Ok,
    Never,
    /// The service drops one handle or all of them, and goes on for a while.
    DropsOne,
    DropsAll,
    /// Another task holds the service's handles for two more seconds.
    Leaks,
    /// The drop of the service's future panics, after the service has returned.
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
    /// With [`AcceptMode::Explicit`], before it has accepted.
    Undecided,
    AfterMessage,
    /// The client does not read.
    InLargeWrite,
    /// The client sends more than the window holds.
    Paused,
    OutputHeld,
    /// The client has ended its input.
    AfterInput,
    AfterClose,
    InGrace,
    /// The server's Close waits for the client to read.
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
    /// Returns whether the combination exists.
    fn makes_sense(self) -> bool {
        match self.when {
            When::PollReady => matches!(self.what, Error | Panic | Never),
            When::Call => self.what == Panic,
            When::AfterInput => self.subprotocol == subprotocols::V5,
            _ => true,
        }
    }

    /// Returns the status of the refusal, if there is no session.
    fn refusal(self) -> Option<u16> {
        match (self.when, self.what) {
            (When::PollReady | When::Undecided, Never) => Some(504),
            (When::PollReady, _) => Some(500),
            // A command reports it with a Status.
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

    /// Returns whether the command's Status reports success.
    fn succeeds(self) -> bool {
        match self.when {
            // The command had not returned when the session sent its last words.
            When::Closing | When::Lingering => false,
            _ => !matches!(self.what, Error | Panic | Never),
        }
    }

    /// Returns the time within which the session ends after the client's last act.
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
            // The trickle takes a while until the Close is seen.
            When::Paused => secs(5),
            _ => Duration::ZERO,
        };
        // Output of a command is held for a quarter of a second.
        what + when + millis(300)
    }

    /// Returns whether the client has to end the session, because the service does not.
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
    // Small, so that a client that does not read stalls the service.
    let (near, far) = tokio::io::duplex(4096);
    if cell.command {
        let service = ServiceBuilder::new().layer(RemoteCommandLayer::new());
        serve(far, layer.layer(service.service(inner)));
    } else {
        serve(far, layer.layer(inner));
    }
    within(LONG, Raw::handshake_at(near, PATH, cell.subprotocol)).await
}

/// Plays the client's part before it begins to read.
async fn provoke(cell: Cell, client: &mut Raw<DuplexStream>) {
    match cell.when {
        When::AfterMessage => client.send(0, b"x").await.unwrap(),
        When::InLargeWrite | When::Closing => {
            // Without input, the output of a command is held.
            client.send(0, b"x").await.unwrap();
            sleep(secs(1)).await;
        }
        When::Paused => {
            // The service has returned, and the closing session takes the rest.
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
            // While the server lingers, its service has only the grace.
            sleep(secs(2)).await;
            assert_eq!(Arc::strong_count(&alive), 1, "{cell:?} keeps its service");
        }
    }
    // Handles that leaked end by themselves.
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
