use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::{body::ResponseBody, rejection::Rejection};

pin_project! {
    /// The response of the service inside of a [`BearerSubprotocol`](super::BearerSubprotocol), or a refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct BearerSubprotocolFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Passed { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F> BearerSubprotocolFuture<F> {
    pub(super) fn passed(future: F) -> Self {
        Self {
            kind: Kind::Passed { future },
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

impl<F, B, E> Future for BearerSubprotocolFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Passed { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::inner)))
            }
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => {
                    tracing::debug!(%rejection, "bearer token refused");
                    Poll::Ready(Ok(rejection.into_response()))
                }
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F> fmt::Debug for BearerSubprotocolFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerSubprotocolFuture")
            .finish_non_exhaustive()
    }
}
