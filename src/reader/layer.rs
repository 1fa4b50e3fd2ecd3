use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{ReaderProtocols, WsReaderService};
use crate::{AcceptMode, ConfigError, SessionConfig, Sessions, policy::Limits};

/// The default for the largest payload of a message: the size of kubectl's own buffers.
const MESSAGE: usize = 32 * 1024;

/// Sends the response body of an HTTP service as WebSocket messages, if the request asks for an
/// upgrade.
///
/// * A request that is not an upgrade goes to the service unchanged, and so does its response to
///   the client.
/// * The handshake of an upgrade is validated first, and may be refused. The service then gets the
///   request as an ordinary GET, without the headers of the handshake. An unsuccessful response
///   goes to the client unchanged. A successful one becomes a session: the bytes of its body are
///   sent in order, each frame of the body as one or more messages, followed by a Close frame with
///   1000. The response's headers and trailers are not sent, because messages have no place for
///   them.
/// * Messages from the client are ignored. Its Close frame ends the session at once.
/// * An error of the body ends the session with close code 1011, after the data in front of the
///   error. An idle timeout, a time limit or a drain ends it with 1001. A truncated body therefore
///   never looks complete.
///
/// A body that is waiting, such as that of a followed log, is dropped as soon as the session ends. It
/// does not have to write to find out that the client is gone.
///
/// Limits inside of this layer are those of an HTTP service: a `concurrency_limit` counts requests
/// until their response, not sessions, whether it is inside or outside. To hold a permit for as long
/// as the session, put it into the body, for example one of
/// [`SessionPermits::try_acquire`](crate::access::SessionPermits::try_acquire). The guide has a
/// [section](crate::guide::layers#logs) on this.
///
/// Readiness and errors are those of the service. This layer does not limit the time in which the
/// service responds: a `timeout` inside of it does. If the service panics before it has responded to an upgrade, the answer is
/// a 500. The policies of a session come from the [`SessionConfig`] and from request extensions, as
/// with [`WsStreamLayer`](crate::WsStreamLayer).
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::any};
/// use tower_wsstream::reader::WsReaderLayer;
///
/// async fn log() -> &'static str {
///     "the log\n"
/// }
///
/// // `any`, because over HTTP/2 the handshake is a CONNECT.
/// let app: Router = Router::new().route("/log", any(log).layer(WsReaderLayer::new()));
/// # let _ = app;
/// ```
///
/// With settings of its own: messages of the size that a page likes, an empty one first so that the
/// page knows that it is connected, an end for silent logs, and names of versions.
///
/// ```
/// use std::time::Duration;
///
/// use tower_wsstream::{
///     Encoding, SessionConfig, Sessions,
///     policy::{ByteRate, Limits},
///     reader::{ReaderProtocols, WsReaderLayer},
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let sessions = Sessions::default();
/// let logs = WsReaderLayer::new()
///     .config(SessionConfig::default().byte_rate(ByteRate::default().outbound(1 << 20)))
///     .protocols(ReaderProtocols::new([("", Encoding::Binary), ("v1.log", Encoding::Base64)])?)
///     .ping(true)
///     .message_size(4 * 1024)
///     .idle_timeout(Duration::from_secs(60 * 60))
///     .limits(Limits::default().send_budget(16 * 1024))
///     .sessions(sessions);
/// logs.check()?;
/// # Ok(())
/// # }
/// ```
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

    /// Sets the supported subprotocols. Default [`ReaderProtocols::default`].
    #[must_use]
    pub fn protocols(mut self, protocols: ReaderProtocols) -> Self {
        self.protocols = Arc::new(protocols);
        self
    }

    /// Sets whether an empty message is sent first, so that a client notices the stream before there
    /// is any data. Default `false`.
    #[must_use]
    pub fn ping(mut self, ping: bool) -> Self {
        self.ping = ping;
        self
    }

    /// Sets the largest payload of a message, in bytes before base64. Default 32 KiB (Go: 2 KiB); 0
    /// counts as 1.
    ///
    /// Pongs have to wait until a message has left, so a larger one delays them for longer.
    #[must_use]
    pub fn message_size(mut self, bytes: usize) -> Self {
        self.message = bytes.max(1);
        self
    }

    /// Sets the configuration of the sessions.
    ///
    /// It replaces every earlier setting, including those made by [`limits`](Self::limits) and
    /// [`idle_timeout`](Self::idle_timeout). Only the [`Sessions`] are kept, unless the configuration
    /// has its own.
    ///
    /// [`SessionConfig::accept`] is ignored, because the response of the inner service accepts the
    /// upgrade. Two other settings never apply: [`SessionConfig::accept_timeout`], because the inner
    /// service may take any time to respond, and [`SessionConfig::closed_grace`], because a session
    /// that reads nothing has no input that a Close could end.
    #[must_use]
    pub fn config(mut self, config: SessionConfig) -> Self {
        let config = config.accept(AcceptMode::Immediate);
        self.config = Arc::new(config.replacing(&self.config));
        self
    }

    /// Sets [`SessionConfig::limits`]: the bounds on the output that a session may queue, and on the
    /// frames that a peer may send.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        self.configure(|config| config.limits(limits))
    }

    /// Sets [`SessionConfig::idle_timeout`]: ends a session after this long without data.
    #[must_use]
    pub fn idle_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.configure(|config| config.idle_timeout(timeout))
    }

    /// Sets [`SessionConfig::sessions`]: the registry that counts and drains the sessions.
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
