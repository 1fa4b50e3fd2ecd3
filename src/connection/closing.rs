//! The phases of the end of a session.
//!
//! ```text
//!          service done, writers gone        Close is out,
//!          or grace over, or at once         we shut down     FIN, or silence
//!   Open ---------------------------> Closing ---------> Lingering --------> Closed
//!     |                                  |                                      ^
//!     +------- connection lost ----------+----- lost, or 90 s without a byte ---+
//! ```
//!
//! Beside it runs the service's own end: from a cause on it has a grace. What
//! follows from which cause stands in `ends`.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::EndCause;

/// While closing, a transport that takes not one byte for so long is given up.
/// A kubectl that is alive and writes gives up after 60 s itself.
pub(super) const STALL: Duration = Duration::from_secs(90);

/// Lingering ends after so long whatever the peer still sends.
pub(super) const LINGER_AT_MOST: Duration = Duration::from_secs(5 * 60);

/// Where the wire is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Messages go both ways; or, with an `Ending`, wait for the service.
    Open,
    /// What is queued goes out, the Close frame last. What comes is discarded,
    /// but read: a client that writes before it reads would wait for us as we
    /// for it.
    Closing { progress: Instant },
    /// Our side is shut down. Reading goes on until the peer's FIN: closing a
    /// socket with unread bytes resets it, and a reset destroys what the client
    /// has not read yet.
    Lingering { since: Instant, heard: Instant },
    /// The transport is gone.
    Closed,
}

/// Since when, and until when, the service is to end.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) cause: EndCause,
    pub(super) deadline: Instant,
}
