use std::{fmt, time::Duration};

use http::request::Parts;
use tower_layer::Layer;

use super::service::Spdy;
use crate::{
    handshake::ProtocolSource,
    policy::Limits,
    protocol::{ChannelProtocols, ConfigError},
    rejection::{Rejection, UpgradeTo},
    session::{SessionConfig, Sessions},
    ws_stream::{UpgradeRequired, WsStreamLayer},
};

/// Turns upgrades to SPDY/3.1 into sessions of an inner
/// `Service<`[`ChannelSet`](crate::ChannelSet)`>`.
///
/// A request that is not such an upgrade goes to the [fallback](Self::fallback), which answers with
/// 426 by default. The settings are those of a [`WsStreamLayer`]. To serve both transports, use a
/// [`StreamingLayer`](crate::StreamingLayer). The [module](crate::streaming) says which protocols a
/// client can ask for.
///
/// # Examples
///
/// ```
/// use tower_wsstream::{SpdyLayer, remotecommand::Protocols};
///
/// let layer = SpdyLayer::new(Protocols::default());
/// # let _ = layer;
/// ```
#[derive(Clone)]
pub struct SpdyLayer<F = UpgradeRequired> {
    /// The settings that the layers of both transports share.
    common: WsStreamLayer<F>,
}

impl SpdyLayer {
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

    fn of(common: WsStreamLayer) -> Self {
        let to = UpgradeTo::Spdy;
        Self {
            common: common.fallback(UpgradeRequired { to }),
        }
    }
}

impl<F> SpdyLayer<F> {
    /// Sets the service for all other requests. The layer's service has its error type and its
    /// readiness; see [`WsStreamLayer::fallback`].
    #[must_use]
    pub fn fallback<G>(self, fallback: G) -> SpdyLayer<G> {
        SpdyLayer {
            common: self.common.fallback(fallback),
        }
    }

    /// Sets the configuration of the sessions; see [`WsStreamLayer::config`].
    #[must_use]
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.common = self.common.config(config);
        self
    }

    /// Sets [`SessionConfig::limits`]: the bounds on the memory that a peer can make a session hold.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.common = self.common.limits(limits);
        self
    }

    /// Sets [`SessionConfig::idle_timeout`]: ends a session after this long without data.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.common = self.common.idle_timeout(timeout);
        self
    }

    /// Sets [`SessionConfig::sessions`]: the registry that counts and drains the sessions. By
    /// default, a layer and its clones share one of their own.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.common = self.common.sessions(sessions);
        self
    }

    /// Checks the configuration; see [`SessionConfig::check`].
    ///
    /// # Errors
    /// Fails if a setting is invalid; the error says which values are valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.common.check()
    }
}

impl<S, F: Clone> Layer<S> for SpdyLayer<F> {
    type Service = Spdy<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        Spdy::new(self.common.layer(inner))
    }
}

impl<F> fmt::Debug for SpdyLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SpdyLayer").field(&self.common).finish()
    }
}
