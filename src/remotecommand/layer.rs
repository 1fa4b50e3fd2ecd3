use std::{fmt, sync::Arc};

use http::request::Parts;
use tower_layer::Layer;

use super::{service::RemoteCommandService, user_agent::hold_by_user_agent};
use crate::{session::Hold, unwind::catch};

/// Hands the channels of exec and attach to a `Service<RemoteCommand>`, and its exit status to
/// the client.
///
/// Belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer) with
/// [`Protocols`](super::Protocols), directly or with other layers in between. First it sends the
/// ready message, an empty one on the lowest channel that the client reads, as Kubernetes'
/// servers do. Some clients may lose early output, such as kubectl up to 1.33. For them all output
/// is held until the client is seen to read; see [`hold`](Self::hold).
///
/// kubectl prints only a Status, and tries SPDY if an upgrade is refused. So an error or a panic
/// of the service becomes a Status, at any time. A [`Rejection`](crate::Rejection) before the
/// upgrade is accepted is the HTTP answer; with [`AcceptMode::Explicit`](crate::AcceptMode) the
/// service has until `session.accept()` to find out that it has to refuse.
#[derive(Clone, Debug, Default)]
pub struct RemoteCommandLayer {
    hold: ChooseHold,
}

impl RemoteCommandLayer {
    /// Creates a layer that holds output for the clients that need it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how output is held back for each session; default:
    /// [`hold_by_user_agent`](super::hold_by_user_agent).
    ///
    /// The default [`Hold`] delays output by one round trip and 20 ms, and by 250 ms at most.
    /// Without it, a client that is not ready loses its first output, or an early exit code. The
    /// function is called once per session, before the service, and should be quick. If it
    /// panics, output is held.
    ///
    /// # Examples
    ///
    /// Never holding, for clients that are known to be ready:
    ///
    /// ```
    /// use tower_wsstream::remotecommand::RemoteCommandLayer;
    ///
    /// let layer = RemoteCommandLayer::new().hold(|_| None);
    /// # let _ = layer;
    /// ```
    ///
    /// Always holding, with a longer bound for clients that are far away:
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
