//! An extractor for axum handlers.
//!
//! It is for handlers that use `Path`, `State` and other extractors in addition to the channels. For
//! a service, use `Router::route_service` instead. There, layers inside of [`WsStreamLayer`] count
//! sessions and can refuse them, while a handler has already been called when it gets the extractor.
//!
//! ```
//! use axum::{Router, extract::{Path, State}, response::Response, routing::any};
//! use tokio::io::AsyncWriteExt;
//! use tower_wsstream::{
//!     ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer, axum08::WsStreamUpgrade,
//! };
//!
//! async fn greet(
//!     Path(name): Path<String>,
//!     State(layer): State<WsStreamLayer>,
//!     upgrade: WsStreamUpgrade,
//! ) -> Response {
//!     upgrade
//!         .layer(&layer)
//!         .on_upgrade(async move |mut channels: ChannelSet| {
//!             let mut out = channels.take_writer(0).ok_or("no channel to write")?;
//!             out.write_all(format!("hello, {name}").as_bytes()).await?;
//!             Ok(())
//!         })
//!         .await
//! }
//!
//! # fn main() -> Result<(), tower_wsstream::ConfigError> {
//! // `any` and not `get`, because over HTTP/2 the handshake is a CONNECT.
//! let layer = WsStreamLayer::new(ChannelProtocols::standard([ChannelType::Write])?);
//! let app: Router = Router::new().route("/greet/{name}", any(greet)).with_state(layer);
//! # let _ = app;
//! # Ok(())
//! # }
//! ```

use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
};

use axum_core::{body::Body, extract::FromRequestParts, response::IntoResponse};
use http::{Request, Response, request::Parts};
use hyper::upgrade::OnUpgrade;
use tower_service::Service;

use crate::{
    BoxError, ChannelSet, ConfigError, ProtocolSource, Rejection, WsStreamLayer,
    body::{NoBody, ResponseBody},
    handshake::{
        Source,
        detect::{self, Upgrade},
        negotiate,
    },
    opening::Accepting,
    rejection::UpgradeTo,
    session::SessionConfig,
    unwind::drop_quietly,
};

/// The configuration for handlers that set none. It is shared, because it contains the bound on the
/// memory that all these sessions may use together.
static DEFAULT: LazyLock<Arc<SessionConfig>> = LazyLock::new(Arc::default);

/// A request's WebSocket upgrade, for a handler to accept.
///
/// A request that is not an upgrade is refused with 426 (400 over HTTP/2) before the handler is
/// called. Set the subprotocols with [`protocols`](Self::protocols) or [`layer`](Self::layer), and
/// accept with [`on_upgrade`](Self::on_upgrade). If this is dropped, there is no upgrade, and the
/// client gets the handler's answer.
///
/// The extractor removes hyper's upgrade from the request's extensions, because only one owner can
/// use it. A request that the extractor refuses keeps it: a handler that extracts a `Result` can
/// serve another kind of upgrade itself.
///
/// # Examples
///
/// A handler that looks at the request before it accepts:
///
/// ```
/// use axum::response::Response;
/// use http::StatusCode;
/// use tower_wsstream::{
///     ChannelProtocols, ChannelSet, ChannelType, Rejection, axum08::WsStreamUpgrade, subprotocols,
/// };
///
/// async fn terminal(upgrade: WsStreamUpgrade) -> Result<Response, Rejection> {
///     if !upgrade.offered().any(|name| name == subprotocols::CHANNEL) {
///         return Err(Rejection::new(StatusCode::FORBIDDEN, "offer channel.k8s.io"));
///     }
///     let channel = match upgrade.request().uri.query() {
///         Some("view") => ChannelType::Write,
///         _ => ChannelType::ReadWrite,
///     };
///     let protocols = ChannelProtocols::standard([channel]).expect("one channel is valid");
///     let session = async |channels: ChannelSet| Ok(());
///     Ok(upgrade.protocols(protocols).on_upgrade(session).await)
/// }
/// # let _: axum::routing::MethodRouter = axum::routing::any(terminal);
/// ```
#[must_use = "an upgrade is made by `on_upgrade`"]
pub struct WsStreamUpgrade {
    upgrade: Upgrade,
    head: Box<Parts>,
    protocols: Option<Source>,
    config: Arc<SessionConfig>,
}

impl<S: Sync> FromRequestParts<S> for WsStreamUpgrade {
    type Rejection = Rejection;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Rejection> {
        let clone = Rejection::on_panic("the clone of a request's extensions", || parts.clone())
            .map_err(|rejection| rejection.over(parts.version))?;
        let request = Request::from_parts(clone, ());
        let Some(upgrade) = detect::detect(&request) else {
            return Err(Rejection::not_an_upgrade(UpgradeTo::WebSocket).over(parts.version));
        };
        // The clones of hyper's `OnUpgrade` share one connection, which only this extractor may
        // take. A request that was refused above may be another kind of upgrade, which is left to
        // the handler.
        parts.extensions.remove::<OnUpgrade>();
        Ok(Self {
            upgrade,
            head: Box::new(request.into_parts().0),
            protocols: None,
            config: Arc::clone(&DEFAULT),
        })
    }
}

impl WsStreamUpgrade {
    /// Returns the head of the request.
    pub fn request(&self) -> &Parts {
        &self.head
    }

    /// Returns an iterator over the subprotocols that the client offers, in its order.
    ///
    /// Entries that are or look like a bearer token are left out; see
    /// [`BearerSubprotocolLayer`](crate::access::BearerSubprotocolLayer). The others may still
    /// contain a credential of a kind that this crate does not know, so do not log them. `Debug` of
    /// this type does not show them.
    pub fn offered(&self) -> impl Iterator<Item = &str> {
        negotiate::offered_openly(&self.head.headers)
    }

    /// Sets the supported subprotocols, and their channels.
    ///
    /// If the table has to be looked up, do this in the handler first. The argument of a closure
    /// needs a type, as in `|head: &Parts|`; see [`ProtocolSource`].
    pub fn protocols(mut self, source: impl ProtocolSource) -> Self {
        self.protocols = Some(Source::Now(Arc::new(source)));
        self
    }

    /// Sets the configuration of the session. Default [`SessionConfig::default`].
    ///
    /// A configuration without [`Sessions`](crate::Sessions) of its own shares those of the default.
    /// They are never drained, but bound the memory that stalled sessions use together. To drain the
    /// sessions of a router, set [`SessionConfig::sessions`].
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{extract::State, response::Response};
    /// use tower_wsstream::{
    ///     ChannelProtocols, ChannelSet, SessionConfig, axum08::WsStreamUpgrade,
    /// };
    ///
    /// #[derive(Clone)]
    /// struct App {
    ///     protocols: ChannelProtocols,
    ///     config: SessionConfig,
    /// }
    ///
    /// async fn terminal(State(app): State<App>, upgrade: WsStreamUpgrade) -> Response {
    ///     upgrade
    ///         .protocols(app.protocols)
    ///         .config(app.config)
    ///         .on_upgrade(async |_: ChannelSet| Ok(()))
    ///         .await
    /// }
    /// # let _: axum::routing::MethodRouter<App> = axum::routing::any(terminal);
    /// ```
    pub fn config(mut self, config: SessionConfig) -> Self {
        self.config = Arc::new(config.replacing(&self.config));
        self
    }

    /// Sets the subprotocols and the configuration to those of a layer. Its fallback is ignored.
    ///
    /// Create the layer once for the router, rather than for each request, so that all its sessions
    /// are in one [`Sessions`](crate::Sessions).
    pub fn layer<F>(mut self, layer: &WsStreamLayer<F>) -> Self {
        (self.protocols, self.config) = {
            let (protocols, config) = layer.parts();
            (Some(protocols), config)
        };
        self
    }

    /// Accepts or refuses the upgrade, and returns the answer for the client.
    ///
    /// As with a service inside of [`WsStreamLayer`], the function is called and its future is
    /// polled once before the answer, so that an immediate failure becomes an HTTP answer. With
    /// [`AcceptMode::Explicit`](crate::AcceptMode::Explicit), this waits until the function has
    /// accepted.
    ///
    /// The error type is [`BoxError`]. Convert other errors with `?`:
    ///
    /// ```
    /// # use tower_wsstream::{ChannelSet, axum08::WsStreamUpgrade};
    /// async fn session(channels: ChannelSet) -> std::io::Result<()> {
    ///     Ok(())
    /// }
    ///
    /// # async fn handler(upgrade: WsStreamUpgrade) -> axum::response::Response {
    /// upgrade.on_upgrade(async |channels| Ok(session(channels).await?)).await
    /// # }
    /// ```
    ///
    /// Without the conversion, this does not compile:
    ///
    /// ```compile_fail
    /// # use tower_wsstream::{ChannelSet, axum08::WsStreamUpgrade};
    /// # async fn session(channels: ChannelSet) -> std::io::Result<()> {
    /// #     Ok(())
    /// # }
    /// # async fn handler(upgrade: WsStreamUpgrade) -> axum::response::Response {
    /// upgrade.on_upgrade(session).await
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// If the future is dropped before it completes, the function's future is dropped as well, and
    /// there is no session.
    pub async fn on_upgrade<F, Fut>(self, session: F) -> Response<Body>
    where
        F: FnOnce(ChannelSet) -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let version = self.upgrade.version();
        let answer = match self.begin(session) {
            Ok(mut accepting) => poll_fn(|cx| accepting.poll(cx)).await,
            Err(rejection) => Err(rejection),
        };
        answer.unwrap_or_else(|rejection| {
            let answer: Response<ResponseBody<NoBody>> = rejection.into_answer(version);
            answer.map(Body::new)
        })
    }

    fn begin<F>(self, session: F) -> Result<Accepting<Once<F>>, Rejection> {
        let Some(source) = self.protocols else {
            drop_quietly(session, "the function of a session");
            drop_quietly(self.head, "the head of a request");
            return Err(Rejection::config(&ConfigError::new(
                "the handler sets no subprotocols: call WsStreamUpgrade::protocols or WsStreamUpgrade::layer",
            )));
        };
        let service = || Once(Some(session));
        Accepting::begin(self.upgrade, self.head, &source, &self.config, service)
    }
}

/// A service that calls the function of one session.
struct Once<F>(Option<F>);

impl<F, Fut> Service<ChannelSet> for Once<F>
where
    F: FnOnce(ChannelSet) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    type Response = ();
    type Error = BoxError;
    type Future = Fut;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, channels: ChannelSet) -> Fut {
        let function = self.0.take().expect("a session calls its service once");
        function(channels)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response<Body> {
        let response: Response<ResponseBody<NoBody>> = Rejection::into_response(self);
        response.map(Body::new)
    }
}

/// Does not show the request, which may contain credentials.
impl fmt::Debug for WsStreamUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsStreamUpgrade")
            .field("upgrade", &self.upgrade)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sessions_without_a_layer_share_one_stall_reserve() {
        let extract = async || {
            let request = Request::get("/")
                .header("connection", "Upgrade")
                .header("upgrade", "websocket");
            let mut head = request.body(()).unwrap().into_parts().0;
            let upgrade = WsStreamUpgrade::from_request_parts(&mut head, &()).await;
            upgrade.unwrap().config
        };
        let (first, second) = (extract().await, extract().await);
        let reserves = (first.sessions.reserve(), second.sessions.reserve());
        assert!(Arc::ptr_eq(reserves.0, reserves.1));
    }
}
