use std::{fmt, sync::Arc, time::Duration};

use http::request::Parts;
use tower_layer::Layer;

use super::service::{UpgradeRequired, WsStream};
use crate::{
    handshake::{ProtocolSource, Source},
    policy::Limits,
    protocol::{ChannelProtocols, ConfigError},
    rejection::Rejection,
    session::{SessionConfig, Sessions},
};

/// Turns WebSocket upgrades into sessions of an inner
/// `Service<`[`ChannelSet`](crate::ChannelSet)`>`.
///
/// A request that is not an upgrade goes to the [fallback](Self::fallback), which answers with
/// 426 by default. [`SessionConfig`] has the settings of the sessions. See [`WsStream`] for
/// readiness and refusals, and the [guide](crate::guide::layers) for the layers that belong outside
/// and inside of this one.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
///
/// async fn session(channels: ChannelSet) -> Result<(), BoxError> {
///     Ok(())
/// }
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(protocols))
///     .service_fn(session);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
///
/// With settings of its own. The shorthands set what most servers set:
///
/// ```
/// use std::time::Duration;
///
/// use tower_wsstream::{
///     ChannelProtocols, ChannelType, SessionConfig, Sessions, WsStreamLayer,
///     policy::{KeepAlive, Limits},
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
/// // Shared by all layers of the process, so that one drain ends all sessions.
/// let sessions = Sessions::default();
/// let keep_alive = KeepAlive::every(Duration::from_secs(20)).timeout(Duration::from_secs(10));
/// let layer = WsStreamLayer::new(protocols)
///     .config(SessionConfig::default().keep_alive(keep_alive))
///     .limits(Limits::default().receive_window(64 * 1024))
///     .idle_timeout(Duration::from_secs(4 * 60 * 60))
///     .sessions(sessions);
/// // At the start of the process: otherwise each upgrade is answered with a 500 that says it.
/// layer.check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct WsStreamLayer<F = UpgradeRequired> {
    protocols: Source,
    config: Arc<SessionConfig>,
    fallback: F,
}

impl WsStreamLayer {
    /// Creates a layer with the default configuration. `protocols` is a table of subprotocols, or a
    /// source of one for each request; see [`ProtocolSource`].
    ///
    /// For a closure, use [`from_fn`](Self::from_fn).
    pub fn new(protocols: impl ProtocolSource) -> Self {
        Self::of(Source::Now(Arc::new(protocols)))
    }

    /// Creates a layer with the default configuration, and a function that returns the table of
    /// subprotocols for the head of a request.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_wsstream::{ChannelProtocols, ChannelType, Rejection, WsStreamLayer};
    ///
    /// let layer = WsStreamLayer::from_fn(|head| {
    ///     let channel = match head.uri.query() {
    ///         Some("write=1") => ChannelType::ReadWrite,
    ///         Some("write=0") => ChannelType::Write,
    ///         _ => return Err(Rejection::new(StatusCode::BAD_REQUEST, "add ?write=1 or ?write=0")),
    ///     };
    ///     Ok(ChannelProtocols::standard([channel]).expect("one channel is valid"))
    /// });
    /// # let _ = layer;
    /// ```
    pub fn from_fn<P>(protocols: P) -> Self
    where
        P: Fn(&Parts) -> Result<ChannelProtocols, Rejection> + Send + Sync + 'static,
    {
        Self::new(protocols)
    }

    /// Creates a layer with the default configuration, and an asynchronous function that looks up
    /// the table of subprotocols for a request. This is for a gateway that has to ask its backend.
    ///
    /// The function is called once the head has been validated. Its future cannot borrow from the
    /// head: clone what it needs. The future runs in the task of the request, before the inner
    /// service is polled for readiness. One [accept timeout](SessionConfig::accept_timeout) bounds
    /// both. The future is dropped if the client leaves. A panic is answered with 500.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_wsstream::{ChannelProtocols, ChannelType, Rejection, WsStreamLayer};
    /// # async fn channels_of(_node: &str) -> Result<u8, Rejection> { Ok(1) }
    ///
    /// let layer = WsStreamLayer::from_async_fn(|head| {
    ///     let node = head.uri.path().to_owned();
    ///     async move {
    ///         let channels = channels_of(&node).await?;
    ///         let channels = vec![ChannelType::ReadWrite; channels.into()];
    ///         ChannelProtocols::standard(channels)
    ///             .map_err(|error| Rejection::new(http::StatusCode::BAD_GATEWAY, error.to_string()))
    ///     }
    /// });
    /// # let _ = layer;
    /// ```
    ///
    /// An `async` closure borrows from the head, and does not compile:
    ///
    /// ```compile_fail
    /// # use tower_wsstream::{ChannelProtocols, ChannelType, WsStreamLayer};
    /// let layer = WsStreamLayer::from_async_fn(async |_head| {
    ///     Ok(ChannelProtocols::standard([ChannelType::Write]).expect("one channel is valid"))
    /// });
    /// ```
    pub fn from_async_fn<P, Fut>(protocols: P) -> Self
    where
        P: Fn(&Parts) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ChannelProtocols, Rejection>> + Send + 'static,
    {
        Self::of(Source::Later(Arc::new(move |head| {
            Box::pin(protocols(head))
        })))
    }

    fn of(protocols: Source) -> Self {
        Self {
            protocols,
            config: Arc::default(),
            fallback: UpgradeRequired::default(),
        }
    }
}

impl<F> WsStreamLayer<F> {
    /// Sets the service for requests that are not upgrades.
    ///
    /// The layer's service has the fallback's error type and its readiness: while the fallback is
    /// busy, upgrades wait as well.
    #[must_use]
    pub fn fallback<G>(self, fallback: G) -> WsStreamLayer<G> {
        WsStreamLayer {
            protocols: self.protocols,
            config: self.config,
            fallback,
        }
    }

    /// Sets the configuration of the sessions.
    ///
    /// It replaces every earlier setting, including those made by the shorthands of this layer. Only
    /// the [`Sessions`] are kept, unless the configuration has its own.
    #[must_use]
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.config = Arc::new(config.replacing(&self.config));
        self
    }

    /// Sets [`SessionConfig::limits`]: the bounds on the memory that a peer can make a session hold.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.configure(|config| config.limits(limits))
    }

    /// Sets [`SessionConfig::idle_timeout`]: ends a session after this long without data.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.configure(|config| config.idle_timeout(timeout))
    }

    /// Sets [`SessionConfig::sessions`]: the registry that counts and drains the sessions. By
    /// default, a layer and its clones share one of their own.
    #[must_use]
    pub fn sessions(self, sessions: Sessions) -> Self {
        self.configure(|config| config.sessions(sessions))
    }

    /// Checks the configuration; see [`SessionConfig::check`].
    ///
    /// # Errors
    /// Fails if a setting is invalid; the error says which values are valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.config.check()
    }

    /// Returns the subprotocols and the configuration, for an extractor that replaces the layer.
    #[cfg(feature = "axum08")]
    pub(crate) fn parts(&self) -> (Source, Arc<SessionConfig>) {
        (self.protocols.clone(), Arc::clone(&self.config))
    }

    fn configure(mut self, change: impl FnOnce(SessionConfig) -> SessionConfig) -> Self {
        self.config = Arc::new(change(Arc::unwrap_or_clone(self.config)));
        self
    }
}

impl<S, F: Clone> Layer<S> for WsStreamLayer<F> {
    type Service = WsStream<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        WsStream::new(
            inner,
            self.fallback.clone(),
            self.protocols.clone(),
            Arc::clone(&self.config),
        )
    }
}

impl<F> fmt::Debug for WsStreamLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsStreamLayer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ChannelType;

    fn layer() -> WsStreamLayer {
        WsStreamLayer::new(ChannelProtocols::standard([ChannelType::Read]).unwrap())
    }

    #[test]
    fn a_shorthand_changes_one_setting_and_a_configuration_replaces_all() {
        let hour = Duration::from_secs(60 * 60);
        let config = SessionConfig::default().grace(hour);
        let short = layer().config(config.clone()).idle_timeout(hour);
        assert_eq!(short.config.grace, hour);
        assert_eq!(short.config.policy.idle_timeout, Some(hour));
        let replaced = short.config(SessionConfig::default());
        assert_ne!(replaced.config.grace, hour);
        assert_eq!(replaced.config.policy.idle_timeout, None);
    }

    #[test]
    fn no_time_to_upgrade_is_an_error() {
        let config = SessionConfig::default().upgrade_timeout(Duration::ZERO);
        let error = layer().config(config).check().unwrap_err();
        assert!(error.to_string().contains("upgrade_timeout"), "{error}");
    }

    #[test]
    fn a_layer_keeps_its_sessions_unless_a_configuration_names_others() {
        let shares = |layer: &WsStreamLayer, sessions: &Sessions| {
            Arc::ptr_eq(layer.config.sessions.reserve(), sessions.reserve())
        };
        let (mine, other) = (Sessions::default(), Sessions::default());
        let plain = || SessionConfig::default();
        assert!(shares(
            &layer().sessions(mine.clone()).config(plain()),
            &mine
        ));
        assert!(shares(
            &layer().config(plain().sessions(mine.clone())),
            &mine
        ));
        let chosen = plain().sessions(other.clone());
        assert!(shares(
            &layer().sessions(mine.clone()).config(chosen),
            &other
        ));
        let one = layer().config(plain());
        let own = one.config.sessions.clone();
        assert!(shares(&one.clone().limits(Limits::default()), &own));
        assert!(!shares(&layer().config(plain()), &own), "two layers");
    }
}
