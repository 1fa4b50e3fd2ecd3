use std::{error::Error as StdError, fmt, io};

use super::report::chain;
use crate::close_reason::CloseReason;

/// The cause of a session's end.
///
/// [`Session::ended`](crate::Session::ended) resolves to it. Every [`io::Error`] that a channel
/// returns because of the end of its session has it as its inner error:
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
/// # Consequences of each cause
///
/// A reader returns all bytes that arrived before the end, and after them the error in the table,
/// or EOF. A channel that the peer has ended by a CLOSE (`v5`) returns EOF for every cause.
///
/// A writer that "works" does so until the grace is over, and data that it accepts is sent. One
/// that "fails" returns `BrokenPipe` at once, as does every write once the session is closing.
///
/// A command (`RemoteCommandLayer`) reports a JSON Status on `v4` and `v5`, which the table gives
/// by its reason and code. On older subprotocols it reports the message of that Status as text, and
/// nothing for a success. "Its own" is the result of the command: its exit status, or
/// `InternalError` 500 for an error or a panic.
///
/// The last three columns are for a service that does not use
/// [`say_last`](crate::Session::say_last).
///
/// | cause | reader | writer | a command reports | if it is too late | Close after a command | Close of a plain service: `Ok` | error, panic | too late |
/// |---|---|---|---|---|---|---|---|---|
/// | `Completed` | `ConnectionAborted` | fails, shut down | its own | | 1000 | 1000 | | |
/// | `ServiceFailed` | `ConnectionAborted`, when the writers are gone or the grace is over | works | `InternalError` 500, or the `Status`, `Rejection` or timeout in the error | | 1000 | | 1011 | |
/// | `ServicePanicked` | as for `ServiceFailed` | works | `InternalError` 500, a fixed text | | 1000 | | 1011 | |
/// | `PeerClosed`, 1000 or no code | `ConnectionAborted` on `v5`, else EOF (`ConnectionAborted` inside a message) | works | its own | `InternalError` 500 | the peer's | the peer's | the peer's | the peer's |
/// | `PeerClosed`, another code | `ConnectionAborted` | works | its own | `InternalError` 500 | the peer's | the peer's | the peer's | the peer's |
/// | `Closed` | `ConnectionAborted` | fails | its own, if it returns as soon as it learns the cause | `InternalError` 500 | its code | its code | its code | its code |
/// | `IdleTimeout` | `TimedOut` | works | its own | `Timeout` 504 | 1000 | 1000 | 1001 | 1001 |
/// | `TimeLimit` | `TimedOut` | works | its own | `Timeout` 504 | 1000 | 1000 | 1001 | 1001 |
/// | `StreamsMissing` | `TimedOut` | fails | | `Timeout` 504 | 1000, or 1011 if its error stream is missing | | | 1011 |
/// | `Drained` | `ConnectionAborted` | works | its own | `ServiceUnavailable` 503 | 1000 | 1000 | 1001 | 1001 |
/// | `PeerUnresponsive` | `TimedOut` | fails | | | none | none | none | none |
/// | `UpgradeFailed` | `ConnectionReset` | fails | | | none | none | none | none |
/// | `ConnectionLost` | `ConnectionReset` | fails | | | none | none | none | none |
/// | `ProtocolError` | `InvalidData` | fails | | | 1002 | 1002 | 1002 | 1002 |
/// | `TooLarge` | `InvalidData` | fails | | | 1009 | 1009 | 1009 | 1009 |
/// | `InvalidText` | `InvalidData` | fails | | | 1007 | 1007 | 1007 | 1007 |
/// | `Stalled` | as for the earlier cause, which stays the cause | fails | | | none | none | none | none |
/// | `Aborted` | `ConnectionReset` | fails | | | none | none | none | none |
///
/// Over SPDY, a GOAWAY of the client is `PeerClosed` without a code, and readers that it has not ended
/// fail with `ConnectionAborted`, as on `v5`. In place of the Close frame, a GOAWAY is sent: 1002, 1007
/// and 1009 as a protocol error, 1011 as an internal error, and any other code as no error. Streams end
/// with a FIN, or with a reset if the session ends here and the outcome was not told (1001, 1011). A stream
/// that is reset by the client fails with `ConnectionReset` and without a cause, and its session goes on.
///
/// The guide's page [`ends`](crate::guide::ends) shows what both sides see, on each subprotocol and transport.
///
/// "Too late" means after the [grace](crate::SessionConfig::grace), when the service is dropped.
/// After a clean Close from the peer, a subprotocol without half-close has the
/// [longer grace](crate::SessionConfig::closed_grace). A command whose own error is the end of its
/// session, for example because it passes on the error of a read with `?`, reports the same as one
/// that is too late. If a refusal is the reason for `Aborted`, the client gets an HTTP answer
/// instead.
///
/// # Examples
///
/// Metrics that tell apart who ended a session:
///
/// ```
/// use tower_wsstream::EndCause;
///
/// fn label(cause: &EndCause) -> &'static str {
///     match cause {
///         cause if cause.is_lost() => "network",
///         cause if cause.is_timeout() => "deadline",
///         cause if cause.is_remote() => "client",
///         cause => cause.name(),
///     }
/// }
/// assert_eq!(label(&EndCause::IdleTimeout), "deadline");
/// assert_eq!(label(&EndCause::TooLarge), "client");
/// assert_eq!(label(&EndCause::Drained), "drained");
/// ```
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
        /// The status code of the frame, or `None` if it had none (1005).
        code: Option<u16>,
        /// The reason of the frame, in the words of the peer.
        reason: CloseReason,
    },
    /// [`Session::close`](crate::Session::close) was called.
    #[non_exhaustive]
    Closed {
        /// The status code of the Close frame.
        code: u16,
    },
    /// No data was exchanged within the [idle timeout](crate::WsStreamLayer::idle_timeout).
    IdleTimeout,
    /// The [time limit](crate::SessionConfig::time_limit) of the session has expired, or the
    /// [credential](crate::policy::ValidUntil) of its request.
    TimeLimit,
    /// A client of SPDY did not open all streams of its command within 30 seconds, as long as Go's
    /// servers wait. The service was dropped, and has not run since its first poll.
    StreamsMissing,
    /// The server is [draining](crate::Sessions::drain) its sessions.
    Drained,
    /// After a Ping, no byte arrived in the time that
    /// [`KeepAlive::timeout`](crate::policy::KeepAlive::timeout) allows.
    PeerUnresponsive,
    /// The server did not hand the connection over after the 101.
    #[non_exhaustive]
    UpgradeFailed {
        /// The kind of error. It is `TimedOut` if the
        /// [upgrade timeout](crate::SessionConfig::upgrade_timeout) has expired.
        kind: io::ErrorKind,
    },
    /// The connection ended without a Close frame, or failed.
    #[non_exhaustive]
    ConnectionLost {
        /// The kind of the transport's error, or `UnexpectedEof` if the connection ended without
        /// one.
        kind: io::ErrorKind,
    },
    /// The peer broke a rule of RFC 6455 or of the subprotocol; Close code 1002.
    #[non_exhaustive]
    ProtocolError {
        /// The rule that the peer broke.
        rule: &'static str,
    },
    /// A frame or message was larger than the [`Limits`](crate::policy::Limits) allow; Close code
    /// 1009.
    TooLarge,
    /// The peer sent text that is not UTF-8 (RFC 6455, section 8.1), or invalid base64; Close
    /// code 1007.
    #[non_exhaustive]
    InvalidText {
        /// The rule that the peer broke.
        rule: &'static str,
    },
    /// Closing took too long. The transport accepted no byte of the remaining output for 90
    /// seconds, or the peer read more slowly than
    /// [`Limits::min_read_rate`](crate::policy::Limits::min_read_rate) allows.
    Stalled,
    /// The session's task was dropped, as happens when the runtime shuts down, or the upgrade was
    /// refused after the service had received its channels.
    Aborted,
}

impl EndCause {
    /// Returns a stable label for metrics, in lower case with words joined by `_`.
    ///
    /// Each variant has one label, and no part of a label comes from the peer. A variant that is
    /// added later gets a label of its own.
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
            Self::StreamsMissing => "streams_missing",
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

    /// Returns whether the peer, or the connection to it, ended the session.
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
            | Self::StreamsMissing
            | Self::Drained
            | Self::UpgradeFailed { .. }
            | Self::Aborted => false,
        }
    }

    /// Returns whether the peer cannot be reached any more, because the connection is lost or the
    /// session's task is gone.
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

    /// Returns whether a time limit ended the session.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self,
            Self::IdleTimeout
                | Self::TimeLimit
                | Self::StreamsMissing
                | Self::PeerUnresponsive
                | Self::Stalled
                | Self::UpgradeFailed {
                    kind: io::ErrorKind::TimedOut
                }
        )
    }

    /// Returns the end of a session that an error passes on, if there is one.
    ///
    /// The whole chain of sources is searched, and so is the inner error of each [`io::Error`] in
    /// it. This distinguishes an error that only passes on the end of its session, as that of a
    /// copy from a channel may, from a failure of its own.
    pub fn from_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        chain(error).find_map(Self::from_link)
    }

    /// Returns the end of a session, if this error of a chain is one or was made from one.
    pub(crate) fn from_link<'a>(link: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        match link.downcast_ref::<io::Error>() {
            // The source of an `io::Error` is the source of its inner error, so the chain skips the
            // inner error itself.
            Some(error) => error.get_ref()?.downcast_ref(),
            None => link.downcast_ref(),
        }
    }

    /// Returns the error kind for a reader whose channel the peer has not ended.
    fn read_kind(&self) -> io::ErrorKind {
        match self {
            Self::ConnectionLost { .. } | Self::UpgradeFailed { .. } | Self::Aborted => {
                io::ErrorKind::ConnectionReset
            }
            Self::ProtocolError { .. } | Self::TooLarge | Self::InvalidText { .. } => {
                io::ErrorKind::InvalidData
            }
            Self::IdleTimeout
            | Self::TimeLimit
            | Self::StreamsMissing
            | Self::PeerUnresponsive
            | Self::Stalled => io::ErrorKind::TimedOut,
            Self::Completed
            | Self::ServiceFailed
            | Self::ServicePanicked
            | Self::PeerClosed { .. }
            | Self::Closed { .. }
            | Self::Drained => io::ErrorKind::ConnectionAborted,
        }
    }

    /// Returns the error of a write after the end.
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
                // The reason is escaped, because this is written to logs.
                if reason.is_empty() {
                    return Ok(());
                }
                write!(f, ": {reason:?}")
            }
            Self::Closed { code } => write!(f, "closed here with code {code}"),
            Self::IdleTimeout => f.write_str("no data was exchanged within the idle timeout"),
            Self::TimeLimit => f.write_str("the time limit of the session has expired"),
            Self::StreamsMissing => f.write_str("the peer did not open its streams in time"),
            Self::Drained => f.write_str("the server is shutting down"),
            Self::PeerUnresponsive => f.write_str("the peer does not answer"),
            Self::UpgradeFailed { kind } => {
                write!(f, "the server did not hand the connection over: {kind}")
            }
            Self::ConnectionLost { kind } => write!(f, "the connection is lost: {kind}"),
            Self::ProtocolError { rule } => write!(f, "the peer broke the protocol: {rule}"),
            Self::TooLarge => f.write_str("the peer sent more than the limits allow"),
            Self::InvalidText { rule } => write!(f, "the peer sent invalid text: {rule}"),
            Self::Stalled => f.write_str("the peer did not read the remaining output in time"),
            Self::Aborted => f.write_str("the session was aborted"),
        }
    }
}

impl StdError for EndCause {}

/// Makes the error of a read. Its kind says whose fault the end was, and its inner error is the
/// cause.
impl From<EndCause> for io::Error {
    fn from(cause: EndCause) -> Self {
        Self::new(cause.read_kind(), cause)
    }
}
