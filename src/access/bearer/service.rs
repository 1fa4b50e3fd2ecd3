use std::{
    fmt,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower_service::Service;

use super::{
    BearerSubprotocolFuture,
    token::{hide_lookalikes, move_token},
};
use crate::{body::ResponseBody, handshake::is_websocket_request};

/// The service of a [`BearerSubprotocolLayer`](super::BearerSubprotocolLayer).
///
/// Its readiness is that of the inner service. A refusal is a response and not an error.
#[derive(Clone, Copy)]
pub struct BearerSubprotocol<S> {
    inner: S,
}

impl<S> BearerSubprotocol<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later requests.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, FB> Service<Request<B>> for BearerSubprotocol<S>
where
    S: Service<Request<B>, Response = Response<FB>>,
{
    type Response = Response<ResponseBody<FB>>;
    type Error = S::Error;
    type Future = BearerSubprotocolFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let version = request.version();
        let moved = if is_websocket_request(&request) {
            move_token(request.headers_mut())
        } else {
            Ok(())
        };
        hide_lookalikes(request.headers_mut());
        match moved {
            Ok(()) => BearerSubprotocolFuture::passed(self.inner.call(request)),
            Err(rejection) => BearerSubprotocolFuture::refused(rejection, version),
        }
    }
}

impl<S> fmt::Debug for BearerSubprotocol<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerSubprotocol").finish_non_exhaustive()
    }
}
