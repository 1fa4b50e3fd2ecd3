use std::error::Error as StdError;

use super::error::ForwardError;
use crate::{
    BoxError,
    error::{Report, text},
    rejection::known::Known,
};

/// The text for a panic, whose message belongs in the server's log, and for an error that cannot be
/// formatted.
const FAILED: &str = "the port's service failed";

/// The reason why the service of a port ended without success.
#[derive(Debug)]
pub(super) enum Failure {
    Error(BoxError),
    Panicked,
}

impl Failure {
    /// Returns the text for the port's error channel, or `None` if the client already knows the
    /// reason.
    pub(super) fn text(&self, port: u16) -> Option<String> {
        let what = match self {
            Self::Error(error) => of_error(&**error)?,
            Self::Panicked => FAILED.to_owned(),
        };
        Some(format!("error forwarding port {port}: {what}"))
    }

    /// Returns the text for the error stream of a connection, or `None` if the failure is that of
    /// this connection alone. With `every`, each failure of which the client does not know has one.
    #[cfg(feature = "spdy")]
    pub(super) fn text_for_streams(&self, port: u16, every: bool) -> Option<String> {
        let is_target = match self {
            Self::Error(error) => ForwardError::find(&**error).is_some_and(ForwardError::is_target),
            Self::Panicked => false,
        };
        self.text(port).filter(|_| every || is_target)
    }

    /// Logs the failure. The error of a service is common, and its details are the operator's.
    pub(super) fn log(&self, port: u16) {
        match self {
            Self::Error(error) => {
                tracing::debug!(port, error = %Report(&**error), "a port failed");
            }
            Self::Panicked => tracing::error!(port, "the service of a port panicked"),
        }
    }

    /// Returns whether this failure asks to refuse the upgrade, if that is still possible.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Error(error) => Known::all(&**error).any(|known| match known {
                Known::Rejection(_) | Known::Overloaded => true,
                Known::Status(_) | Known::Elapsed | Known::Ended(_) => false,
            }),
            Self::Panicked => false,
        }
    }
}

fn of_error(error: &(dyn StdError + 'static)) -> Option<String> {
    let text = match Known::all(error).next() {
        Some(Known::Rejection(rejection)) => rejection.to_string(),
        Some(Known::Status(status)) => status.to_string(),
        Some(Known::Overloaded) => {
            "the server forwards as many ports as it can: try again later".into()
        }
        Some(Known::Elapsed) => "the port has reached its time limit".into(),
        // The client has ended the session itself, or cannot be reached.
        Some(Known::Ended(cause)) if cause.is_remote() => return None,
        Some(Known::Ended(cause)) => format!("the session has ended: {cause}"),
        None => {
            let given = ForwardError::find(error).map_or(error, ForwardError::given);
            text(given).unwrap_or_else(|| FAILED.to_owned())
        }
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use std::io;

    use http::StatusCode;
    use tower::{load_shed::error::Overloaded, timeout::error::Elapsed};

    use super::*;
    use crate::{EndCause, Rejection, Status};

    fn told(error: impl Into<BoxError>) -> Option<String> {
        Failure::Error(error.into()).text(80)
    }

    #[test]
    fn each_kind_of_failure_and_its_words() {
        let refused = io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let rejection = Rejection::new(StatusCode::NOT_FOUND, "no such pod");
        let status = Status::failure("NotFound", "no such pod", 404);
        for (error, expected) in [
            (BoxError::from(refused), "connection refused"),
            (rejection.clone().into(), "no such pod"),
            (io::Error::other(rejection).into(), "no such pod"),
            (status.into(), "no such pod"),
            (ForwardError::target("gone").into(), "gone"),
            (
                io::Error::other(ForwardError::target("gone")).into(),
                "gone",
            ),
            (ForwardError::connection("reset").into(), "reset"),
            (
                ForwardError::connection(Rejection::new(StatusCode::NOT_FOUND, "no pod")).into(),
                "no pod",
            ),
            (
                Overloaded::new().into(),
                "the server forwards as many ports as it can: try again later",
            ),
            (Elapsed::new().into(), "the port has reached its time limit"),
            (
                io::Error::from(EndCause::IdleTimeout).into(),
                "the session has ended: no data was exchanged within the idle timeout",
            ),
        ] {
            let expected = format!("error forwarding port 80: {expected}");
            assert_eq!(told(error).unwrap(), expected);
        }
        let panicked = Failure::Panicked.text(80).unwrap();
        assert!(panicked.starts_with("error forwarding port 80: "));
    }

    #[test]
    fn a_client_is_not_told_what_it_has_done_itself() {
        let closed = EndCause::PeerClosed {
            code: Some(1001),
            reason: "".into(),
        };
        assert_eq!(told(io::Error::from(closed)), None);
    }
}
