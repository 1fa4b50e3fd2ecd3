use std::{fmt, sync::Arc};

use http::request::Parts;
use tower_layer::Layer;

use super::{service::RemoteCommandService, user_agent::hold_by_user_agent};
use crate::{session::Hold, unwind::catch};

/// Passes the channels of exec and attach to a `Service<RemoteCommand>`, and reports its exit status
/// to the client.
///
/// This layer belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer), or a layer of the feature
/// `spdy`, with [`Protocols`](super::Protocols), directly or with other layers in between. Over
/// WebSocket, it first sends the ready message, which is an empty message on the lowest channel that the client reads, as
/// Kubernetes' servers do. Some clients, such as kubectl up to 1.33, may lose early output. For them,
/// all output is held until there is proof that the client reads; see [`hold`](Self::hold).
///
/// kubectl prints only a Status, and tries SPDY if an upgrade is refused. Therefore an error or a
/// panic of the service always becomes a Status. The one exception is a
/// [`Rejection`](crate::Rejection) before the upgrade is accepted, which becomes the HTTP answer.
/// With [`AcceptMode::Explicit`](crate::AcceptMode), the service can refuse until it calls
/// `session.accept()`.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # let _ = service;
/// ```
///
/// With layers for commands inside, whose errors kubectl shows, and output that is never held:
///
/// ```
/// use std::time::Duration;
///
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new().hold(|_| None))
///     .timeout(Duration::from_secs(60 * 60))
///     .load_shed()
///     .concurrency_limit(64)
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # let _ = service;
/// ```
#[derive(Clone, Debug, Default)]
pub struct RemoteCommandLayer {
    hold: ChooseHold,
}

impl RemoteCommandLayer {
    /// Creates a layer that holds output for the clients that need it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a function that chooses, for each session, whether and how output is held. Default
    /// [`hold_by_user_agent`].
    ///
    /// The default [`Hold`] delays output by one round trip and 20 ms, and by 250 ms at most.
    /// Without it, a client that is not ready loses its first output, or an early exit code. The
    /// function is called once per session, before the service, and should be quick. If it
    /// panics, output is held.
    ///
    /// # Examples
    ///
    /// For clients that are known to be ready, never hold:
    ///
    /// ```
    /// use tower_wsstream::remotecommand::RemoteCommandLayer;
    ///
    /// let layer = RemoteCommandLayer::new().hold(|_| None);
    /// # let _ = layer;
    /// ```
    ///
    /// For clients that are far away, always hold, with a longer bound:
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use tower_wsstream::{remotecommand::RemoteCommandLayer, session::Hold};
    ///
    /// let hold = Hold::until_peer_reads(Duration::from_millis(20), Duration::from_secs(1));
    /// let layer = RemoteCommandLayer::new().hold(move |_| Some(hold));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn hold<F>(mut self, choose: F) -> Self
    where
        F: Fn(&Parts) -> Option<Hold> + Send + Sync + 'static,
    {
        self.hold = ChooseHold(Arc::new(choose));
        self
    }
}

/// The function of [`RemoteCommandLayer::hold`].
#[derive(Clone)]
pub(super) struct ChooseHold(Arc<Choose>);

type Choose = dyn Fn(&Parts) -> Option<Hold> + Send + Sync;

impl ChooseHold {
    pub(super) fn ask(&self, head: &Parts) -> Option<Hold> {
        catch(|| (self.0)(head)).unwrap_or_else(|_| {
            tracing::error!("the function of RemoteCommandLayer::hold panicked: output is held");
            Some(Hold::default())
        })
    }
}

impl Default for ChooseHold {
    fn default() -> Self {
        Self(Arc::new(hold_by_user_agent))
    }
}

impl fmt::Debug for ChooseHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

impl<S> Layer<S> for RemoteCommandLayer {
    type Service = RemoteCommandService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RemoteCommandService::new(inner, self.hold.clone())
    }
}
