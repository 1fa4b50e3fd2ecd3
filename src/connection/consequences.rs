//! The consequences of each cause: the table of [`EndCause`], as total matches.
//!
//! Two columns of the table are elsewhere: the error of a reader is in [`EndCause`] itself, and the
//! Status in `remotecommand::outcome`.

use std::time::Duration;

use crate::{
    error::EndCause,
    frame::{ClosePayload, close_payload},
    session::SessionConfig,
};

/// Returns how long the service may continue after a cause.
pub(super) fn grace(cause: &EndCause, close_ends_input: bool, config: &SessionConfig) -> Duration {
    match cause {
        // Without half-close, this is how a client says that its input is finished. kube-rs does so
        // on v4, and continues to read. If the session has no input, it can only mean that the
        // client is leaving.
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
        | EndCause::StreamsMissing
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

/// Returns whether readers end at once, rather than with the session.
pub(super) fn ends_readers(cause: &EndCause) -> bool {
    match cause {
        // The service has ended, but may have given readers to other tasks.
        EndCause::ServiceFailed | EndCause::ServicePanicked => false,
        EndCause::Completed
        | EndCause::PeerClosed { .. }
        | EndCause::Closed { .. }
        | EndCause::IdleTimeout
        | EndCause::TimeLimit
        | EndCause::StreamsMissing
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

/// The effect of a cause on the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    /// The service may still write.
    WaitForService,
    /// The Close frame is queued at once, behind the output that was accepted.
    CloseNow,
    /// The Close frame replaces the output that was accepted.
    CloseOnly,
    /// There is no peer left to tell.
    Gone,
}

/// Returns the effect of a cause on the queue.
pub(super) fn urgency(cause: &EndCause) -> Urgency {
    match cause {
        EndCause::Completed
        | EndCause::ServiceFailed
        | EndCause::ServicePanicked
        | EndCause::IdleTimeout
        | EndCause::TimeLimit
        | EndCause::StreamsMissing
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

/// Returns the Close frame for a cause.
///
/// A code of our own is 1000 if and only if the outcome was told in full, because client-go
/// discards a Status that it has already read if the code is any other.
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
        | EndCause::StreamsMissing
        | EndCause::Drained
            if told =>
        {
            (Some(1000), "")
        }
        EndCause::Completed => (Some(1011), "the outcome was not told"),
        EndCause::ServiceFailed | EndCause::ServicePanicked => (Some(1011), "the service failed"),
        EndCause::IdleTimeout => (Some(1001), "idle timeout"),
        EndCause::TimeLimit => (Some(1001), "time limit"),
        EndCause::StreamsMissing => (Some(1011), "streams are missing"),
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
