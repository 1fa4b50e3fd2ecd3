use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::future::WsStreamFuture;
use crate::{
    body::{NoBody, ResponseBody},
    channel::ChannelSet,
    error::BoxError,
    handshake::{
        Source,
        detect::{self, Upgrade},
    },
    opening::Accepting,
    rejection::{Rejection, UpgradeTo},
    session::SessionConfig,
    unwind::drop_quietly,
};

/// The service of [`WsStreamLayer`](crate::WsStreamLayer).
///
/// # Readiness
///
/// `poll_ready` reports the readiness of the fallback only, because a request that is not an upgrade
/// must not hold a session's permit. The inner service is cloned for each valid handshake, and its
/// readiness is awaited before the answer. `load_shed`, `concurrency_limit` and similar layers
/// therefore belong inside of this one, where they count sessions and refuse with an HTTP answer.
///
/// # Refusals
///
/// A failure before the 101 becomes an HTTP answer, with a [`Status`](crate::Status) as JSON: an
/// invalid handshake, no common subprotocol, an inner service that is not ready in time, or one
/// whose future fails in its first poll before it has written anything. A service behind a
/// `tower::buffer` usually cannot refuse, because its first poll is pending. With
/// [`AcceptMode::Explicit`](crate::AcceptMode::Explicit) it can, because the layer then waits for the
/// service.
pub struct WsStream<S, F = UpgradeRequired> {
    inner: S,
    fallback: F,
    protocols: Source,
    config: Arc<SessionConfig>,
}

impl<S, F> WsStream<S, F> {
    pub(crate) fn new(
        inner: S,
        fallback: F,
        protocols: Source,
        config: Arc<SessionConfig>,
    ) -> Self {
        Self {
            inner,
            fallback,
            protocols,
            config,
        }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later sessions.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, F> WsStream<S, F> {
    /// Begins to accept an upgrade, or refuses it if its head is invalid.
    fn begin<B>(&self, upgrade: Upgrade, request: Request<B>) -> Result<Accepting<S>, Rejection> {
        let (head, body) = request.into_parts();
        drop_quietly(body, "the body of a request");
        let service = || self.inner.clone();
        Accepting::begin(
            upgrade,
            Box::new(head),
            &self.protocols,
            &self.config,
            service,
        )
    }

    /// Answers a request, which asks for `upgrade` or goes to the fallback.
    pub(crate) fn answer<B, FB>(
        &mut self,
        upgrade: Option<Upgrade>,
        request: Request<B>,
    ) -> WsStreamFuture<F::Future, S>
    where
        F: Service<Request<B>, Response = Response<FB>>,
    {
        let Some(upgrade) = upgrade else {
            return WsStreamFuture::fallback(self.fallback.call(request));
        };
        match self.begin(upgrade, request) {
            Ok(accepting) => WsStreamFuture::accepting(upgrade, accepting),
            Err(rejection) => WsStreamFuture::refused(upgrade, rejection),
        }
    }
}

impl<S, F, B, FB> Service<Request<B>> for WsStream<S, F>
where
    S: Service<ChannelSet, Response = ()> + Clone,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    F: Service<Request<B>, Response = Response<FB>>,
{
    type Response = Response<ResponseBody<FB>>;
    type Error = F::Error;
    type Future = WsStreamFuture<F::Future, S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        self.fallback.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.answer(detect::detect(&request), request)
    }
}

impl<S: Clone, F: Clone> Clone for WsStream<S, F> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            fallback: self.fallback.clone(),
            protocols: self.protocols.clone(),
            config: Arc::clone(&self.config),
        }
    }
}

impl<S, F> fmt::Debug for WsStream<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsStream")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

/// The default fallback, which answers a request that is not an upgrade with 426.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct UpgradeRequired {
    pub(crate) to: UpgradeTo,
}

impl<B> Service<Request<B>> for UpgradeRequired {
    type Response = Response<ResponseBody<NoBody>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(
            Rejection::not_an_upgrade(self.to).into_response_over(request.version())
        ))
    }
}

#[cfg(test)]
mod tests;
