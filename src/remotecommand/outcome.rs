//! The report of a command's outcome to its client.

use std::{
    error::Error as StdError,
    sync::{Arc, Mutex, PoisonError},
};

use http::StatusCode;

use super::channel::ERROR;
use crate::{
    EndCause, Rejection, Status,
    error::text,
    rejection::known::Known,
    session::{LastWords, Outcome},
    subprotocols,
};

/// The outcome that the service has decided on, for the last words.
pub(super) type Decided = Arc<Mutex<Option<Status>>>;

/// Sets the outcome.
pub(super) fn decide(decided: &Decided, status: Status) {
    *decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
}

/// Returns the Status for the end of the service. `decided` is its own outcome, if it has one.
pub(super) fn status(decided: Option<Status>, outcome: &Outcome<'_>) -> Status {
    match (decided, outcome) {
        (Some(status), _) => status,
        // A layer around the command's service has failed.
        (None, Outcome::Failed(error)) => of_error(&***error),
        (None, Outcome::Ended(cause)) => ended(cause),
        (None, _) => panicked(),
    }
}

/// Returns the Status that an error contains, or else one that describes it.
pub(super) fn of_error(error: &(dyn StdError + 'static)) -> Status {
    match Known::all(error).next() {
        Some(Known::Status(status)) => status.clone(),
        Some(Known::Rejection(rejection)) => rejection.to_status(),
        Some(Known::Overloaded) => Rejection::overloaded().to_status(),
        // tower's `timeout` around the command is a time limit of the command.
        Some(Known::Elapsed) => ended(&EndCause::TimeLimit),
        Some(Known::Ended(cause)) => ended(cause),
        None => match text(error) {
            Some(text) => Status::internal_error(format!("Internal error occurred: {text}")),
            None => panicked(),
        },
    }
}

/// Returns the Status for a panic. Its text is fixed, because the message of a panic belongs in the
/// server's log.
pub(super) fn panicked() -> Status {
    Status::internal_error("Internal error occurred: the command's service failed")
}

/// Returns the Status for a session that ended before its service did.
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
        EndCause::StreamsMissing => Status::failure(
            "Timeout",
            "timed out waiting for the client to create its streams",
            StatusCode::GATEWAY_TIMEOUT.as_u16(),
        ),
        EndCause::Drained => Status::failure(
            "ServiceUnavailable",
            "the server is shutting down: connect again to continue elsewhere",
            StatusCode::SERVICE_UNAVAILABLE.as_u16(),
        ),
        // The peer or the service has closed the session. The peer may still want to know what
        // became of the command.
        EndCause::PeerClosed { .. } | EndCause::Closed { .. } => Status::internal_error(format!(
            "Internal error occurred: the session ended before the command did: {cause}"
        )),
        // The service has ended without an outcome.
        EndCause::Completed | EndCause::ServiceFailed | EndCause::ServicePanicked => panicked(),
        // Nothing is sent after these.
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

/// Returns the last words that carry the Status on this subprotocol.
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
