//! Where a browser's token goes.

mod future;
mod layer;
mod service;
mod token;

#[cfg(test)]
mod tests;

pub use self::{
    future::BearerSubprotocolFuture, layer::BearerSubprotocolLayer, service::BearerSubprotocol,
};
