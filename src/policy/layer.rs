use std::time::Duration;

use tower_layer::Layer;

use super::{
    byte_rate::ByteRate,
    keep_alive::KeepAlive,
    limits::Limits,
    service::PolicyService,
    time::{IdleTimeout, TimeLimit, ValidUntil},
};

/// A policy that a [`PolicyLayer`] can set for the sessions of a route.
///
/// This trait is sealed. It is implemented for the request extensions that
/// [`WsStreamLayer`](crate::WsStreamLayer) reads.
///
/// # Examples
///
/// A function for every policy:
///
/// ```
/// use tower_wsstream::policy::{Limits, Policy, PolicyLayer};
///
/// /// The layer of a route, if its section of the configuration has the setting.
/// fn route<P: Policy>(setting: Option<P>) -> Option<PolicyLayer<P>> {
///     setting.map(PolicyLayer::new)
/// }
/// assert!(route(Some(Limits::default())).is_some());
/// ```
pub trait Policy: Sealed + Clone + Send + Sync + 'static {}

/// Seals [`Policy`].
#[allow(unreachable_pub, reason = "must not be nameable outside of the crate")]
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
/// This layer belongs outside of [`WsStreamLayer`](crate::WsStreamLayer), around a
/// `Service<http::Request<B>>`. It inserts the policy into the request's extensions, in place of one
/// that a layer further out has inserted.
///
/// An auth layer that sets another policy for some users must therefore be inside of this one. In
/// axum, the layers of `Router::layer` are outside of the services of `route_service`. There, set the
/// policy of a route in the [`SessionConfig`](crate::SessionConfig) of its `WsStreamLayer`, or put
/// this layer around the whole router.
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
/// // On this route, sessions may neither be idle for an hour nor move more than 1 MiB a second.
/// let visitors = ServiceBuilder::new()
///     .layer(IdleTimeoutLayer::new(hours(1)))
///     .layer(PolicyLayer::new(ByteRate::default().inbound(1 << 20).outbound(1 << 20)))
///     .service(exec.clone());
/// // On this one, they may be idle forever.
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

/// Sets the idle timeout of the sessions of a route.
///
/// This is a [`PolicyLayer`] with an [`IdleTimeout`].
///
/// # Examples
///
/// Twelve hours on the route of the console, in place of the hour of the layer:
///
/// ```
/// use std::time::Duration;
///
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer, policy::IdleTimeoutLayer,
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let hour = Duration::from_secs(60 * 60);
/// let protocols = ChannelProtocols::standard([ChannelType::ReadWrite])?;
/// let console = ServiceBuilder::new()
///     .layer(IdleTimeoutLayer::new(12 * hour))
///     .layer(WsStreamLayer::new(protocols).idle_timeout(hour))
///     .service_fn(async |_: ChannelSet| Ok::<_, BoxError>(()));
/// # let _ = console;
/// # Ok(())
/// # }
/// ```
///
/// `IdleTimeoutLayer::new(None)` turns the timeout off.
#[derive(Clone, Copy, Debug)]
pub struct IdleTimeoutLayer {
    layer: PolicyLayer<IdleTimeout>,
}

impl IdleTimeoutLayer {
    /// Creates a layer that ends a session after this long without data, or never with `None`.
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
        PolicyService::new(inner, self.policy.clone())
    }
}
