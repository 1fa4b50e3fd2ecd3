//! What the client is told in the end.

use std::error::Error as StdError;

use http::StatusCode;

use super::protocols::ERROR;
use crate::{
    EndCause, Rejection, Status,
    error::text,
    rejection::known::Known,
    session::{LastWords, Outcome},
    subprotocols,
};

/// The Status for how the service ended; `decided` is what it said itself.
pub(super) fn status(decided: Option<Status>, outcome: &Outcome<'_>) -> Status {
    match (decided, outcome) {
        (Some(status), _) => status,
        // A layer around the command's service has failed in its place.
        (None, Outcome::Failed(error)) => of_error(&***error),
        (None, Outcome::Ended(cause)) => ended(cause),
        (None, _) => panicked(),
    }
}

/// The Status for an error: one that is in it, or one about it.
pub(super) fn of_error(error: &(dyn StdError + 'static)) -> Status {
    match Known::all(error).next() {
        Some(Known::Status(status)) => status.clone(),
        Some(Known::Rejection(rejection)) => rejection.to_status(),
        Some(Known::Overloaded) => Rejection::overloaded().to_status(),
        // tower's `timeout` around the command, which limits its time.
        Some(Known::Elapsed) => ended(&EndCause::TimeLimit),
        Some(Known::Ended(cause)) => ended(cause),
        None => match text(error) {
            Some(text) => Status::internal_error(format!("Internal error occurred: {text}")),
            None => panicked(),
        },
    }
}

/// With a fixed text: a panic's message is for the server's log.
pub(super) fn panicked() -> Status {
    Status::internal_error("Internal error occurred: the command's service failed")
}

/// The Status for a session that ended before its service did.
fn ended(cause: &EndCause) -> Status {
    match cause {
        EndCause::IdleTimeout => Status::failure(
            "Timeout",
            "the session was idle for too long: no data was sent or received",
            StatusCode::GATEWAY_TIMEOUT.as_u16(),
        ),
        EndCause::TimeLimit => Status::failure(
            "Timeout",
            "the session has reached its time limit",
            StatusCode::GATEWAY_TIMEOUT.as_u16(),
        ),
        EndCause::Drained => Status::failure(
            "ServiceUnavailable",
            "the server is shutting down: connect again to continue elsewhere",
            StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        ),
        // The peer ended it, and may still want to know how far it came.
        EndCause::PeerClosed { .. } | EndCause::Closed { .. } => Status::internal_error(format!(
            "Internal error occurred: the session ended before the command did: {cause}"
        )),
        // The service has returned; its layers have not decided what it said.
        EndCause::Completed | EndCause::ServiceFailed | EndCause::ServicePanicked => panicked(),
        // Nothing is said after these.
        EndCause::PeerUnresponsive
        | EndCause::ConnectionLost { .. }
        | EndCause::UpgradeFailed { .. }
        | EndCause::ProtocolError { .. }
        | EndCause::TooLarge
        | EndCause::InvalidText { .. }
        | EndCause::Stalled
        | EndCause::Aborted => panicked(),
    }
}

/// The Status as the subprotocol carries it.
pub(super) fn last_words(subprotocol: &str, status: Status) -> LastWords {
    let has_json = matches!(
        subprotocol,
        subprotocols::V4 | subprotocols::V4_BASE64 | subprotocols::V5
    );
    let words = match status.plain_text() {
        _ if has_json => LastWords::new(ERROR, status.to_json()),
        Some(text) => LastWords::new(ERROR, text),
        None => LastWords::silence(),
    };
    words.with_status(status)
}
