use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ReaderProtocols, WsReaderService};
use crate::{AcceptMode, ConfigError, SessionConfig, Sessions, policy::Limits};

/// The largest payload of a message: the size of kubectl's own buffers.
const MESSAGE: usize = 32 * 1024;

/// Sends the response body of an HTTP service as WebSocket messages, if the request asks for an
/// upgrade.
///
/// * A request that is not an upgrade goes to the service unchanged, and its response goes to the
///   client unchanged.
/// * The handshake of an upgrade is validated first, and may be refused. Then the service gets the
///   request as an ordinary GET, without the headers of the handshake. An unsuccessful response
///   goes to the client unchanged. A successful one becomes a session: the bytes of its body are
///   sent in order, each frame of the body as one or more messages, followed by a Close frame with
///   1000. Headers and trailers of the response are not sent, because messages have no place for
///   them.
/// * Messages from the client are ignored. Its Close ends the session at once.
/// * An error of the body ends the session with close code 1011, after the data in front of it. An
///   idle timeout, a time limit or a drain ends it with 1001. So a body that was cut off never looks
///   complete.
///
/// A body that waits, such as that of a followed log, is dropped as soon as the session ends. It
/// does not have to write to find out that the client is gone.
///
/// Limits inside are those of an HTTP service: a `concurrency_limit` there counts requests until
/// their response, as one outside does, and not sessions. To hold a permit for as long as the
/// session, put it into the body.
///
/// Readiness and errors are those of the service, and so is the time that it takes to respond. If it
/// panics before it has responded to an upgrade, the answer is a 500. The session's policies are
/// those of the [`SessionConfig`], and of request extensions as for
/// [`WsStreamLayer`](crate::WsStreamLayer).
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
    /// Creates a layer with the default configuration and subprotocols.
    pub fn new() -> Self {
        Self {
            protocols: Arc::default(),
            config: Arc::default(),
            ping: false,
            message: MESSAGE,
        }
    }

    /// Sets the subprotocols that are spoken. Default [`ReaderProtocols::default`].
    #[must_use]
    pub fn protocols(mut self, protocols: ReaderProtocols) -> Self {
        self.protocols = Arc::new(protocols);
        self
    }

    /// Sets whether an empty message is sent first, so that a client sees the stream before there is
    /// any data. Default `false`.
    #[must_use]
    pub fn ping(mut self, ping: bool) -> Self {
        self.ping = ping;
        self
    }

    /// Sets the largest payload of a message, in bytes before base64. Default 32 KiB (Go: 2 KiB); 0
    /// counts as 1. A larger message holds up Pongs for as long as it takes to leave.
    #[must_use]
    pub fn message_size(mut self, bytes: usize) -> Self {
        self.message = bytes.max(1);
        self
    }

    /// Sets the configuration of the sessions. It replaces everything that was set before, by
    /// [`limits`](Self::limits) and [`idle_timeout`](Self::idle_timeout) too. Only the
    /// [`Sessions`] stay, unless the configuration names some.
    ///
    /// [`SessionConfig::accept`] is ignored: the response of the inner service accepts the
    /// upgrade. [`SessionConfig::accept_timeout`] and [`SessionConfig::closed_grace`] never
    /// apply: the time in which the inner service responds is its own, and a session that reads
    /// nothing has no input that a Close could end.
    #[must_use]
    pub fn config(mut self, config: SessionConfig) -> Self {
        let config = config.accept(AcceptMode::Immediate);
        self.config = Arc::new(config.replacing(&self.config));
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
