//! The source of a request's table of subprotocols.

use std::{pin::Pin, sync::Arc};

use http::request::Parts;

use crate::{protocol::ChannelProtocols, rejection::Rejection};

/// Provides the table of subprotocols, and their channels, for a request.
///
/// A [`ChannelProtocols`] is the same for every request. A function can look at the
/// request's head: exec and port-forward derive their channels from the query. Pass a
/// closure to [`WsStreamLayer::from_fn`](crate::WsStreamLayer::from_fn), which lets the
/// compiler infer the type of its argument; elsewhere the argument needs a type, as in
/// `|head: &Parts|`:
///
/// ```
/// use http::request::Parts;
/// use tower_wsstream::{ChannelProtocols, ChannelType, WsStreamLayer};
///
/// let layer = WsStreamLayer::new(|_head: &Parts| {
///     Ok(ChannelProtocols::standard([ChannelType::Write]).expect("one channel is no error"))
/// });
/// # let _ = layer;
/// ```
///
/// Without the type, compilation fails with "implementation of `FnOnce` is not general enough":
///
/// ```compile_fail
/// use tower_wsstream::{ChannelProtocols, ChannelType, WsStreamLayer};
///
/// let layer = WsStreamLayer::new(|_head| {
///     Ok(ChannelProtocols::standard([ChannelType::Write]).expect("one channel is no error"))
/// });
/// ```
///
/// For a table that has to be looked up elsewhere, use
/// [`WsStreamLayer::from_async_fn`](crate::WsStreamLayer::from_async_fn).
pub trait ProtocolSource: Send + Sync + 'static {
    /// Returns the table for one request.
    ///
    /// # Errors
    /// The refusal that the client gets, for instance because its query is invalid.
    fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection>;
}

impl ProtocolSource for ChannelProtocols {
    fn protocols(&self, _head: &Parts) -> Result<ChannelProtocols, Rejection> {
        Ok(self.clone())
    }
}

impl<F> ProtocolSource for F
where
    F: Fn(&Parts) -> Result<ChannelProtocols, Rejection> + Send + Sync + 'static,
{
    fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
        self(head)
    }
}

/// The source of a layer's tables.
#[derive(Clone)]
pub(crate) enum Source {
    /// It answers at once.
    Now(Arc<dyn ProtocolSource>),
    /// It has to look the table up.
    Later(Arc<LookUp>),
}

pub(crate) type LookUp = dyn Fn(&Parts) -> TableFuture + Send + Sync;

pub(crate) type TableFuture =
    Pin<Box<dyn Future<Output = Result<ChannelProtocols, Rejection>> + Send>>;

/// Runs a step of a source. A source is the user's code: a panic in it is a refusal with 500.
pub(crate) fn ask<T>(step: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
    Rejection::on_panic("the source of the subprotocols", step)?
}
