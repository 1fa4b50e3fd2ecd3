use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::SessionPermit;
use crate::{error::BoxError, rejection::Rejection};

pin_project! {
    /// The future of an [`Admission`](super::Admission), which runs the session or refuses it.
    ///
    /// Dropping it releases the session's permit.
    #[must_use = "futures do nothing unless polled"]
    pub struct AdmissionFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Admitted {
            #[pin]
            future: F,
            // The last field: the permit is released once nothing of the session is left.
            permit: Option<SessionPermit>,
        },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F> AdmissionFuture<F> {
    pub(super) fn admitted(future: F, permit: Option<SessionPermit>) -> Self {
        Self {
            kind: Kind::Admitted { future, permit },
        }
    }

    pub(super) fn refused(rejection: Rejection) -> Self {
        Self {
            kind: Kind::Refused {
                rejection: Some(rejection),
            },
        }
    }
}

impl<F, T, E> Future for AdmissionFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Admitted { future, .. } => future.poll(cx).map_err(Into::into),
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(rejection.into())),
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F> fmt::Debug for AdmissionFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdmissionFuture").finish_non_exhaustive()
    }
}
