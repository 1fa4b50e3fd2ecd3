//! The observations of both sides at the end of a session, and the words for them.

use std::{io, time::Duration};

use tower_wsstream::{EndCause, Status, session::SessionSummary};

use super::{
    carrier::{Carrier, Kind},
    client::{INPUT, Received, StreamEnd},
    observer::Saw,
};

/// The time by which timers may be late or early, together.
const TICKS: Duration = Duration::from_millis(100);

/// The last result of the service's reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reader {
    Eof,
    Failed(io::ErrorKind),
    /// There is nothing to read, and no end.
    Open,
}

/// The result of a write behind the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Writer {
    Works,
    Failed(io::ErrorKind),
    Waits,
}

/// The part of the accepted output that the client has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Output {
    All,
    Part,
    Nothing,
}

/// The message of the error channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Nothing,
    Success,
    Failure(String),
    Text(String),
}

/// The end of the transport by the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Transported {
    /// The sending side was shut down: a FIN, or END_STREAM.
    pub(super) fin: bool,
    /// The stream of HTTP/2 was reset, with this code.
    pub(super) reset: Option<u32>,
    /// The connection was dropped.
    pub(super) dropped: bool,
}

/// All that both sides have seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Outcome {
    pub(super) reader: Option<Reader>,
    /// Set if the service has read everything that was sent while the session was well.
    pub(super) whole_input: bool,
    pub(super) writer: Option<Writer>,
    /// The label of the cause, and its code or kind. There is none while the session goes on.
    pub(super) cause: Option<String>,
    /// Set if the service reported success.
    pub(super) content: bool,
    pub(super) output: Output,
    pub(super) output_end: Vec<StreamEnd>,
    pub(super) told: Told,
    pub(super) error_end: Vec<StreamEnd>,
    pub(super) go_away: Option<u32>,
    pub(super) close: Option<Option<u16>>,
    pub(super) transport: String,
    /// Whole seconds from the end's beginning to the end of the session.
    pub(super) after: Option<u64>,
}

impl Outcome {
    pub(super) fn of(
        carrier: Carrier,
        saw: Option<Saw>,
        summary: Option<(SessionSummary, Duration)>,
        received: Received,
        whole: bool,
        transported: Transported,
    ) -> Self {
        let after = summary
            .as_ref()
            .map(|(_, after)| after.saturating_add(TICKS).as_secs());
        let summary = summary.map(|(summary, _)| summary.cause);
        let cause = saw.as_ref().and_then(|saw| saw.cause.as_ref());
        if let (Some(cause), Some(summary)) = (cause, &summary) {
            // Handles keep the first cause, and a stall or an abort comes later.
            let later = matches!(summary, EndCause::Stalled | EndCause::Aborted);
            assert!(
                later || cause == summary,
                "{carrier:?}: {cause} or {summary}"
            );
        }
        let read = saw.as_ref().and_then(|saw| saw.reader.as_ref());
        Self {
            reader: read.map(|(_, end)| *end),
            whole_input: read.is_some_and(|(input, _)| input == INPUT),
            writer: saw.as_ref().and_then(|saw| saw.writer),
            cause: summary.as_ref().map(words),
            content: saw.is_some_and(|saw| saw.content),
            output: match (whole, received.output.is_empty()) {
                (true, _) => Output::All,
                (false, true) => Output::Nothing,
                (false, false) => Output::Part,
            },
            output_end: received.output_end,
            told: told(carrier, &received.error),
            error_end: received.error_end,
            go_away: received.go_away,
            close: received.close,
            transport: match transported {
                Transported {
                    reset: Some(0),
                    fin: true,
                    ..
                } => "FIN".into(),
                Transported {
                    reset: Some(code), ..
                } => format!("RST_STREAM {code}"),
                Transported { fin: true, .. } => "FIN".into(),
                Transported { dropped: true, .. } => "dropped".into(),
                Transported { dropped: false, .. } => "open".into(),
            },
            after,
        }
    }

    /// Returns the cells of a row: those of the service, and then those of the client.
    pub(super) fn columns(&self) -> [String; 8] {
        let dash = || "-".to_owned();
        let ended = |ends: &[StreamEnd]| {
            let ends = ends.iter().map(|end| match end {
                StreamEnd::Fin => ", FIN".to_owned(),
                StreamEnd::Reset(status) => format!(", RST {status}"),
            });
            ends.collect::<String>()
        };
        let output = match self.output {
            Output::All => "all",
            Output::Part => "a part",
            Output::Nothing => "nothing",
        };
        let told = match &self.told {
            Told::Nothing => "-".to_owned(),
            Told::Success => "Success".to_owned(),
            Told::Failure(reason) => reason.clone(),
            Told::Text(text) => format!("\"{text}\""),
        };
        let close = match (self.go_away, self.close) {
            (None, None) => dash(),
            (Some(status), None) => format!("GOAWAY {status}"),
            (None, Some(close)) => code(close),
            (Some(status), Some(close)) => format!("GOAWAY {status}, {}", code(close)),
        };
        [
            match self.reader {
                None => dash(),
                Some(Reader::Eof) => "EOF".into(),
                Some(Reader::Open) => "waits".into(),
                Some(Reader::Failed(kind)) => format!("{kind:?}"),
            },
            match self.writer {
                None => dash(),
                Some(Writer::Works) => "works".into(),
                Some(Writer::Waits) => "waits".into(),
                Some(Writer::Failed(kind)) => format!("{kind:?}"),
            },
            self.cause.clone().unwrap_or_else(|| "goes on".into()),
            format!("{output}{}", ended(&self.output_end)),
            format!("{told}{}", ended(&self.error_end)),
            close,
            self.transport.clone(),
            self.after.map_or_else(dash, |after| format!("{after} s")),
        ]
    }
}

fn code(close: Option<u16>) -> String {
    close.map_or_else(|| "no code".into(), |code| code.to_string())
}

fn words(cause: &EndCause) -> String {
    let variant = format!("{cause:?}");
    let variant = variant.split([' ', '{', '(']).next().unwrap_or_default();
    match cause {
        EndCause::PeerClosed { code: close, .. } => format!("{variant} {}", code(*close)),
        EndCause::Closed { code, .. } => format!("{variant} {code}"),
        EndCause::ConnectionLost { kind, .. } | EndCause::UpgradeFailed { kind, .. } => {
            format!("{variant} {kind:?}")
        }
        _ => variant.to_owned(),
    }
}

fn told(carrier: Carrier, error: &[u8]) -> Told {
    if error.is_empty() {
        return Told::Nothing;
    }
    if !carrier.has_status() {
        let text = String::from_utf8(error.to_vec()).expect("text");
        let begin = match carrier.kind {
            Kind::Port => "error forwarding port 80: ",
            _ => "",
        };
        let text = text.strip_prefix(begin).expect("the port is named");
        return Told::Text(text.to_owned());
    }
    let status = Status::from_json(error).expect("one Status");
    if status.is_success() {
        return Told::Success;
    }
    let (reason, code) = (status.reason(), status.code());
    let (reason, code) = (reason.expect("a reason"), code.expect("a code"));
    Told::Failure(match status.exit_code() {
        Some(exit) => format!("{reason} {exit}"),
        None => format!("{reason} {code}"),
    })
}
