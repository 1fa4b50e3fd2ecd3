//! Whose pages may connect, for a route of its own.

use super::policy::OriginPolicy;
use crate::policy::{Policy, PolicyLayer, PolicyService, Sealed};

/// Gives a route an [`OriginPolicy`] of its own.
///
/// Belongs outside of [`WsStreamLayer`](crate::WsStreamLayer), over a
/// `Service<http::Request<B>>`. It inserts the policy into the request's extensions
/// and overwrites what a layer further out has put there.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, OriginPolicy, OriginPolicyLayer, WsStreamLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// // For pages of the own host.
/// let exec = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
///
/// // The same on a route for the pages of the console.
/// let console = OriginPolicy::allow_list(["https://console.example.com"])?;
/// let from_the_console = ServiceBuilder::new()
///     .layer(OriginPolicyLayer::new(console))
///     .service(exec.clone());
/// # let _ = (exec, from_the_console);
/// # Ok(())
/// # }
/// ```
pub type OriginPolicyLayer = PolicyLayer<OriginPolicy>;

/// The service that [`OriginPolicyLayer`] makes.
pub type OriginPolicyService<S> = PolicyService<S, OriginPolicy>;

impl Sealed for OriginPolicy {}
impl Policy for OriginPolicy {}

impl OriginPolicyLayer {
    /// Lets this policy decide on the upgrades of the route.
    pub fn new(policy: OriginPolicy) -> Self {
        Self::of(policy)
    }
}
