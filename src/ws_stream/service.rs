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
    rejection::Rejection,
    session::SessionConfig,
    unwind::drop_quietly,
};

/// The service that [`WsStreamLayer`](crate::WsStreamLayer) makes.
///
/// # Readiness
///
/// `poll_ready` shows the readiness of the fallback alone, because a request
/// that is no upgrade must not hold a session's permit. The inner service is
/// cloned for each valid handshake, and its readiness awaited before the answer;
/// so `load_shed`, `concurrency_limit` and the like belong inside this layer,
/// where they count sessions and refuse with an answer.
///
/// # Refusals
///
/// Whatever can be known before the 101 is an HTTP answer, with a
/// [`Status`](crate::Status) as JSON: a bad handshake, no common subprotocol, an
/// inner service that is not ready in time or whose future fails in its first
/// poll, before it has written anything. What sits behind a `tower::buffer`
/// usually cannot refuse: its first poll is pending as a rule. It can with
/// [`AcceptMode::Explicit`](crate::AcceptMode::Explicit), which waits for it.
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

    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to be changed for the sessions to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service again.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Clone, F> WsStream<S, F> {
    /// Everything that can be decided on the head alone.
    fn shake_hands<B>(
        &self,
        upgrade: Upgrade,
        request: Request<B>,
    ) -> Result<Accepting<S>, Rejection> {
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
        let Some(upgrade) = detect::detect(&request) else {
            return WsStreamFuture::fallback(self.fallback.call(request));
        };
        match self.shake_hands(upgrade, request) {
            Ok(accepting) => WsStreamFuture::accepting(upgrade, accepting),
            Err(rejection) => WsStreamFuture::refused(upgrade, rejection),
        }
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

/// The default fallback: answers what is no upgrade with 426.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct UpgradeRequired {}

impl<B> Service<Request<B>> for UpgradeRequired {
    type Response = Response<ResponseBody<NoBody>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(
            Rejection::not_an_upgrade().into_response_over(request.version())
        ))
    }
}
