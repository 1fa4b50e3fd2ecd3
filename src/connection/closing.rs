//! The end of a session, as states and pure rules.
//!
//! ```text
//!          service done, writers gone        Close is out,
//!          or grace over, or at once         we shut down     FIN, or silence
//!   Open ---------------------------> Closing ---------> Lingering --------> Closed
//!     |                                  |                                      ^
//!     +------- connection lost ----------+----- lost, or 90 s without a byte ---+
//! ```
//!
//! Beside it runs the service's own end: from a cause on it has a grace.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    config::Config,
    error::EndCause,
    frame::{ClosePayload, close_payload},
};

/// While closing, a transport that takes not one byte for so long is given up.
/// A kubectl that is alive and writes gives up after 60 s itself.
pub(super) const STALL: Duration = Duration::from_secs(90);

/// Lingering ends after so long whatever the peer still sends.
pub(super) const LINGER_AT_MOST: Duration = Duration::from_secs(5 * 60);

/// A delay that a clock cannot add is as good as this one.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The instant after a delay, which may be `Duration::MAX`.
pub(super) fn after(start: Instant, delay: Duration) -> Instant {
    start.checked_add(delay).unwrap_or_else(|| start + FOREVER)
}

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

/// How long the service may go on after a cause.
pub(super) fn grace(cause: &EndCause, half_close: bool, config: &Config) -> Duration {
    match cause {
        // Without half-close that is how a client says that its input is
        // finished: kube-rs does so on v4, and reads on.
        EndCause::PeerClosed {
            code: None | Some(1000),
        } if !half_close => config.closed_grace,
        _ => config.grace,
    }
}

/// What happens to the queue when a cause comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// The service may still say something first.
    WaitForService,
    /// The Close frame goes behind what was accepted, now.
    CloseNow,
    /// The Close frame replaces what was accepted.
    CloseOnly,
    /// There is nobody to tell.
    Gone,
}

pub(super) fn urgency(cause: &EndCause) -> Urgency {
    match cause {
        EndCause::Completed
        | EndCause::ServiceFailed
        | EndCause::ServicePanicked
        | EndCause::PeerClosed { .. } => Urgency::WaitForService,
        EndCause::Closed { .. } => Urgency::CloseNow,
        EndCause::ProtocolError { .. } | EndCause::TooLarge | EndCause::InvalidText { .. } => {
            Urgency::CloseOnly
        }
        EndCause::ConnectionLost { .. } | EndCause::Stalled | EndCause::Aborted => Urgency::Gone,
    }
}

/// The Close frame for a cause. 1000 if and only if the outcome was told in
/// full: client-go discards a Status that it has already read when the code is
/// anything else.
pub(super) fn close_frame(cause: &EndCause, told: bool) -> ClosePayload {
    match cause {
        // A peer's Close is answered with its own code (RFC 6455, 5.5.1).
        EndCause::PeerClosed { code } => close_payload(*code, ""),
        EndCause::ProtocolError { rule } => close_payload(Some(1002), rule),
        EndCause::TooLarge => close_payload(Some(1009), "message too large"),
        EndCause::InvalidText { rule } => close_payload(Some(1007), rule),
        EndCause::Closed { code } => close_payload(Some(*code), ""),
        _ if told => close_payload(Some(1000), ""),
        EndCause::Completed => close_payload(Some(1011), "the outcome was not told"),
        EndCause::ServiceFailed | EndCause::ServicePanicked => {
            close_payload(Some(1011), "the service failed")
        }
        EndCause::ConnectionLost { .. } | EndCause::Stalled | EndCause::Aborted => {
            close_payload(Some(1001), "")
        }
    }
}
