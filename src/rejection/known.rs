//! Recognises the errors that stand for a refusal, or for the end of a session.

use std::error::Error as StdError;

use tower::{load_shed::error::Overloaded, timeout::error::Elapsed};

use super::Rejection;
use crate::{
    error::{EndCause, chain},
    protocol::Status,
};

/// An error that the crate recognizes in an error of a service.
pub(crate) enum Known<'a> {
    /// A refusal that the service, or a layer around it, has created.
    Rejection(&'a Rejection),
    /// A Status that the service has created.
    Status(&'a Status),
    /// tower's `load_shed` had no permit.
    Overloaded,
    /// tower's `timeout` has expired.
    Elapsed,
    /// The cause of the session's end, which a read or a write has returned.
    #[cfg_attr(
        not(any(feature = "portforward", feature = "remotecommand")),
        allow(dead_code, reason = "only commands and ports report it to the client")
    )]
    Ended(&'a EndCause),
}

impl<'a> Known<'a> {
    /// Returns an iterator over the known errors among an error and its sources, outermost first.
    pub(crate) fn all(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = Self> {
        chain(error).filter_map(Self::from_link)
    }

    fn from_link(link: &'a (dyn StdError + 'static)) -> Option<Self> {
        if let Some(rejection) = link.downcast_ref() {
            return Some(Self::Rejection(rejection));
        }
        if let Some(status) = link.downcast_ref() {
            return Some(Self::Status(status));
        }
        if link.is::<Overloaded>() {
            return Some(Self::Overloaded);
        }
        if link.is::<Elapsed>() {
            return Some(Self::Elapsed);
        }
        EndCause::from_link(link).map(Self::Ended)
    }
}

#[cfg(test)]
mod tests {
    use std::{fmt, io};

    use http::StatusCode;

    use super::*;
    use crate::BoxError;

    #[derive(Debug)]
    struct Wrapper(BoxError);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl StdError for Wrapper {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&*self.0)
        }
    }

    fn names(error: impl Into<BoxError>) -> Vec<&'static str> {
        let error = Wrapper(Box::new(Wrapper(error.into())));
        let names = Known::all(&error).map(|known| match known {
            Known::Rejection(_) => "rejection",
            Known::Status(_) => "status",
            Known::Overloaded => "overloaded",
            Known::Elapsed => "elapsed",
            Known::Ended(_) => "ended",
        });
        names.collect()
    }

    #[test]
    fn each_is_found_behind_others() {
        let rejection = Rejection::new(StatusCode::NOT_FOUND, "x");
        let cause = EndCause::Drained;
        for (error, expected) in [
            (BoxError::from(rejection), &["rejection"][..]),
            (Status::failure("", "x", 404).into(), &["status"]),
            (Overloaded::new().into(), &["overloaded"]),
            (Elapsed::new().into(), &["elapsed"]),
            (cause.clone().into(), &["ended"]),
            (io::Error::from(cause).into(), &["ended"]),
            (io::Error::other("x").into(), &[]),
            ("x".into(), &[]),
        ] {
            assert_eq!(names(error), expected);
        }
    }
}
