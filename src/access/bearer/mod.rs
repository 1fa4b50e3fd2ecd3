//! The bearer token that a browser offers as a subprotocol.

mod future;
mod layer;
mod service;
mod token;

#[cfg(test)]
mod tests;

pub use self::{
    future::BearerSubprotocolFuture, layer::BearerSubprotocolLayer, service::BearerSubprotocol,
};
