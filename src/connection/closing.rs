//! The phases of the end of a session.
//!
//! ```text
//!          service done, writers gone       the Close
//!          or grace over, or at once        is out
//!   Open --------------------------> Closing ------> Awaiting
//!                                                       |  the peer's Close has come, before or now,
//!                                                       |  or its FIN, or silence; at once if it broke
//!                                                       v  the protocol
//!   Closed <--------- Lingering <---------------- ShuttingDown
//!           its FIN,             our side is shut
//!           or silence           down
//! ```
//!
//! Every phase leads to `Closed` at once where the connection is lost, or where the
//! transport takes no more. Beside it runs the service's own end: from a cause on it has
//! a grace. What follows from which cause stands in `ends`.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::EndCause;

/// While closing, a transport that takes not one byte for so long is given up.
/// A kubectl that is alive and writes gives up after 60 s itself.
pub(super) const STALL: Duration = Duration::from_secs(90);

/// The wait for the peer's Close and lingering end after so long together, whatever the
/// peer still sends. Closing has the same time, and beside it what
/// [`Limits::min_read_rate`](crate::Limits::min_read_rate) grants for what is queued.
pub(super) const AT_MOST: Duration = Duration::from_secs(5 * 60);

/// Where the wire is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Messages go both ways; or, with an `Ending`, wait for the service.
    Open,
    /// The queue goes out, the Close frame last. Incoming data is discarded, but
    /// read: a client that writes before it reads would otherwise wait for us while
    /// we wait for it.
    Closing {
        /// The transport took a byte last.
        progress: Instant,
        /// The peer has had its time.
        until: Instant,
    },
    /// Our Close is out, and the peer's is awaited (RFC 6455, section 7.1.1). A FIN
    /// behind our Close would end the session for proxies that close both of their
    /// connections at the first end of file, with what the peer has not read yet.
    Awaiting { since: Instant, heard: Instant },
    /// The transport has been told that nothing more will be written, and has not
    /// finished doing so.
    ShuttingDown { since: Instant, asked: Instant },
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
