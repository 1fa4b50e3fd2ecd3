use std::{
    fmt,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::future::StreamingFuture;
use crate::{
    body::ResponseBody,
    channel::ChannelSet,
    error::BoxError,
    handshake::detect::{Upgrade, detect_either},
    ws_stream::{UpgradeRequired, WsStream},
};

/// The service of [`StreamingLayer`](crate::StreamingLayer).
///
/// Readiness and refusals are those of [`WsStream`]: `poll_ready` reports the readiness of the
/// fallback only, and a failure before the 101 becomes an HTTP answer.
pub struct Streaming<S, F = UpgradeRequired> {
    // Only the detection of an upgrade differs.
    sessions: WsStream<S, F>,
    websocket: bool,
}

impl<S, F> Streaming<S, F> {
    pub(super) fn new(sessions: WsStream<S, F>, websocket: bool) -> Self {
        Self {
            sessions,
            websocket,
        }
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

impl<S, F, B, FB> Service<Request<B>> for Streaming<S, F>
where
    S: Service<ChannelSet, Response = ()> + Clone,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    F: Service<Request<B>, Response = Response<FB>>,
{
    type Response = Response<ResponseBody<FB>>;
    type Error = F::Error;
    type Future = StreamingFuture<F::Future, S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), F::Error>> {
        self.sessions.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let is_served = |upgrade: &Upgrade| self.websocket || *upgrade == Upgrade::Spdy;
        let upgrade = detect_either(&request).filter(is_served);
        StreamingFuture::new(self.sessions.answer(upgrade, request))
    }
}

impl<S: Clone, F: Clone> Clone for Streaming<S, F> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
            websocket: self.websocket,
        }
    }
}

impl<S, F> fmt::Debug for Streaming<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming")
            .field("sessions", &self.sessions)
            .field("websocket", &self.websocket)
            .finish()
    }
}
