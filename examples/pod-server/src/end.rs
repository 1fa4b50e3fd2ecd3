//! The end of a session, as far as its service acts on it.

use tower_wsstream::{BoxError, EndCause};

/// The end of a session before that of its command. Holds the error that tells the client, as
/// far as it can be told.
#[derive(Debug)]
pub enum End {
    /// The client cannot be reached any more.
    Lost(BoxError),
    /// The client has closed the session. It leaves; or, on a subprotocol without half-close,
    /// its input ends.
    Closed(BoxError),
    /// The session was idle, or has lasted too long, or the server stops.
    Stopped(BoxError),
}

impl From<EndCause> for End {
    fn from(cause: EndCause) -> Self {
        let end = match &cause {
            cause if cause.is_lost() => Self::Lost,
            EndCause::PeerClosed { .. } => Self::Closed,
            _ => Self::Stopped,
        };
        end(cause.into())
    }
}
