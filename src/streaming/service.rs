use std::{
    fmt,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::future::SpdyFuture;
use crate::{
    body::ResponseBody,
    channel::ChannelSet,
    error::BoxError,
    handshake::{detect::Upgrade, is_spdy_request},
    ws_stream::{UpgradeRequired, WsStream},
};

/// The service of [`SpdyLayer`](crate::SpdyLayer).
///
/// Readiness and refusals are those of [`WsStream`]: `poll_ready` reports the readiness of the
/// fallback only, and a failure before the 101 becomes an HTTP answer.
pub struct Spdy<S, F = UpgradeRequired> {
    // Only the kind of upgrade differs, so all else is shared. This one never sees a WebSocket.
    sessions: WsStream<S, F>,
}

impl<S, F> Spdy<S, F> {
    pub(super) fn new(sessions: WsStream<S, F>) -> Self {
        Self { sessions }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        self.sessions.get_ref()
    }

    /// Returns a mutable reference to the inner service. Changes apply to later sessions.
    pub fn get_mut(&mut self) -> &mut S {
        self.sessions.get_mut()
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.sessions.into_inner()
    }
}

impl<S, F, B, FB> Service<Request<B>> for Spdy<S, F>
where
    S: Service<ChannelSet, Response = ()> + Clone,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    F: Service<Request<B>, Response = Response<FB>>,
{
    type Response = Response<ResponseBody<FB>>;
    type Error = F::Error;
    type Future = SpdyFuture<F::Future, S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        self.sessions.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let upgrade = is_spdy_request(&request).then_some(Upgrade::Spdy);
        SpdyFuture::new(self.sessions.answer(upgrade, request))
    }
}

impl<S: Clone, F: Clone> Clone for Spdy<S, F> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
        }
    }
}

impl<S, F> fmt::Debug for Spdy<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spdy").finish_non_exhaustive()
    }
}
