//! The consequences of each cause: the table of [`EndCause`], as total matches.
//!
//! Two columns of it are elsewhere: [`EndCause`] itself says what a reader sees, and
//! `remotecommand::outcome` what the Status says.

use std::time::Duration;

use crate::{
    error::EndCause,
    frame::{ClosePayload, close_payload},
    session::SessionConfig,
};

/// Returns how long the service may go on after a cause.
pub(super) fn grace(cause: &EndCause, close_ends_input: bool, config: &SessionConfig) -> Duration {
    match cause {
        // Without half-close, this is how a client says that its input is
        // finished: kube-rs does so on v4, and reads on. Without input it can only
        // mean that the client is leaving.
        EndCause::PeerClosed {
            code: None | Some(1000),
            ..
        } if close_ends_input => config.closed_grace,
        EndCause::PeerClosed { .. }
        | EndCause::Completed
        | EndCause::ServiceFailed
        | EndCause::ServicePanicked
        | EndCause::Closed { .. }
        | EndCause::IdleTimeout
        | EndCause::TimeLimit
        | EndCause::Drained
        | EndCause::PeerUnresponsive
        | EndCause::ConnectionLost { .. }
        | EndCause::UpgradeFailed { .. }
        | EndCause::ProtocolError { .. }
        | EndCause::TooLarge
        | EndCause::InvalidText { .. }
        | EndCause::Stalled
        | EndCause::Aborted => config.grace,
    }
}

/// Returns whether readers end as soon as the cause comes, and not only with the session.
pub(super) fn ends_readers(cause: &EndCause) -> bool {
    match cause {
        // The service has returned, but may have left readers with other tasks.
        EndCause::ServiceFailed | EndCause::ServicePanicked => false,
        EndCause::Completed
        | EndCause::PeerClosed { .. }
        | EndCause::Closed { .. }
        | EndCause::IdleTimeout
        | EndCause::TimeLimit
        | EndCause::Drained
        | EndCause::PeerUnresponsive
        | EndCause::ConnectionLost { .. }
        | EndCause::UpgradeFailed { .. }
        | EndCause::ProtocolError { .. }
        | EndCause::TooLarge
        | EndCause::InvalidText { .. }
        | EndCause::Stalled
        | EndCause::Aborted => true,
    }
}

/// The fate of the queue when a cause comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// The service may still say something first.
    WaitForService,
    /// The Close frame goes behind what was accepted, now.
    CloseNow,
    /// The Close frame replaces what was accepted.
    CloseOnly,
    /// There is no peer left to tell.
    Gone,
}

/// Returns what happens to the queue when a cause comes.
pub(super) fn urgency(cause: &EndCause) -> Urgency {
    match cause {
        EndCause::Completed
        | EndCause::ServiceFailed
        | EndCause::ServicePanicked
        | EndCause::IdleTimeout
        | EndCause::TimeLimit
        | EndCause::Drained
        | EndCause::PeerClosed { .. } => Urgency::WaitForService,
        EndCause::Closed { .. } => Urgency::CloseNow,
        EndCause::ProtocolError { .. } | EndCause::TooLarge | EndCause::InvalidText { .. } => {
            Urgency::CloseOnly
        }
        EndCause::ConnectionLost { .. }
        | EndCause::UpgradeFailed { .. }
        | EndCause::PeerUnresponsive
        | EndCause::Stalled
        | EndCause::Aborted => Urgency::Gone,
    }
}

/// Returns the Close frame for a cause. Its code is 1000 if and only if the outcome was told
/// in full: client-go discards a Status that it has already read when the code is
/// anything else.
pub(super) fn close_frame(cause: &EndCause, told: bool) -> ClosePayload {
    let (code, reason) = match cause {
        // A peer's Close is answered with its own code (RFC 6455, 5.5.1).
        EndCause::PeerClosed { code, .. } => (*code, ""),
        EndCause::ProtocolError { rule } => (Some(1002), *rule),
        EndCause::TooLarge => (Some(1009), "message too large"),
        EndCause::InvalidText { rule } => (Some(1007), *rule),
        EndCause::Closed { code } => (Some(*code), ""),
        EndCause::Completed
        | EndCause::ServiceFailed
        | EndCause::ServicePanicked
        | EndCause::IdleTimeout
        | EndCause::TimeLimit
        | EndCause::Drained
            if told =>
        {
            (Some(1000), "")
        }
        EndCause::Completed => (Some(1011), "the outcome was not told"),
        EndCause::ServiceFailed | EndCause::ServicePanicked => (Some(1011), "the service failed"),
        EndCause::IdleTimeout => (Some(1001), "idle timeout"),
        EndCause::TimeLimit => (Some(1001), "time limit"),
        EndCause::Drained => (Some(1001), "the server is shutting down"),
        // These are never sent.
        EndCause::ConnectionLost { .. }
        | EndCause::UpgradeFailed { .. }
        | EndCause::PeerUnresponsive
        | EndCause::Stalled
        | EndCause::Aborted => (Some(1001), ""),
    };
    close_payload(code, reason)
}
