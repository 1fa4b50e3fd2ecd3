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

mod future;
mod layer;
mod service;

pub use self::{
    future::WsStreamFuture,
    layer::WsStreamLayer,
    service::{UpgradeRequired, WsStream},
};
