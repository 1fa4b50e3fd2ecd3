use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ReaderProtocols, WsReaderService};
use crate::{AcceptMode, ConfigError, SessionConfig, Sessions, policy::Limits};

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

    /// Sets the configuration of the sessions. It replaces everything that was set before, by
    /// [`limits`](Self::limits), [`idle_timeout`](Self::idle_timeout) and
    /// [`sessions`](Self::sessions) too.
    ///
    /// [`SessionConfig::accept`] is ignored: the response of the inner service accepts the
    /// upgrade. [`SessionConfig::accept_timeout`] and [`SessionConfig::closed_grace`] never
    /// apply: the time in which the inner service responds is its own, and a session that reads
    /// nothing has no input that a Close could end.
    #[must_use]
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.config = Arc::new(config.accept(AcceptMode::Immediate));
        self
    }

    /// Sets [`SessionConfig::limits`]: the bounds on what a session may have queued, and on what
    /// a peer may send.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.configure(|config| config.limits(limits))
    }

    /// Sets [`SessionConfig::idle_timeout`]: ends sessions in which nothing is sent or received
    /// for this long.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.configure(|config| config.idle_timeout(timeout))
    }

    /// Sets [`SessionConfig::sessions`]: where the sessions are counted, and drained from.
    #[must_use]
    pub fn sessions(self, sessions: Sessions) -> Self {
        self.configure(|config| config.sessions(sessions))
    }

    /// Checks the configuration; see [`SessionConfig::check`].
    ///
    /// # Errors
    /// A setting makes no sense; the error says which values do.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.config.check()
    }

    fn configure(mut self, change: impl FnOnce(SessionConfig) -> SessionConfig) -> Self {
        self.config = Arc::new(change(Arc::unwrap_or_clone(self.config)));
        self
    }
}

impl<S> Layer<S> for WsReaderLayer {
    type Service = WsReaderService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WsReaderService::new(inner, self.clone())
    }
}
