//! Where a request's table of subprotocols comes from.

use http::request::Parts;

use super::rejection::Rejection;
use crate::protocol::ChannelProtocols;

/// Tells which subprotocols, with which channels, a request may have.
///
/// A [`ChannelProtocols`] is the same for every request. A closure can look at
/// the request's head, because exec and port-forward derive their channels from
/// the query:
///
/// ```
/// use http::request::Parts;
/// use tower_wsstream::{ChannelProtocols, ChannelType, Rejection, WsStreamLayer};
///
/// let layer = WsStreamLayer::new(|head: &Parts| {
///     let Some(query) = head.uri.query() else {
///         return Err(Rejection::new(http::StatusCode::BAD_REQUEST, "say ?write=1 or ?write=0"));
///     };
///     let channel = if query == "write=1" { ChannelType::ReadWrite } else { ChannelType::Write };
///     Ok(ChannelProtocols::standard([channel]).expect("one channel is no error"))
/// });
/// # let _ = layer;
/// ```
pub trait ProtocolSource: Send + Sync + 'static {
    /// The table for one request.
    ///
    /// # Errors
    /// The refusal that the client gets, for instance because its query makes
    /// no sense.
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
