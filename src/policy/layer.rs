use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::Request;
use tower_layer::Layer;
use tower_service::Service;

use super::{
    byte_rate::ByteRate,
    keep_alive::KeepAlive,
    limits::Limits,
    time::{IdleTimeout, TimeLimit, ValidUntil},
};

/// A policy that a [`PolicyLayer`] can set for the sessions of a route.
///
/// Sealed: the implementations are the extensions that [`WsStreamLayer`](crate::WsStreamLayer)
/// reads.
pub trait Policy: Sealed + Clone + Send + Sync + 'static {}

/// Seals [`Policy`].
#[allow(unreachable_pub, reason = "it cannot be named outside of the crate")]
pub trait Sealed {}

macro_rules! policies {
    ($($policy:ty),*) => {$(
        impl Sealed for $policy {}
        impl Policy for $policy {}
    )*};
}
policies!(
    IdleTimeout,
    KeepAlive,
    Limits,
    TimeLimit,
    ValidUntil,
    ByteRate
);

/// Sets a policy for the sessions of a route.
///
/// Belongs outside of [`WsStreamLayer`](crate::WsStreamLayer), over a `Service<http::Request<B>>`.
/// It inserts the policy into the request's extensions, and overwrites one that a layer further out
/// has inserted.
///
/// So an auth layer that sets another policy for some users must be inside of this one. With axum,
/// layers of `Router::layer` are outside of services of `route_service`: there, set the policy of a
/// route in the [`SessionConfig`](crate::SessionConfig) of its `WsStreamLayer`, or put this layer
/// around the whole router.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     policy::{ByteRate, IdleTimeoutLayer, PolicyLayer},
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// let hours = |n: u64| Duration::from_secs(n * 60 * 60);
/// let exec = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()).idle_timeout(hours(4)))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
///
/// // The same sessions on a route where they may not be idle for an hour, or move more than a
/// // MiB a second; and on one where they may be idle forever.
/// let visitors = ServiceBuilder::new()
///     .layer(IdleTimeoutLayer::new(hours(1)))
///     .layer(PolicyLayer::new(ByteRate::default().inbound(1 << 20).outbound(1 << 20)))
///     .service(exec.clone());
/// let operators = ServiceBuilder::new()
///     .layer(IdleTimeoutLayer::new(None))
///     .service(exec);
/// # let _ = (visitors, operators);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PolicyLayer<P> {
    policy: P,
}

impl<P: Policy> PolicyLayer<P> {
    /// Creates a layer that sets this policy for all sessions of the route.
    pub fn new(policy: P) -> Self {
        Self { policy }
    }
}

/// Sets an idle timeout for the sessions of a route: a [`PolicyLayer`] of an [`IdleTimeout`].
#[derive(Clone, Copy, Debug)]
pub struct IdleTimeoutLayer {
    layer: PolicyLayer<IdleTimeout>,
}

impl IdleTimeoutLayer {
    /// Creates a layer that ends the sessions of this route after this long without data; with
    /// `None`, never.
    pub fn new(timeout: impl Into<Option<Duration>>) -> Self {
        let layer = PolicyLayer::new(IdleTimeout(timeout.into()));
        Self { layer }
    }
}

impl<S> Layer<S> for IdleTimeoutLayer {
    type Service = PolicyService<S, IdleTimeout>;

    fn layer(&self, inner: S) -> Self::Service {
        self.layer.layer(inner)
    }
}

impl<S, P: Clone> Layer<S> for PolicyLayer<P> {
    type Service = PolicyService<S, P>;

    fn layer(&self, inner: S) -> Self::Service {
        PolicyService {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// The service of a [`PolicyLayer`] or an [`IdleTimeoutLayer`].
#[derive(Clone, Copy, Debug)]
pub struct PolicyService<S, P> {
    inner: S,
    policy: P,
}

impl<S, P> PolicyService<S, P> {
    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, to change it for the requests to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, and discards the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, B> Service<Request<B>> for PolicyService<S, P>
where
    S: Service<Request<B>>,
    P: Policy,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.policy.clone());
        self.inner.call(request)
    }
}
