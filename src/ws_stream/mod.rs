//! The layer that turns WebSocket upgrades into sessions, its service and its future.
//!
//! | type | role |
//! |---|---|
//! | [`WsStreamLayer`] | the subprotocols, the [configuration](crate::SessionConfig) and the fallback |
//! | [`WsStream`] | the service for HTTP requests; documents readiness and refusals |
//! | [`WsStreamFuture`] | the answer to a request: the 101, a refusal, or the fallback's answer |
//! | [`UpgradeRequired`] | the default fallback, which answers with 426 |
//!
//! To serve the body of an HTTP response instead of channels, see [`reader`](crate::reader). The
//! layers that belong around this one are in [`access`](crate::access) and
//! [`policy`](crate::policy).
//!
//! # Examples
//!
//! One service for sessions and for plain requests, which go to the fallback:
//!
//! ```
//! use tower::{ServiceBuilder, service_fn};
//! use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer};
//!
//! async fn page(_: http::Request<String>) -> Result<http::Response<String>, BoxError> {
//!     Ok(http::Response::new("<script>new WebSocket(location)</script>".to_owned()))
//! }
//!
//! async fn session(channels: ChannelSet) -> Result<(), BoxError> {
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), tower_wsstream::ConfigError> {
//! let protocols = ChannelProtocols::standard([ChannelType::ReadWrite])?;
//! let service = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(protocols).fallback(service_fn(page)))
//!     .service_fn(session);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```

mod future;
mod layer;
mod service;

pub use self::{
    future::WsStreamFuture,
    layer::WsStreamLayer,
    service::{UpgradeRequired, WsStream},
};
