use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ReaderProtocols, WsReaderService};
use crate::{
    ConfigError, Sessions,
    policy::{ByteRate, KeepAlive, Limits, OriginPolicy},
    session::{OnEnd, SessionConfig, SessionSummary},
};

/// Payload of a message, at most: what kubectl's own buffers are.
const MESSAGE: usize = 32 * 1024;

/// Sends the response body of an HTTP service as WebSocket messages, where a request
/// asks for an upgrade.
///
/// * A request that is no upgrade goes to the service unchanged, and so does its answer
///   to the client.
/// * An upgrade is judged first (its refusals are ours), then the service gets it as
///   an ordinary GET, without the headers of the handshake. An answer that is no success
///   goes to the client unchanged. A success becomes a session: the body's bytes leave in
///   order, a frame of the body as one message or several, then the Close frame with 1000.
///   The answer's headers and trailers are not sent: a message has no place for them.
/// * What the client sends is ignored. Its Close ends the session at once.
/// * An error of the body ends the session with close code 1011, after what came before it;
///   an idle timeout, a time limit or a drain with 1001: a body that was cut off never looks
///   complete.
///
/// A body that waits, as that of a followed log, is dropped as soon as the session ends:
/// the client is gone, and nobody has to find out by writing.
///
/// Limits inside are those of an HTTP service: a `concurrency_limit` there, as outside,
/// counts requests until their answer, and no sessions. A permit that is to last as long
/// as the session belongs into the body.
///
/// Readiness and errors are the service's, and so is the time that it takes to answer. A
/// panic before it has answered an upgrade is answered with 500. Policies come from here,
/// and from request
/// extensions as for [`WsStreamLayer`](crate::WsStreamLayer).
#[derive(Clone, Debug)]
pub struct WsReaderLayer {
    pub(super) protocols: Arc<ReaderProtocols>,
    pub(super) config: Arc<SessionConfig>,
    pub(super) ping: bool,
    pub(super) message: usize,
}

impl Default for WsReaderLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl WsReaderLayer {
    /// A layer with the default policy and subprotocols.
    pub fn new() -> Self {
        Self {
            protocols: Arc::default(),
            config: Arc::default(),
            ping: false,
            message: MESSAGE,
        }
    }

    /// Which subprotocols are spoken. Default [`ReaderProtocols::default`].
    #[must_use]
    pub fn protocols(mut self, protocols: ReaderProtocols) -> Self {
        self.protocols = Arc::new(protocols);
        self
    }

    /// Whether an empty message goes first, so that a client sees that the stream is
    /// there before it has anything to say. Default no.
    #[must_use]
    pub fn ping(mut self, ping: bool) -> Self {
        self.ping = ping;
        self
    }

    /// Payload bytes of a message, at most, before base64. Default 32 KiB (Go: 2 KiB).
    /// 0 counts as 1. Larger ones hold up Pongs for as long as they take to leave.
    #[must_use]
    pub fn message_size(mut self, bytes: usize) -> Self {
        self.message = bytes.max(1);
        self
    }

    /// Ends sessions in which nothing was sent or received for so long; Pings do not
    /// count. Default none.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        let timeout = timeout.into();
        self.set(|config| config.policy.idle_timeout = timeout)
    }

    /// Ends sessions after so long, with close code 1001. Default none: see
    /// [`WsStreamLayer::time_limit`](crate::WsStreamLayer::time_limit).
    #[must_use]
    pub fn time_limit(self, limit: impl Into<Option<Duration>>) -> Self {
        let limit = limit.into();
        self.set(|config| config.policy.time_limit = limit)
    }

    /// How many bytes a second a session may move. Default: as many as there are.
    #[must_use]
    pub fn byte_rate(self, rate: ByteRate) -> Self {
        self.set(|config| config.policy.byte_rate = rate)
    }

    /// Bounds on what a session may have queued, and on what a peer may send.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.set(|config| config.policy.limits = limits)
    }

    /// Pings that keep connections alive. Default one every 30 s; `None` for none.
    #[must_use]
    pub fn keep_alive(self, keep_alive: impl Into<Option<KeepAlive>>) -> Self {
        let keep_alive = keep_alive.into();
        self.set(|config| config.policy.keep_alive = keep_alive)
    }

    /// Which origins of a browser are let in; default: the same as the host.
    #[must_use]
    pub fn origin(self, policy: OriginPolicy) -> Self {
        self.set(|config| config.origin = policy)
    }

    /// Where the sessions are counted, and drained from.
    #[must_use]
    pub fn sessions(self, sessions: Sessions) -> Self {
        self.set(|config| config.sessions = sessions)
    }

    /// Who is told what became of each session: see
    /// [`WsStreamLayer::on_end`](crate::WsStreamLayer::on_end).
    #[must_use]
    pub fn on_end(self, tell: impl Fn(&SessionSummary) + Send + Sync + 'static) -> Self {
        self.set(|config| config.on_end = OnEnd::new(tell))
    }

    /// How long the server may take to hand the connection over. Default 10 s.
    #[must_use]
    pub fn upgrade_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.upgrade_timeout = timeout)
    }

    /// How long a piece of the body that does not leave is waited for after the end of
    /// its session. Default 1 s; after it the body is dropped.
    #[must_use]
    pub fn grace(self, grace: Duration) -> Self {
        self.set(|config| config.grace = grace)
    }

    /// How long a peer may be silent after our Close before the socket is let go.
    /// Default 30 s.
    #[must_use]
    pub fn close_timeout(self, timeout: Duration) -> Self {
        self.set(|config| config.close_timeout = timeout)
    }

    /// Sets how long a session may take to close, whatever the peer does. Default 5 minutes.
    ///
    /// It applies twice: until our Close has left, where what is queued has its own time
    /// beside it ([`Limits::min_read_rate`](crate::policy::Limits::min_read_rate)), and from then on until the socket is dropped.
    #[must_use]
    pub fn close_limit(self, limit: Duration) -> Self {
        self.set(|config| config.close_limit = limit)
    }

    /// Checks the configuration. A layer with an invalid one answers every
    /// upgrade with a 500 that says so.
    ///
    /// # Errors
    /// The knob, and what it should be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.config.check()
    }

    fn set(mut self, change: impl FnOnce(&mut SessionConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl<S> Layer<S> for WsReaderLayer {
    type Service = WsReaderService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WsReaderService::new(inner, self.clone())
    }
}
