//! The layer, its service and its future.

mod future;
mod layer;
mod service;

pub use self::{
    future::WsStreamFuture,
    layer::WsStreamLayer,
    service::{UpgradeRequired, WsStream},
};
