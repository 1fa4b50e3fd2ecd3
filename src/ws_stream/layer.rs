use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use http::request::Parts;
use tower_layer::Layer;

use super::service::{UpgradeRequired, WsStream};
use crate::{
    handshake::{ProtocolSource, Source},
    policy::{ByteRate, KeepAlive, Limits, OriginPolicy},
    protocol::{ChannelProtocols, ConfigError},
    rejection::Rejection,
    session::{AcceptMode, MapRejection, OnEnd, SessionConfig, SessionSummary, Sessions},
};

/// Turns WebSocket upgrades into sessions of an inner
/// `Service<`[`ChannelSet`](crate::ChannelSet)`>`.
///
/// What is no upgrade goes to the fallback, by default an answer of 426. See
/// [`WsStream`] for what becomes of readiness, and the crate's documentation for
/// which layer belongs outside and which inside.
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
#[derive(Clone)]
pub struct WsStreamLayer<F = UpgradeRequired> {
    protocols: Source,
    config: Arc<SessionConfig>,
    fallback: F,
}

impl WsStreamLayer {
    /// Creates a layer with the default policy, for a table of subprotocols or a source that
    /// makes one for each request; see [`ProtocolSource`].
    ///
    /// For a closure, use [`from_fn`](Self::from_fn).
    pub fn new(protocols: impl ProtocolSource) -> Self {
        Self::of(Source::Now(Arc::new(protocols)))
    }

    /// Creates a layer with the default policy, and a function that makes the table of
    /// subprotocols from the head of each request.
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
    ///         _ => return Err(Rejection::new(StatusCode::BAD_REQUEST, "say ?write=1 or ?write=0")),
    ///     };
    ///     Ok(ChannelProtocols::standard([channel]).expect("one channel is no error"))
    /// });
    /// # let _ = layer;
    /// ```
    pub fn from_fn<P>(protocols: P) -> Self
    where
        P: Fn(&Parts) -> Result<ChannelProtocols, Rejection> + Send + Sync + 'static,
    {
        Self::new(protocols)
    }

    /// Creates a layer with the default policy, and an asynchronous function that looks up the
    /// table of subprotocols for each request: for a gateway that has to ask its backend.
    ///
    /// The function is called once the head has been validated. Its future cannot borrow from
    /// the head: clone what it needs. The future runs in the task of the request, before the
    /// inner service is polled for readiness, and shares one
    /// [accept timeout](Self::accept_timeout) with it. It is dropped if the client leaves. A
    /// panic is answered with 500.
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
    ///     Ok(ChannelProtocols::standard([ChannelType::Write]).expect("one channel is no error"))
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
    /// Sends requests that are no upgrade to another service.
    ///
    /// Its error becomes the layer's, and its readiness the layer's too: while it
    /// is busy, upgrades wait as well.
    #[must_use]
    pub fn fallback<G>(self, fallback: G) -> WsStreamLayer<G> {
        WsStreamLayer {
            protocols: self.protocols,
            config: self.config,
            fallback,
        }
    }

    /// Bounds on what a peer can make a session hold. [`Limits`] in the request's
    /// extensions go before these.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.set(|config| config.policy.limits = limits)
    }

    /// Which origins of a browser are let in; default: the same as the host. An
    /// [`OriginPolicy`] in the request's extensions goes before this: see
    /// [`PolicyLayer`](crate::policy::PolicyLayer).
    #[must_use]
    pub fn origin(self, policy: OriginPolicy) -> Self {
        self.set(|config| config.origin = policy)
    }

    /// Where this layer's sessions are counted, and drained from. Default: in a
    /// [`Sessions`] that only the clones of the layer share.
    #[must_use]
    pub fn sessions(self, sessions: Sessions) -> Self {
        self.set(|config| config.sessions = sessions)
    }

    /// Who is told what became of each session, when all of it is over: for metrics and
    /// audits. It is called in the session's task, and should be quick; until it has
    /// returned the session counts in [`Sessions`]. What is refused is no session: it is an
    /// answer, with the [`Rejection`] in its extensions, for a layer outside to count by the
    /// [name](crate::RejectionKind::name) of its kind.
    ///
    /// For the label of a metric take [`EndCause::name`](crate::EndCause::name), because the
    /// text of a cause may hold a code that the peer has chosen. The session of a command that
    /// failed, or that a limit refused, still ends as `Completed`: the outcome of the command is
    /// in [`SessionSummary::status`].
    ///
    /// ```
    /// use tower_wsstream::WsStreamLayer;
    /// # use tower_wsstream::{ChannelProtocols, ChannelType};
    /// # fn main() -> Result<(), tower_wsstream::ConfigError> {
    /// # let protocols = ChannelProtocols::standard([ChannelType::Read])?;
    ///
    /// let layer = WsStreamLayer::new(protocols).on_end(|summary| {
    ///     let reason = summary.status.as_ref().and_then(|status| status.reason());
    ///     println!("{} {}: {:?}", summary.cause.name(), reason.unwrap_or("-"), summary.duration);
    /// });
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_end(self, tell: impl Fn(&SessionSummary) + Send + Sync + 'static) -> Self {
        self.set(|config| config.on_end = OnEnd::new(tell))
    }

    /// Ends sessions that exchange no data for so long, with
    /// [`EndCause::IdleTimeout`](crate::EndCause::IdleTimeout). Default none.
    ///
    /// Data messages in either direction count, piece by piece as they come and
    /// leave; Pings and Pongs do not. So a session whose client does not read, or
    /// whose service does not and has no [reserve](Limits::stall_reserve) left, is
    /// idle. The service learns the cause, and what it still says within the grace is sent.
    /// An [`IdleTimeout`](crate::policy::IdleTimeout) in the request's extensions goes
    /// before this: see [`IdleTimeoutLayer`](crate::policy::IdleTimeoutLayer).
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        self.set(|config| config.policy.idle_timeout = timeout)
    }

    /// Ends sessions after so long, data or not, with
    /// [`EndCause::TimeLimit`](crate::EndCause::TimeLimit). Default none.
    ///
    /// A [`TimeLimit`](crate::policy::TimeLimit) in the request's extensions goes before this, a
    /// [`ValidUntil`](crate::policy::ValidUntil) beside it.
    #[must_use]
    pub fn time_limit(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.set(|config| config.policy.time_limit = limit)
    }

    /// How many bytes a second a session may move in each direction. Unlimited by
    /// default. A [`ByteRate`] in the request's extensions goes before this.
    #[must_use]
    pub fn byte_rate(self, rate: ByteRate) -> Self {
        self.set(|config| config.policy.byte_rate = rate)
    }

    /// Pings that keep connections alive. Default one every 30 s, and no end where
    /// no answer comes; `None` for no Pings. A [`KeepAlive`] in the request's extensions
    /// goes before this.
    #[must_use]
    pub fn keep_alive(self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        let keep_alive = keep_alive.into();
        self.set(|config| config.policy.keep_alive = keep_alive)
    }

    /// When an upgrade is accepted. Default [`AcceptMode::Immediate`].
    #[must_use]
    pub fn accept(self, accept: AcceptMode) -> Self {
        self.set(|config| config.accept = accept)
    }

    /// What an error of the inner service becomes where it comes before the
    /// upgrade: an error of its readiness too. Default [`Rejection::from_error`], which
    /// is a good one to fall back to. A panic, and what is not ready or accepted in
    /// time, are no errors and do not come here; and under `RemoteCommandLayer` any
    /// error but a [`Rejection`] has become a Status before: map it inside of that,
    /// with `map_err`.
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_wsstream::{Rejection, WsStreamLayer};
    /// # use tower_wsstream::{ChannelProtocols, ChannelType};
    /// # fn main() -> Result<(), tower_wsstream::ConfigError> {
    /// # let protocols = ChannelProtocols::standard([ChannelType::Read])?;
    ///
    /// let layer = WsStreamLayer::new(protocols).map_rejection(|error| {
    ///     match error.downcast_ref::<std::io::Error>() {
    ///         Some(_) => Rejection::new(StatusCode::BAD_GATEWAY, "the node does not answer"),
    ///         None => Rejection::from_error(error),
    ///     }
    /// });
    /// # let _ = layer;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn map_rejection<M>(self, map: M) -> Self
    where
        M: Fn(&(dyn StdError + 'static)) -> Rejection + Send + Sync + 'static,
    {
        self.set(|config| config.map_rejection = MapRejection(Arc::new(map)))
    }

    /// How long a request waits for the inner service to be ready, and with
    /// [`AcceptMode::Explicit`] to accept, both together, before it is answered with 504.
    /// With [`AcceptMode::Immediate`] a first poll that is pending accepts. Default 10 s:
    /// clients give up between 30 and 45 s.
    #[must_use]
    pub fn accept_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.accept_timeout = timeout)
    }

    /// How long the server may take to hand the connection over after the 101.
    /// Default 10 s; after it the session is lost.
    #[must_use]
    pub fn upgrade_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.upgrade_timeout = timeout)
    }

    /// How long the service may go on after the end of its session. Default 1 s;
    /// after it the service's future is dropped.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.set(|config| config.grace = grace)
    }

    /// How long the service may go on after a clean Close of the peer on a subprotocol
    /// without half-close, in a session that has input: that is how a client says that its
    /// input has ended. Default 30 s, counted from that Close. The ordinary [grace](Self::grace)
    /// applies if a Close cannot mean that; see
    /// [`ChannelProtocolConfig::close_ends_input`](crate::ChannelProtocolConfig::close_ends_input).
    #[must_use]
    pub fn closed_grace(self, grace: Duration) -> Self {
        self.set(|config| config.closed_grace = grace)
    }

    /// Sets how long a peer may be silent after our Close. Default 30 s; a longer one holds
    /// sockets of dead clients longer.
    ///
    /// It applies twice. The sending side is shut down when the peer's own Close has come, or
    /// after that much silence: proxies that copy bytes close both of their connections at the
    /// first end of file, and an earlier FIN would cost their client the output that it has not
    /// read yet. Then the socket is dropped at the peer's FIN, or after that much silence again.
    /// Both together take no longer than the [`close_limit`](Self::close_limit), whatever the
    /// peer sends.
    #[must_use]
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.close_timeout = timeout)
    }

    /// Sets how long a session may take to close, whatever the peer does. Default 5 minutes.
    ///
    /// It applies twice: until our Close has left, where what is queued has its own time
    /// beside it ([`Limits::min_read_rate`]), and from then on until the socket is dropped.
    #[must_use]
    pub fn close_limit(self, limit: Duration) -> Self {
        self.set(|config| config.close_limit = limit)
    }

    /// Checks the configuration. A layer with an invalid one answers
    /// every upgrade with a 500 that says so.
    ///
    /// # Errors
    /// The knob, and what it should be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.config.check()
    }

    /// What an extractor does the layer's work with.
    #[cfg(feature = "axum08")]
    pub(crate) fn parts(&self) -> (Source, Arc<SessionConfig>) {
        (self.protocols.clone(), Arc::clone(&self.config))
    }

    fn set(mut self, change: impl FnOnce(&mut SessionConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
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
