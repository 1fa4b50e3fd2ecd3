//! The source of a request's table of subprotocols.

use std::{pin::Pin, sync::Arc};

use http::request::Parts;

use crate::{protocol::ChannelProtocols, rejection::Rejection};

/// Provides the table of subprotocols, and their channels, for a request.
///
/// A [`ChannelProtocols`] is the same table for every request. A function can look at the head of
/// the request, as exec and port-forward do to derive their channels from the query. Pass a closure
/// to [`WsStreamLayer::from_fn`](crate::WsStreamLayer::from_fn), which lets the compiler infer the
/// type of its argument. Elsewhere the argument needs a type, as in `|head: &Parts|`:
///
/// ```
/// use http::request::Parts;
/// use tower_wsstream::{ChannelProtocols, ChannelType, WsStreamLayer};
///
/// let layer = WsStreamLayer::new(|_head: &Parts| {
///     Ok(ChannelProtocols::standard([ChannelType::Write]).expect("one channel is valid"))
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
///     Ok(ChannelProtocols::standard([ChannelType::Write]).expect("one channel is valid"))
/// });
/// ```
///
/// A type of your own, which any layer can be given:
///
/// ```
/// use http::{StatusCode, request::Parts};
/// use tower_wsstream::{
///     ChannelProtocols, ChannelType, ProtocolSource, Rejection, WsStreamLayer,
/// };
///
/// /// Consoles with one channel for each screen.
/// struct Screens {
///     most: usize,
/// }
///
/// impl ProtocolSource for Screens {
///     fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
///         let screens = head.uri.query().and_then(|query| query.strip_prefix("screens="));
///         match screens.and_then(|number| number.parse().ok()) {
///             Some(number) if number <= self.most => {
///                 ChannelProtocols::standard(vec![ChannelType::ReadWrite; number])
///                     .map_err(|error| Rejection::new(StatusCode::BAD_REQUEST, error.to_string()))
///             }
///             _ => Err(Rejection::new(StatusCode::BAD_REQUEST, "add ?screens=NUMBER")),
///         }
///     }
/// }
///
/// let source = Screens { most: 4 };
/// let (head, ()) = http::Request::get("/?screens=2").body(())?.into_parts();
/// assert_eq!(source.protocols(&head)?.iter().count(), 3);
/// let layer = WsStreamLayer::new(source);
/// # let _ = layer;
/// # Ok::<(), tower_wsstream::BoxError>(())
/// ```
///
/// If the table has to be looked up asynchronously, use
/// [`WsStreamLayer::from_async_fn`](crate::WsStreamLayer::from_async_fn).
pub trait ProtocolSource: Send + Sync + 'static {
    /// Returns the table for a request.
    ///
    /// # Errors
    /// Returns the refusal that the client gets, for instance because its query is invalid.
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
    /// A source that answers at once.
    Now(Arc<dyn ProtocolSource>),
    /// A source that has to look up the table.
    Later(Arc<LookUp>),
}

pub(crate) type LookUp = dyn Fn(&Parts) -> TableFuture + Send + Sync;

pub(crate) type TableFuture =
    Pin<Box<dyn Future<Output = Result<ChannelProtocols, Rejection>> + Send>>;

/// Runs a step of a source. A source is the user's code, and a panic in it refuses the request with
/// 500.
pub(crate) fn ask<T>(step: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
    Rejection::on_panic("the source of the subprotocols", step)?
}
