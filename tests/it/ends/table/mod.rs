//! The table in the documentation of [`EndCause`]: each cause on each subprotocol, with a plain
//! service and with a command.

mod aborted;
mod cell;
mod check;

use std::{collections::BTreeSet, io::ErrorKind};

use tokio::sync::watch;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_wsstream::{
    ChannelReader, ChannelWriter, Rejection, SessionConfig, Status, WsStream, WsStreamLayer,
    policy::KeepAlive, remotecommand::*,
};

use self::check::{check_client, check_handles};
use super::*;

/// A way in which a session ends.
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

/// The end of a session as its handles see it.
struct Row {
    /// The variant, and its text.
    variant: &'static str,
    words: &'static str,
    /// The end of a reader without half-close and with it; `None` for EOF.
    whole: Option<ErrorKind>,
    half: Option<ErrorKind>,
    /// True if a writer still works in the grace.
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
        // A stall follows another cause, which the handles keep.
        Stalled => row(
            "Stalled",
            "the service has finished",
            ConnectionAborted,
            false,
        ),
        Refused | Aborted => row("Aborted", "the session was aborted", ConnectionReset, false),
    }
}

/// The message of a command on channel 3: JSON from v4 on, and only its text before that.
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
    /// The session ended before the command.
    Ended,
}

impl Say {
    /// The reason, the code, and a part of the message.
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

/// The code of a Close: `Some(None)` for a Close without a code, and `None` without a Close.
type Code = Option<Option<u16>>;

/// Returns the ways in which the service can end after a cause.
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

/// Returns the client's view: the code of the Close for a plain service, and for a command its
/// message and the code behind that.
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
    /// The result of a write as soon as the cause is known.
    write: io::Result<()>,
    input: (Vec<u8>, End),
    /// The result of a write when everything is over.
    after: io::Result<()>,
}

const PATH: &str = "/exec?command=x&stdin=true&stdout=true&stderr=true";

/// Returns the variants of `EndCause` from its source, because no other crate can match all of
/// them.
fn variants() -> Vec<&'static str> {
    let source = include_str!("../../../../src/error/end_cause.rs");
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
    // The one cause that is only possible over SPDY: see `streaming::commands`.
    tested.push("StreamsMissing");
    tested.sort_unstable();
    tested.dedup();
    let mut variants = variants();
    variants.sort_unstable();
    assert_eq!(tested, variants);

    let source = include_str!("../../../../src/error/end_cause.rs");
    for variant in variants {
        let rows = source
            .lines()
            .filter(|line| line.starts_with(&format!("/// | `{variant}")));
        assert!(rows.count() > 0, "no row for {variant}");
    }
}
