//! Why a session ended, and what a handle says about it.
//!
//! Imports only `unwind` and `close_reason`: every other module may name an [`EndCause`].

use std::{
    error::Error as StdError,
    fmt::{self, Write},
    io,
};

use crate::{close_reason::CloseReason, unwind::catch};

/// A boxed error, as tower's middleware uses it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a session ended.
///
/// [`Session::ended`](crate::Session::ended) resolves to it, and every
/// [`io::Error`] of a channel that comes from the end of the session carries
/// it as its payload:
///
/// ```
/// use tower_wsstream::EndCause;
///
/// fn is_over(error: &std::io::Error) -> bool {
///     EndCause::from_error(error).is_some()
/// }
/// # let error = std::io::Error::from(EndCause::ServicePanicked);
/// # assert_eq!(EndCause::from_error(&error), Some(&EndCause::ServicePanicked));
/// # assert!(is_over(&error));
/// ```
///
/// # What follows from each
///
/// A reader gets all bytes that came before the end, then the error named here, or
/// EOF; a channel that its peer has ended by a CLOSE (v5) has its EOF whatever comes
/// later. A writer that still works does so for the grace, and what it accepts
/// goes out; "fails" is `BrokenPipe` at once, and so is every write once the session
/// is closing. What a command says (`RemoteCommandLayer`) is a JSON Status on
/// `v4` and `v5`, given by its reason and code; on older subprotocols it is the
/// message of that Status as text, and silence for a success. "Its own" is what the
/// command returned: its exit status, or `InternalError` 500 for an error or a
/// panic. The last columns are for a service that does not use
/// [`say_last`](crate::Session::say_last).
///
/// | cause | reader | writer | a command says | if it is too late | Close behind a command | plain service: `Ok` | error, panic | too late |
/// |---|---|---|---|---|---|---|---|---|
/// | `Completed` | `ConnectionAborted` | fails, shut down | its own | | 1000 | 1000 | | |
/// | `ServiceFailed` | `ConnectionAborted`, when the writers are gone or the grace is over | works | `InternalError` 500, or the `Status`, `Rejection` or timeout in the error | | 1000 | | 1011 | |
/// | `ServicePanicked` | the same | works | `InternalError` 500, a fixed text | | 1000 | | 1011 | |
/// | `PeerClosed`, 1000 or no code | `ConnectionAborted` on `v5`, else EOF (`ConnectionAborted` inside a message) | works | its own | `InternalError` 500 | the peer's | the peer's | the peer's | the peer's |
/// | `PeerClosed`, another code | `ConnectionAborted` | works | its own | `InternalError` 500 | the peer's | the peer's | the peer's | the peer's |
/// | `Closed` | `ConnectionAborted` | fails | its own, if it returns as soon as it is told | `InternalError` 500 | its code | its code | its code | its code |
/// | `IdleTimeout` | `TimedOut` | works | its own | `Timeout` 504 | 1000 | 1000 | 1001 | 1001 |
/// | `TimeLimit` | `TimedOut` | works | its own | `Timeout` 504 | 1000 | 1000 | 1001 | 1001 |
/// | `Drained` | `ConnectionAborted` | works | its own | `ServiceUnavailable` 503 | 1000 | 1000 | 1001 | 1001 |
/// | `PeerUnresponsive` | `TimedOut` | fails | | | none | none | none | none |
/// | `UpgradeFailed` | `ConnectionReset` | fails | | | none | none | none | none |
/// | `ConnectionLost` | `ConnectionReset` | fails | | | none | none | none | none |
/// | `ProtocolError` | `InvalidData` | fails | | | 1002 | 1002 | 1002 | 1002 |
/// | `TooLarge` | `InvalidData` | fails | | | 1009 | 1009 | 1009 | 1009 |
/// | `InvalidText` | `InvalidData` | fails | | | 1007 | 1007 | 1007 | 1007 |
/// | `Stalled` | as for the cause before it, which stays | fails | | | none | none | none | none |
/// | `Aborted` | `ConnectionReset` | fails | | | none | none | none | none |
///
/// "Too late" is after the [grace](crate::WsStreamLayer::grace) (behind a clean Close
/// without half-close, the [longer one](crate::WsStreamLayer::closed_grace)), when the
/// service is dropped; a command whose error is the end that it was told, as a
/// read's is with `?`, says the same. `Aborted` by a refusal has an HTTP answer in
/// place of all that.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndCause {
    /// The service returned `Ok`, and every writer was dropped or shut down.
    Completed,
    /// The service returned an error.
    ServiceFailed,
    /// The service panicked.
    ServicePanicked,
    /// The peer sent a Close frame.
    #[non_exhaustive]
    PeerClosed {
        /// Its status code; `None` where the frame had none (1005).
        code: Option<u16>,
        /// Its reason, in the peer's words.
        reason: CloseReason,
    },
    /// [`Session::close`](crate::Session::close) was called.
    #[non_exhaustive]
    Closed {
        /// The status code of the Close frame.
        code: u16,
    },
    /// No data went either way for the
    /// [idle timeout](crate::WsStreamLayer::idle_timeout).
    IdleTimeout,
    /// The session has lasted as long as its [time limit](crate::WsStreamLayer::time_limit)
    /// allows, or [what let it in](crate::policy::ValidUntil) is valid no more.
    TimeLimit,
    /// The server [drains](crate::Sessions::drain) its sessions.
    Drained,
    /// Not a byte came in the time that [`KeepAlive::timeout`](crate::policy::KeepAlive::timeout) allows.
    PeerUnresponsive,
    /// The server did not hand the connection over after the 101.
    #[non_exhaustive]
    UpgradeFailed {
        /// `TimedOut` where the
        /// [upgrade timeout](crate::WsStreamLayer::upgrade_timeout) was over.
        kind: io::ErrorKind,
    },
    /// The connection ended without a Close frame, or broke.
    #[non_exhaustive]
    ConnectionLost {
        /// What the transport said; `UnexpectedEof` where it just ended.
        kind: io::ErrorKind,
    },
    /// The peer broke a rule of RFC 6455 or of the subprotocol; Close code 1002.
    #[non_exhaustive]
    ProtocolError {
        /// The rule.
        rule: &'static str,
    },
    /// A frame or message was larger than the [`Limits`](crate::policy::Limits) allow; Close code 1009.
    TooLarge,
    /// Text that is not UTF-8 (RFC 6455, section 8.1), or base64 that is none; Close code 1007.
    #[non_exhaustive]
    InvalidText {
        /// What was wrong with it.
        rule: &'static str,
    },
    /// Closing took too long: the transport took not one byte of what was left for 90
    /// seconds, or the peer read more slowly than
    /// [`Limits::min_read_rate`](crate::policy::Limits::min_read_rate) allows.
    Stalled,
    /// The session's task was dropped, as when the runtime shuts down; or the
    /// upgrade was refused after the service had been given its channels.
    Aborted,
}

impl EndCause {
    /// Returns a stable label for metrics, in lower case with words joined by `_`.
    ///
    /// There is one label for each variant, and nothing in it comes from the peer. A variant
    /// that is added later gets a label of its own.
    ///
    /// ```
    /// use tower_wsstream::EndCause;
    ///
    /// assert_eq!(EndCause::IdleTimeout.name(), "idle_timeout");
    /// ```
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ServiceFailed => "service_failed",
            Self::ServicePanicked => "service_panicked",
            Self::PeerClosed { .. } => "peer_closed",
            Self::Closed { .. } => "closed",
            Self::IdleTimeout => "idle_timeout",
            Self::TimeLimit => "time_limit",
            Self::Drained => "drained",
            Self::PeerUnresponsive => "peer_unresponsive",
            Self::UpgradeFailed { .. } => "upgrade_failed",
            Self::ConnectionLost { .. } => "connection_lost",
            Self::ProtocolError { .. } => "protocol_error",
            Self::TooLarge => "too_large",
            Self::InvalidText { .. } => "invalid_text",
            Self::Stalled => "stalled",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the peer, or the way to it, ended the session.
    pub fn is_remote(&self) -> bool {
        match self {
            Self::PeerClosed { .. }
            | Self::PeerUnresponsive
            | Self::ConnectionLost { .. }
            | Self::ProtocolError { .. }
            | Self::TooLarge
            | Self::InvalidText { .. }
            | Self::Stalled => true,
            Self::Completed
            | Self::ServiceFailed
            | Self::ServicePanicked
            | Self::Closed { .. }
            | Self::IdleTimeout
            | Self::TimeLimit
            | Self::Drained
            | Self::UpgradeFailed { .. }
            | Self::Aborted => false,
        }
    }

    /// Whether nothing can reach the peer any more: the connection is lost,
    /// or the session's task is gone.
    pub fn is_lost(&self) -> bool {
        matches!(
            self,
            Self::ConnectionLost { .. }
                | Self::UpgradeFailed { .. }
                | Self::PeerUnresponsive
                | Self::Stalled
                | Self::Aborted
        )
    }

    /// Whether a limit of time ended the session.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::IdleTimeout
                | Self::TimeLimit
                | Self::PeerUnresponsive
                | Self::Stalled
                | Self::UpgradeFailed {
                    kind: io::ErrorKind::TimedOut
                }
        )
    }

    /// The end of a session that an error passes on, in its chain of sources or as
    /// what an [`io::Error`] in that was made of: a copy from a channel that ended
    /// with its session fails with it, and has not failed itself.
    pub fn from_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        chain(error).find_map(Self::from_link)
    }

    /// Returns the end of a session that one error of a chain is or was made of.
    pub(crate) fn from_link<'a>(link: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        match link.downcast_ref::<io::Error>() {
            // The source of an `io::Error` is the source of the error that it was made of: the
            // chain skips that error itself.
            Some(error) => error.get_ref()?.downcast_ref(),
            None => link.downcast_ref(),
        }
    }

    /// The kind of the error that a reader gets whose channel did not end by itself.
    fn read_kind(&self) -> io::ErrorKind {
        match self {
            Self::ConnectionLost { .. } | Self::UpgradeFailed { .. } | Self::Aborted => {
                io::ErrorKind::ConnectionReset
            }
            Self::ProtocolError { .. } | Self::TooLarge | Self::InvalidText { .. } => {
                io::ErrorKind::InvalidData
            }
            Self::IdleTimeout | Self::TimeLimit | Self::PeerUnresponsive | Self::Stalled => {
                io::ErrorKind::TimedOut
            }
            Self::Completed
            | Self::ServiceFailed
            | Self::ServicePanicked
            | Self::PeerClosed { .. }
            | Self::Closed { .. }
            | Self::Drained => io::ErrorKind::ConnectionAborted,
        }
    }

    /// What a writer gets after the end.
    pub(crate) fn write_error(&self) -> io::Error {
        io::Error::new(io::ErrorKind::BrokenPipe, self.clone())
    }
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed => f.write_str("the service has finished"),
            Self::ServiceFailed => f.write_str("the service failed"),
            Self::ServicePanicked => f.write_str("the service panicked"),
            Self::PeerClosed { code: None, .. } => f.write_str("the peer closed without a code"),
            Self::PeerClosed {
                code: Some(code),
                reason,
            } => {
                write!(f, "the peer closed with code {code}")?;
                // Escaped, because it goes to logs.
                if reason.is_empty() {
                    return Ok(());
                }
                write!(f, ": {reason:?}")
            }
            Self::Closed { code } => write!(f, "closed here with code {code}"),
            Self::IdleTimeout => f.write_str("no data for the idle timeout"),
            Self::TimeLimit => f.write_str("the time limit of the session is over"),
            Self::Drained => f.write_str("the server is shutting down"),
            Self::PeerUnresponsive => f.write_str("the peer does not answer"),
            Self::UpgradeFailed { kind } => {
                write!(f, "the server did not hand the connection over: {kind}")
            }
            Self::ConnectionLost { kind } => write!(f, "the connection is lost: {kind}"),
            Self::ProtocolError { rule } => write!(f, "the peer broke the protocol: {rule}"),
            Self::TooLarge => f.write_str("the peer sent more than the limits allow"),
            Self::InvalidText { rule } => write!(f, "the peer sent invalid text: {rule}"),
            Self::Stalled => f.write_str("the peer did not read what was left in time"),
            Self::Aborted => f.write_str("the session was aborted"),
        }
    }
}

impl StdError for EndCause {}

/// Iterates over an error and its sources, outermost first. `source` is the user's code: the
/// chain ends at an error whose `source` panics.
pub(crate) fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = catch(|| error.source()).unwrap_or(None);
        Some(error)
    })
}

/// The text of an error; `None` where its `Display` panics or fails.
pub(crate) fn text(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut text = String::new();
    let shown = catch(|| write!(text, "{error}"));
    matches!(shown, Ok(Ok(()))).then_some(text)
}

/// An error with its sources, for a log: a subscriber runs the `Display` of each.
pub(crate) struct Report<'a>(pub(crate) &'a (dyn StdError + 'static));

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, link) in chain(self.0).enumerate() {
            let colon = if depth == 0 { "" } else { ": " };
            let text = text(link);
            let text = text.as_deref().unwrap_or("(an error that cannot be shown)");
            write!(f, "{colon}{text}")?;
        }
        Ok(())
    }
}

/// What a reader gets: the kind says whose fault it was, the payload is the cause.
impl From<EndCause> for io::Error {
    fn from(cause: EndCause) -> Self {
        Self::new(cause.read_kind(), cause)
    }
}
