use std::{error::Error as StdError, sync::Arc, time::Duration};

use http::Extensions;

use super::{AcceptMode, map_rejection::MapRejection};
use crate::{
    policy::{ByteRate, KeepAlive, Limits, OriginPolicy, SessionPolicy},
    protocol::ConfigError,
    rejection::Rejection,
    session::{OnEnd, SessionSummary, Sessions},
};

/// The default bound on the wait for the inner service: for its readiness and, with
/// `AcceptMode::Explicit`, its acceptance together. Clients give up on an unanswered handshake after
/// 30 to 45 s.
pub(crate) const DEFAULT_ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The default bound on the time in which the server hands over the connection after the 101.
pub(crate) const DEFAULT_UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// The default time in which the service can clean up after the end of the session.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// The default time in which the service can finish after a Close frame that may mean that only the
/// client's input has ended: the client may still wait for the result of work that is left.
pub(crate) const DEFAULT_CLOSED_GRACE: Duration = Duration::from_secs(30);

/// The default bound on the peer's silence after our Close, and while lingering. In this time, a slow
/// reader that sends nothing can still receive the data in the kernel's buffers.
pub(crate) const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// The default bound on closing as a whole. A peer that has not finished by then never will.
pub(crate) const DEFAULT_CLOSE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The configuration of a layer's sessions.
///
/// Pass it to [`WsStreamLayer::config`](crate::WsStreamLayer::config),
/// [`WsReaderLayer::config`](crate::reader::WsReaderLayer::config), the layers of the feature
/// `spdy`, or the `WsStreamUpgrade` extractor of the feature `axum08`. The layers have [`limits`](Self::limits),
/// [`idle_timeout`](Self::idle_timeout) and [`sessions`](Self::sessions) as shorthands.
///
/// Clones share their [`Sessions`] if those were [set](Self::sessions): the sessions of layers with
/// clones of such a configuration are counted and drained together.
///
/// | setting | default |
/// |---|---|
/// | [`accept`](Self::accept) | [`AcceptMode::Immediate`] |
/// | [`accept_timeout`](Self::accept_timeout) | 10 s |
/// | [`upgrade_timeout`](Self::upgrade_timeout) | 10 s |
/// | [`map_rejection`](Self::map_rejection) | [`Rejection::from_error`] |
/// | [`origin`](Self::origin) | [`OriginPolicy::same_origin`] |
/// | [`limits`](Self::limits) | [`Limits::default`] |
/// | [`byte_rate`](Self::byte_rate) | unlimited |
/// | [`idle_timeout`](Self::idle_timeout) | none |
/// | [`time_limit`](Self::time_limit) | none |
/// | [`keep_alive`](Self::keep_alive) | a Ping every 30 s |
/// | [`grace`](Self::grace), [`closed_grace`](Self::closed_grace) | 1 s, 30 s |
/// | [`close_timeout`](Self::close_timeout), [`close_limit`](Self::close_limit) | 30 s, 5 min |
/// | [`sessions`](Self::sessions) | those of the layer |
/// | [`on_end`](Self::on_end) | none |
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_wsstream::{
///     AcceptMode, ChannelProtocols, ChannelType, SessionConfig, WsStreamLayer, policy::KeepAlive,
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let secs = Duration::from_secs;
/// let config = SessionConfig::default()
///     .accept(AcceptMode::Explicit)
///     .keep_alive(KeepAlive::every(secs(20)).timeout(secs(10)))
///     .time_limit(secs(8 * 60 * 60));
/// config.check()?;
///
/// let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
/// let layer = WsStreamLayer::new(protocols).config(config);
/// # let _ = layer;
/// # Ok(())
/// # }
/// ```
///
/// Every other setting, for a console on slow links:
///
/// ```
/// use std::time::Duration;
///
/// use tower_wsstream::{
///     Rejection, SessionConfig, Sessions,
///     policy::{ByteRate, Limits, OriginPolicy},
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let secs = Duration::from_secs;
/// let config = SessionConfig::default()
///     // Before the session.
///     .accept_timeout(secs(20))
///     .upgrade_timeout(secs(20))
///     .origin(OriginPolicy::allow_list(["https://console.example.com"])?)
///     .map_rejection(Rejection::from_error)
///     // While it lasts.
///     .limits(Limits::default().receive_window(64 * 1024))
///     .byte_rate(ByteRate::default().outbound(1 << 20))
///     .idle_timeout(secs(30 * 60))
///     // Once it ends.
///     .grace(secs(5))
///     .closed_grace(secs(60))
///     .close_timeout(secs(60))
///     .close_limit(secs(10 * 60))
///     .on_end(|end| println!("{}", end.cause))
///     // Where it is counted.
///     .sessions(Sessions::default());
/// config.check()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The part that a request's extensions may override.
    pub(crate) policy: SessionPolicy,
    pub(crate) sessions: Sessions,
    /// Set if `sessions` is not a default.
    pub(crate) sessions_chosen: bool,
    pub(crate) origin: OriginPolicy,
    pub(crate) on_end: OnEnd,
    pub(crate) accept: AcceptMode,
    pub(crate) map_rejection: MapRejection,
    pub(crate) accept_timeout: Duration,
    pub(crate) upgrade_timeout: Duration,
    pub(crate) grace: Duration,
    pub(crate) closed_grace: Duration,
    pub(crate) close_timeout: Duration,
    pub(crate) close_limit: Duration,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            policy: SessionPolicy::default(),
            sessions: Sessions::default(),
            sessions_chosen: false,
            origin: OriginPolicy::default(),
            on_end: OnEnd::default(),
            accept: AcceptMode::default(),
            map_rejection: MapRejection::default(),
            accept_timeout: DEFAULT_ACCEPT_TIMEOUT,
            upgrade_timeout: DEFAULT_UPGRADE_TIMEOUT,
            grace: DEFAULT_GRACE,
            closed_grace: DEFAULT_CLOSED_GRACE,
            close_timeout: DEFAULT_CLOSE_TIMEOUT,
            close_limit: DEFAULT_CLOSE_LIMIT,
        }
    }
}

impl SessionConfig {
    /// Sets when an upgrade is accepted. Default [`AcceptMode::Immediate`].
    ///
    /// A [`WsReaderLayer`](crate::reader::WsReaderLayer) ignores this, because there the response of
    /// the inner service accepts the upgrade.
    #[must_use]
    pub fn accept(mut self, accept: AcceptMode) -> Self {
        self.accept = accept;
        self
    }

    /// Sets how long a request may wait for its session before it is answered with 504. Default 10 s,
    /// because clients give up after 30 to 45 s.
    ///
    /// The wait includes the [lookup of the
    /// subprotocols](crate::WsStreamLayer::from_async_fn), the readiness of the inner service and,
    /// with [`AcceptMode::Explicit`], its acceptance. With [`AcceptMode::Immediate`], the first poll
    /// ends the wait: a first poll that is pending accepts too. This does not bound the response of
    /// the service inside of a [`WsReaderLayer`](crate::reader::WsReaderLayer).
    ///
    /// Keep this below the time after which the server gives up on a connection without a new
    /// request; see the [guide](crate::guide::serving#shutting-down).
    #[must_use]
    pub fn accept_timeout(mut self, timeout: Duration) -> Self {
        self.accept_timeout = timeout;
        self
    }

    /// Sets how long the server may take to hand over the connection after the 101, before the
    /// session ends. Default 10 s.
    #[must_use]
    pub fn upgrade_timeout(mut self, timeout: Duration) -> Self {
        self.upgrade_timeout = timeout;
        self
    }

    /// Sets the function that turns an error of the inner service into an HTTP answer. Default
    /// [`Rejection::from_error`], which is also a good fallback for a function of your own.
    ///
    /// The function is called for errors before the upgrade is accepted, including those of the
    /// service's readiness. It is not called for a panic or a timeout. Under `RemoteCommandLayer`,
    /// every error except a [`Rejection`] has already become a Status: map it inside of that layer,
    /// with `map_err`.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_wsstream::{Rejection, SessionConfig};
    ///
    /// let config = SessionConfig::default().map_rejection(|error| {
    ///     match error.downcast_ref::<std::io::Error>() {
    ///         Some(_) => Rejection::new(StatusCode::BAD_GATEWAY, "the node does not answer"),
    ///         None => Rejection::from_error(error),
    ///     }
    /// });
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn map_rejection<M>(mut self, map: M) -> Self
    where
        M: Fn(&(dyn StdError + 'static)) -> Rejection + Send + Sync + 'static,
    {
        self.map_rejection = MapRejection(Arc::new(map));
        self
    }

    /// Sets the web pages that may connect. Default [`OriginPolicy::same_origin`].
    ///
    /// An [`OriginPolicy`] in the request's extensions overrides this; see
    /// [`PolicyLayer`](crate::policy::PolicyLayer).
    #[must_use]
    pub fn origin(mut self, policy: OriginPolicy) -> Self {
        self.origin = policy;
        self
    }

    /// Sets the bounds on the memory that a peer can make a session hold. Default
    /// [`Limits::default`].
    ///
    /// [`Limits`] in the request's extensions override these.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.policy.limits = limits;
        self
    }

    /// Sets how many bytes a second a session may move in each direction. Unlimited by default.
    ///
    /// A [`ByteRate`] in the request's extensions overrides this.
    #[must_use]
    pub fn byte_rate(mut self, rate: ByteRate) -> Self {
        self.policy.byte_rate = rate;
        self
    }

    /// Ends a session after this long without data, with
    /// [`EndCause::IdleTimeout`](crate::EndCause::IdleTimeout). Default `None`.
    ///
    /// Data messages in either direction count, piece by piece as they arrive and leave. Pings and
    /// Pongs do not count, except for the PINGs of a SPDY client: what ends one that sends them is a
    /// [time limit](Self::time_limit). A session therefore also becomes idle if output waits for a
    /// client that does not read, or if input waits for a service that does not read and the
    /// [reserve](Limits::stall_reserve) is used up. The service learns the cause, and its output
    /// within the [grace](Self::grace) is still sent.
    ///
    /// An [`IdleTimeout`](crate::policy::IdleTimeout) in the request's extensions overrides
    /// this; see [`IdleTimeoutLayer`](crate::policy::IdleTimeoutLayer).
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.policy.idle_timeout = timeout.into();
        self
    }

    /// Ends a session after this long, even if it is active, with
    /// [`EndCause::TimeLimit`](crate::EndCause::TimeLimit). Default `None`.
    ///
    /// A [`TimeLimit`](crate::policy::TimeLimit) in the request's extensions overrides this. A
    /// [`ValidUntil`](crate::policy::ValidUntil) there applies in addition.
    #[must_use]
    pub fn time_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.policy.time_limit = limit.into();
        self
    }

    /// Sets the Pings that keep connections alive, or turns them off with `None`. By default, a Ping
    /// is sent every 30 s, and a missing answer has no consequence.
    ///
    /// A [`KeepAlive`] in the request's extensions overrides this.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        self.policy.keep_alive = keep_alive.into();
        self
    }

    /// Sets how long the service may continue after the end of its session, before its future is
    /// dropped. Default 1 s; with a longer grace, ended sessions stay in memory for longer.
    ///
    /// In a [`WsReaderLayer`](crate::reader::WsReaderLayer), the service is the body that is being
    /// sent.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long the service may continue after a clean Close from the peer that may mean
    /// that only the client's input has ended. Default 30 s, counted from that Close.
    ///
    /// A Close may have this meaning in a session that has input, on a subprotocol without
    /// half-close, where clients have no other way to signal the end of their input. Otherwise the
    /// ordinary [grace](Self::grace) applies, as in every session of a
    /// [`WsReaderLayer`](crate::reader::WsReaderLayer). See
    /// [`ChannelProtocolConfig::close_ends_input`](crate::ChannelProtocolConfig::close_ends_input).
    #[must_use]
    pub fn closed_grace(mut self, grace: Duration) -> Self {
        self.closed_grace = grace;
        self
    }

    /// Sets how long a peer may be silent after our Close. Default 30 s; with a longer timeout,
    /// sockets of dead clients stay open for longer.
    ///
    /// The timeout applies twice. First, the sending side is shut down once the peer's own Close has
    /// arrived, or after this much silence. It is not shut down earlier because proxies that copy
    /// bytes close both of their connections at the first EOF, and a FIN would then cost their client
    /// the output that it has not read yet. After that, the socket is dropped at the peer's FIN, or
    /// after this much silence again. Together, the two waits take no longer than the
    /// [`close_limit`](Self::close_limit), even if the peer keeps sending.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Sets how long a session may take to close, regardless of the peer. Default 5 minutes.
    ///
    /// The limit applies twice: until our Close has left, and from then on until the socket is dropped.
    /// The first one is extended by the time that the queue takes at [`Limits::min_read_rate`]. If there
    /// is an outbound [`byte_rate`](Self::byte_rate), it is also extended by the time that the queue, and
    /// a message in front of it that was larger than the rate allows at once, take at that rate.
    #[must_use]
    pub fn close_limit(mut self, limit: Duration) -> Self {
        self.close_limit = limit;
        self
    }

    /// Sets the [`Sessions`] that count and drain the sessions. By default, these are the layer's
    /// own.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self.sessions_chosen = true;
        self
    }

    /// Sets a function that is called with the summary of each session that has ended, for metrics
    /// and audits.
    ///
    /// The function is called in the session's task and should be quick: until it has returned, the
    /// session still counts in [`Sessions`]. It is not called for a refused upgrade, which is not a
    /// session. An outer layer can count refusals by the [name](crate::RejectionKind::name) of the
    /// kind of the [`Rejection`] in the answer's extensions.
    ///
    /// As the label of a metric, use [`EndCause::name`](crate::EndCause::name), because the text of a
    /// cause may contain a code that the peer has chosen. The session of a command that failed, or
    /// that a limit refused, still ends as `Completed`: the outcome of the command is in
    /// [`SessionSummary::status`].
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_wsstream::SessionConfig;
    ///
    /// let config = SessionConfig::default().on_end(|summary| {
    ///     let reason = summary.status.as_ref().and_then(|status| status.reason());
    ///     println!("{} {}: {:?}", summary.cause.name(), reason.unwrap_or("-"), summary.duration);
    /// });
    /// # let _ = config;
    /// ```
    #[must_use]
    pub fn on_end(mut self, tell: impl Fn(&SessionSummary) + Send + Sync + 'static) -> Self {
        self.on_end = OnEnd::new(tell);
        self
    }

    /// Checks the configuration. A layer with an invalid one answers every upgrade with a 500 that
    /// names the setting.
    ///
    /// # Errors
    /// Fails if a setting is invalid; the error says which values are valid.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.upgrade_timeout.is_zero() {
            return Err(ConfigError::new(
                "upgrade_timeout must be above 0, or every session is lost; use Duration::MAX for no limit",
            ));
        }
        self.policy.check()
    }

    /// Returns the configuration with the `Sessions` of the one that it replaces, unless its own
    /// were set: a layer that was drained stays drained.
    pub(crate) fn replacing(mut self, old: &Self) -> Self {
        if !self.sessions_chosen {
            self.sessions = old.sessions.clone();
            self.sessions_chosen = old.sessions_chosen;
        }
        self
    }

    /// Returns the configuration for a request with these extensions. A request that overrides
    /// nothing shares the layer's.
    pub(crate) fn for_request(self: &Arc<Self>, extensions: &Extensions) -> Arc<Self> {
        let policy = self.policy.overridden_by(extensions);
        if policy == self.policy {
            return Arc::clone(self);
        }
        Arc::new(Self {
            policy,
            ..Self::clone(self)
        })
    }
}

#[cfg(test)]
mod tests;
