use std::{error::Error as StdError, sync::Arc, time::Duration};

use http::Extensions;

use super::{AcceptMode, map_rejection::MapRejection};
use crate::{
    policy::{ByteRate, KeepAlive, Limits, OriginPolicy, SessionPolicy},
    protocol::ConfigError,
    rejection::Rejection,
    session::{OnEnd, SessionSummary, Sessions},
};

/// Bounds the wait for the inner service: for its readiness, and with `AcceptMode::Explicit` for
/// its acceptance, both together. Clients give up on an unanswered handshake between 30 and 45 s.
pub(crate) const DEFAULT_ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bounds the time in which the server hands the connection over after the 101.
pub(crate) const DEFAULT_UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Lets the service clean up after the end of the session.
pub(crate) const DEFAULT_GRACE: Duration = Duration::from_secs(1);

/// Lets the service finish after a Close frame that is the client's way to say that its input
/// has ended: there may be work left whose result is still to be reported.
pub(crate) const DEFAULT_CLOSED_GRACE: Duration = Duration::from_secs(30);

/// Bounds the peer's silence after our Close, and while lingering. A slow reader that sends
/// nothing still gets the data that the kernel holds.
pub(crate) const DEFAULT_CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bounds closing as a whole. A peer that has not finished by then never will.
pub(crate) const DEFAULT_CLOSE_LIMIT: Duration = Duration::from_secs(5 * 60);

/// The configuration of a layer's sessions.
///
/// For [`WsStreamLayer::config`](crate::WsStreamLayer::config),
/// [`WsReaderLayer::config`](crate::reader::WsReaderLayer::config) and the `WsStreamUpgrade`
/// extractor of the feature `axum08`. The layers repeat [`limits`](Self::limits),
/// [`idle_timeout`](Self::idle_timeout) and [`sessions`](Self::sessions) as shorthands.
///
/// Clones share their [`Sessions`]: layers that are given clones of one configuration are
/// counted and drained together.
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
/// | [`sessions`](Self::sessions) | those of the layer that gets the configuration |
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
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// The part that a request's extensions may override.
    pub(crate) policy: SessionPolicy,
    pub(crate) sessions: Sessions,
    /// `sessions` was set, and is more than a default.
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
    /// A [`WsReaderLayer`](crate::reader::WsReaderLayer) ignores this: there the response of the
    /// inner service is the acceptance.
    #[must_use]
    pub fn accept(mut self, accept: AcceptMode) -> Self {
        self.accept = accept;
        self
    }

    /// Sets how long a request may wait for its session. After that it is answered with 504.
    /// Default 10 s: clients give up between 30 and 45 s.
    ///
    /// The wait includes the [look-up of the
    /// subprotocols](crate::WsStreamLayer::from_async_fn), the readiness of the inner service,
    /// and with [`AcceptMode::Explicit`] its acceptance. With [`AcceptMode::Immediate`] a first
    /// poll that is pending accepts. The response of the service inside of a
    /// [`WsReaderLayer`](crate::reader::WsReaderLayer) is not bounded by this.
    #[must_use]
    pub fn accept_timeout(mut self, timeout: Duration) -> Self {
        self.accept_timeout = timeout;
        self
    }

    /// Sets how long the server may take to hand the connection over after the 101. After that
    /// the session is lost. Default 10 s.
    #[must_use]
    pub fn upgrade_timeout(mut self, timeout: Duration) -> Self {
        self.upgrade_timeout = timeout;
        self
    }

    /// Sets how an error of the inner service becomes an HTTP answer. Default
    /// [`Rejection::from_error`], which is also a good function to fall back to.
    ///
    /// The function is called for errors before the upgrade is accepted, those of the service's
    /// readiness included. It is not called for a panic or a timeout. Under `RemoteCommandLayer`
    /// every error but a [`Rejection`] has become a Status before: map it inside of that layer,
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

    /// Sets the bounds on what a peer can make a session hold, in bytes. Default
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

    /// Ends sessions that exchange no data for this long, with
    /// [`EndCause::IdleTimeout`](crate::EndCause::IdleTimeout). None by default.
    ///
    /// Data messages in either direction count, piece by piece as they arrive and leave; Pings
    /// and Pongs do not. So a session is idle if its client does not read, and if its service
    /// does not read and has no [reserve](Limits::stall_reserve) left. The service learns the
    /// cause, and what it writes within the [grace](Self::grace) is still sent.
    ///
    /// An [`IdleTimeout`](crate::policy::IdleTimeout) in the request's extensions overrides
    /// this; see [`IdleTimeoutLayer`](crate::policy::IdleTimeoutLayer).
    #[must_use]
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.policy.idle_timeout = timeout.into();
        self
    }

    /// Ends sessions after this long, with or without data, with
    /// [`EndCause::TimeLimit`](crate::EndCause::TimeLimit). None by default.
    ///
    /// A [`TimeLimit`](crate::policy::TimeLimit) in the request's extensions overrides this. A
    /// [`ValidUntil`](crate::policy::ValidUntil) there applies as well.
    #[must_use]
    pub fn time_limit(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.policy.time_limit = limit.into();
        self
    }

    /// Sets the Pings that keep connections alive. By default one is sent every 30 s, and a
    /// missing answer has no consequence; `None` sends none.
    ///
    /// A [`KeepAlive`] in the request's extensions overrides this.
    #[must_use]
    pub fn keep_alive(mut self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        self.policy.keep_alive = keep_alive.into();
        self
    }

    /// Sets how long the service may run on after the end of its session. After that its future
    /// is dropped. Default 1 s; a longer one keeps ended sessions in memory for longer.
    ///
    /// In a [`WsReaderLayer`](crate::reader::WsReaderLayer) the service is the body that is
    /// being sent.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Sets how long the service may run on after a clean Close of the peer that ends its input.
    /// Default 30 s, counted from that Close.
    ///
    /// A Close ends the input in a session that has input, on a subprotocol without half-close:
    /// clients there have no other way to say that their input has ended. The ordinary
    /// [grace](Self::grace) applies if a Close cannot mean that, as in every session of a
    /// [`WsReaderLayer`](crate::reader::WsReaderLayer); see
    /// [`ChannelProtocolConfig::close_ends_input`](crate::ChannelProtocolConfig::close_ends_input).
    #[must_use]
    pub fn closed_grace(mut self, grace: Duration) -> Self {
        self.closed_grace = grace;
        self
    }

    /// Sets how long a peer may be silent after our Close. Default 30 s; a longer one holds
    /// sockets of dead clients longer.
    ///
    /// It applies twice. The sending side is shut down when the peer's own Close has arrived, or
    /// after that much silence: proxies that copy bytes close both of their connections at the
    /// first end of file, and an earlier FIN would cost their client the output that it has not
    /// read yet. Then the socket is dropped at the peer's FIN, or after that much silence again.
    /// Both together take no longer than the [`close_limit`](Self::close_limit), whatever the
    /// peer sends.
    #[must_use]
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Sets how long a session may take to close, whatever the peer does. Default 5 minutes.
    ///
    /// It applies twice: until our Close has left, with the time that the queue takes at
    /// [`Limits::min_read_rate`] added, and from then on until the socket is dropped.
    #[must_use]
    pub fn close_limit(mut self, limit: Duration) -> Self {
        self.close_limit = limit;
        self
    }

    /// Sets the [`Sessions`] in which sessions are counted, and from which they are drained. By
    /// default these are the ones of the layer that gets the configuration.
    #[must_use]
    pub fn sessions(mut self, sessions: Sessions) -> Self {
        self.sessions = sessions;
        self.sessions_chosen = true;
        self
    }

    /// Calls a function with the summary of each session once all of it is over: for metrics and
    /// audits.
    ///
    /// The function is called in the session's task and should be quick; until it has returned,
    /// the session counts in [`Sessions`]. A refused upgrade is not a session: it is an answer
    /// with the [`Rejection`] in its extensions, which a layer outside can count by the
    /// [name](crate::RejectionKind::name) of its kind.
    ///
    /// For the label of a metric take [`EndCause::name`](crate::EndCause::name): the text of a
    /// cause may hold a code that the peer has chosen. The session of a command that failed, or
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

    /// Checks the configuration. A layer with an invalid one answers every upgrade with a 500
    /// that names the setting.
    ///
    /// # Errors
    /// A setting makes no sense; the error says which values do.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.upgrade_timeout.is_zero() {
            return Err(ConfigError::new(
                "upgrade_timeout must be above 0, or every session is lost; Duration::MAX is for no limit",
            ));
        }
        self.policy.check()
    }

    /// Returns the configuration with the sessions of the one that it replaces, unless it has
    /// its own: a layer that is drained stays so.
    pub(crate) fn replacing(mut self, old: &Self) -> Self {
        if !self.sessions_chosen {
            self.sessions = old.sessions.clone();
            self.sessions_chosen = old.sessions_chosen;
        }
        self
    }

    /// Returns the configuration for a request with these extensions. Sessions that override
    /// nothing share the layer's.
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
