use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Response, Version};
use pin_project_lite::pin_project;

use crate::{body::ResponseBody, rejection::Rejection};

pin_project! {
    /// The future of a [`BearerSubprotocol`](super::BearerSubprotocol): the response of the inner
    /// service, or a refusal.
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
        Refused {
            rejection: Option<Rejection>,
            version: Version,
        },
    }
}

impl<F> BearerSubprotocolFuture<F> {
    pub(super) fn passed(future: F) -> Self {
        Self {
            kind: Kind::Passed { future },
        }
    }

    pub(super) fn refused(rejection: Rejection, version: Version) -> Self {
        Self {
            kind: Kind::Refused {
                rejection: Some(rejection),
                version,
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
            KindProj::Refused { rejection, version } => match rejection.take() {
                Some(rejection) => Poll::Ready(Ok(rejection.into_answer(*version))),
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
