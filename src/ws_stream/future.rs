use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Response, Version};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    body::ResponseBody, channel::ChannelSet, error::BoxError, handshake::detect::Upgrade,
    opening::Accepting, rejection::Rejection,
};

pin_project! {
    /// The response future of [`WsStream`](crate::WsStream).
    ///
    /// Nothing is spawned before it completes. Dropping it earlier drops the inner service's future,
    /// and leaves nothing behind.
    #[must_use = "futures do nothing unless polled"]
    pub struct WsStreamFuture<F, S> {
        version: Version,
        #[pin]
        kind: Kind<F, S>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, S> {
        Fallback { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
        Accepting { accepting: Box<Accepting<S>> },
    }
}

impl<F, S> WsStreamFuture<F, S> {
    pub(crate) fn fallback(future: F) -> Self {
        Self {
            version: Version::HTTP_11,
            kind: Kind::Fallback { future },
        }
    }

    pub(crate) fn refused(upgrade: Upgrade, rejection: Rejection) -> Self {
        Self {
            version: upgrade.version(),
            kind: Kind::Refused {
                rejection: Some(rejection),
            },
        }
    }

    pub(crate) fn accepting(upgrade: Upgrade, accepting: Accepting<S>) -> Self {
        Self {
            version: upgrade.version(),
            kind: Kind::Accepting {
                accepting: Box::new(accepting),
            },
        }
    }
}

impl<F, S, B, E> Future for WsStreamFuture<F, S>
where
    F: Future<Output = Result<Response<B>, E>>,
    S: Service<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = match this.kind.project() {
            KindProj::Fallback { future } => {
                let response = ready!(future.poll(cx))?;
                return Poll::Ready(Ok(response.map(ResponseBody::inner)));
            }
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => Err(rejection),
                None => panic!("polled after it was ready"),
            },
            KindProj::Accepting { accepting } => ready!(accepting.poll(cx)),
        };
        Poll::Ready(Ok(
            answer.unwrap_or_else(|rejection| rejection.into_answer(*this.version))
        ))
    }
}

impl<F, S> fmt::Debug for WsStreamFuture<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsStreamFuture").finish_non_exhaustive()
    }
}
