use std::{fmt, time::Duration};

use http::request::Parts;
use tower_layer::Layer;

use super::service::Streaming;
use crate::{
    handshake::ProtocolSource,
    policy::Limits,
    protocol::{ChannelProtocols, ConfigError},
    rejection::{Rejection, UpgradeTo},
    session::{SessionConfig, Sessions},
    ws_stream::{UpgradeRequired, WsStreamLayer},
};

/// Turns upgrades to WebSocket and to SPDY/3.1 into sessions of an inner
/// `Service<`[`ChannelSet`](crate::ChannelSet)`>`, and looks at `Upgrade` to tell them apart.
///
/// Both kinds of sessions have the same subprotocols, the same configuration and clones of the same
/// service, and are counted and drained together. A request for neither goes to the
/// [fallback](Self::fallback), which answers with 426 by default. The settings are those of a
/// [`WsStreamLayer`]. The [module](crate::streaming) says which protocols a client can ask for over
/// SPDY.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{StreamingLayer, portforward::Protocols};
///
/// let layer = StreamingLayer::new(Protocols::default());
/// # let _ = layer;
/// ```
///
/// With settings of its own, and beside other routes in one service:
///
/// ```
/// use std::time::Duration;
///
/// use tower::{ServiceBuilder, service_fn};
/// use tower_wsstream::{
///     BoxError, SessionConfig, Sessions, StreamingLayer,
///     policy::{Limits, OriginPolicy},
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// async fn index(_: http::Request<String>) -> Result<http::Response<String>, BoxError> {
///     Ok(http::Response::new("exec is here\n".to_owned()))
/// }
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let hours = |n: u64| Duration::from_secs(n * 60 * 60);
/// let layer = StreamingLayer::new(Protocols::default())
///     .config(SessionConfig::default().origin(OriginPolicy::any()).time_limit(hours(8)))
///     .limits(Limits::default().stall_reserve(1 << 20))
///     .idle_timeout(hours(4))
///     .sessions(Sessions::default())
///     .fallback(service_fn(index));
/// layer.check()?;
///
/// let exec = ServiceBuilder::new()
///     .layer(layer)
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # let _ = exec;
/// # Ok(())
/// # }
/// ```
///
/// A table that depends on the request, and one that has to be looked up. [`WsStreamLayer::from_fn`]
/// and [`WsStreamLayer::from_async_fn`] say more.
///
/// ```
/// use http::StatusCode;
/// use tower_wsstream::{
///     ProtocolSource, Rejection, StreamingLayer,
///     remotecommand::Protocols,
/// };
/// # async fn is_ready(path: &str) -> bool { true }
///
/// let known = StreamingLayer::from_fn(|head| {
///     if !head.uri.path().ends_with("/exec") {
///         return Err(Rejection::new(StatusCode::NOT_FOUND, "only exec is here"));
///     }
///     Protocols::default().protocols(head)
/// });
/// let asked = StreamingLayer::from_async_fn(|head| {
///     let (path, table) = (head.uri.path().to_owned(), Protocols::default().protocols(head));
///     async move {
///         match is_ready(&path).await {
///             true => table,
///             false => Err(Rejection::new(StatusCode::CONFLICT, "the pod is not ready")),
///         }
///     }
/// });
/// # let _ = (known, asked);
/// ```
#[derive(Clone)]
pub struct StreamingLayer<F = UpgradeRequired> {
    /// The settings, which are the same for both transports.
    sessions: WsStreamLayer<F>,
    websocket: bool,
}

impl StreamingLayer {
    /// Creates a layer with the default configuration. `protocols` is a table of subprotocols, or a
    /// source of one for each request; see [`ProtocolSource`].
    ///
    /// For a closure, use [`from_fn`](Self::from_fn).
    pub fn new(protocols: impl ProtocolSource) -> Self {
        Self::of(WsStreamLayer::new(protocols))
    }

    /// Creates a layer with the default configuration, and a function that returns the table of
    /// subprotocols for the head of a request; see [`WsStreamLayer::from_fn`].
    pub fn from_fn<P>(protocols: P) -> Self
    where
        P: Fn(&Parts) -> Result<ChannelProtocols, Rejection> + Send + Sync + 'static,
    {
        Self::of(WsStreamLayer::from_fn(protocols))
    }

    /// Creates a layer with the default configuration, and an asynchronous function that looks up
    /// the table of subprotocols for a request; see [`WsStreamLayer::from_async_fn`].
    pub fn from_async_fn<P, Fut>(protocols: P) -> Self
    where
        P: Fn(&Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ChannelProtocols, Rejection>> + Send + 'static,
    {
        Self::of(WsStreamLayer::from_async_fn(protocols))
    }

    fn of(sessions: WsStreamLayer) -> Self {
        let to = UpgradeTo::Either;
        Self {
            sessions: sessions.fallback(UpgradeRequired { to }),
            websocket: true,
        }
    }

    /// Leaves requests for a WebSocket to the fallback, so that sessions begin over SPDY only.
    ///
    /// A fallback of your own is set after this.
    ///
    /// # Examples
    ///
    /// SPDY from this crate, WebSockets from a service that is there already:
    ///
    /// ```
    /// use tower_wsstream::{StreamingLayer, remotecommand::Protocols};
    /// # let websockets = tower::service_fn(async |_: http::Request<String>| {
    /// #     Ok::<_, std::convert::Infallible>(http::Response::new(String::new()))
    /// # });
    ///
    /// let layer = StreamingLayer::new(Protocols::default()).spdy_only().fallback(websockets);
    /// # let _ = layer;
    /// ```
    #[doc(alias = "SpdyLayer")]
    #[must_use]
    pub fn spdy_only(self) -> Self {
        let to = UpgradeTo::Spdy;
        Self {
            sessions: self.sessions.fallback(UpgradeRequired { to }),
            websocket: false,
        }
    }
}

impl<F> StreamingLayer<F> {
    /// Sets the service for all other requests. The layer's service has its error type and its
    /// readiness; see [`WsStreamLayer::fallback`].
    #[must_use]
    pub fn fallback<G>(self, fallback: G) -> StreamingLayer<G> {
        StreamingLayer {
            sessions: self.sessions.fallback(fallback),
            websocket: self.websocket,
        }
    }

    /// Sets the configuration of the sessions; see [`WsStreamLayer::config`].
    #[must_use]
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.sessions = self.sessions.config(config);
        self
    }

    /// Sets [`SessionConfig::limits`]: the bounds on the memory that a peer can make a session hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.sessions = self.sessions.limits(limits);
        self
    }

    /// Sets [`SessionConfig::idle_timeout`]: ends a session after this long without data.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.sessions = self.sessions.idle_timeout(timeout);
        self
    }

    /// Sets [`SessionConfig::sessions`]: the registry that counts and drains the sessions. By
    /// default, a layer and its clones share one of their own.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = self.sessions.sessions(sessions);
        self
    }

    /// Checks the configuration; see [`SessionConfig::check`].
    ///
    /// # Errors
    /// Fails if a setting is invalid; the error says which values are valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.sessions.check()
    }
}

impl<S, F: Clone> Layer<S> for StreamingLayer<F> {
    type Service = Streaming<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Streaming::new(self.sessions.layer(inner), self.websocket)
    }
}

impl<F> fmt::Debug for StreamingLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingLayer")
            .field("sessions", &self.sessions)
            .field("websocket", &self.websocket)
            .finish()
    }
}
