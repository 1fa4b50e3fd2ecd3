//! Layers that put a policy into a request's extensions, for a route of its own.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::idle::IdleTimeout;

/// Gives the sessions of a route an idle timeout of their own.
///
/// Belongs outside of [`WsStreamLayer`](crate::WsStreamLayer), over a
/// `Service<http::Request<B>>`. It inserts an [`IdleTimeout`] into the request's
/// extensions and overwrites what a layer further out has put there.
///
/// So an auth layer that gives some users another time must be inside of this one.
/// With axum, what `Router::layer` adds is outside of what `route_service` was given:
/// there give a route its time by
/// [`WsStreamLayer::idle_timeout`](crate::WsStreamLayer::idle_timeout), or put this
/// layer around the whole router.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, IdleTimeoutLayer, WsStreamLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// let hours = |n: u64| Duration::from_secs(n * 60 * 60);
/// let exec = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()).idle_timeout(hours(4)))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
///
/// // The same sessions on a route where nobody may be idle for an hour, and on
/// // one where they may be for ever.
/// let visitors = ServiceBuilder::new()
///     .layer(IdleTimeoutLayer::new(hours(1)))
///     .service(exec.clone());
/// let operators = ServiceBuilder::new()
///     .layer(IdleTimeoutLayer::new(None))
///     .service(exec);
/// # let _ = (visitors, operators);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct IdleTimeoutLayer {
    timeout: IdleTimeout,
}

impl IdleTimeoutLayer {
    /// Sessions of this route end after so long without data; `None`: never.
    pub fn new(timeout: impl Into<Option<Duration>>) -> Self {
        Self {
            timeout: IdleTimeout(timeout.into()),
        }
    }
}

impl<S> Layer<S> for IdleTimeoutLayer {
    type Service = IdleTimeoutService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        IdleTimeoutService {
            inner,
            timeout: self.timeout,
        }
    }
}

/// The service that [`IdleTimeoutLayer`] makes.
#[derive(Clone, Copy, Debug)]
pub struct IdleTimeoutService<S> {
    inner: S,
    timeout: IdleTimeout,
}

impl<S, B> Service<Request<B>> for IdleTimeoutService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.timeout);
        self.inner.call(request)
    }
}
