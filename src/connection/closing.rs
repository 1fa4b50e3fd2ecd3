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
//! Every phase goes straight to `Closed` when the connection is lost, when the transport
//! stalls or the total is over, and at the deadline of a drain. The service's own end runs
//! beside this: once there is a cause, it has its grace. The table of causes is in `consequences`.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::EndCause;

/// While closing, a transport that takes not one byte for so long is given up.
/// A kubectl that is alive and writes gives up after 60 s itself.
pub(super) const STALL: Duration = Duration::from_secs(90);

/// Where the wire is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// Messages go both ways; or, with an `Ending`, wait for the service.
    Open,
    /// The queue goes out, the Close frame last. Incoming data is discarded, but
    /// read: a client that writes before it reads would otherwise wait for us while
    /// we wait for it.
    Closing {
        /// When the transport last took a byte.
        progress: Instant,
        /// When the total is over.
        until: Instant,
    },
    /// Our Close is out, and the peer's is awaited (RFC 6455, section 7.1.1). A FIN
    /// right behind our Close would make proxies that close both of their connections
    /// at the first end of file drop the output that the peer has not read yet.
    Awaiting {
        /// When our Close was out.
        since: Instant,
        /// When the peer last sent a byte.
        heard: Instant,
    },
    /// The transport is shutting down its sending side: over TLS a close_notify has to
    /// leave first.
    ShuttingDown { since: Instant, asked: Instant },
    /// Our side is shut down. Reading goes on until the peer's FIN: closing a
    /// socket with unread bytes resets it, and a reset destroys what the client
    /// has not read yet.
    Lingering { since: Instant, heard: Instant },
    /// The transport is gone.
    Closed,
}

/// Why the session ends, and until when the service may go on.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) cause: EndCause,
    pub(super) deadline: Instant,
}
