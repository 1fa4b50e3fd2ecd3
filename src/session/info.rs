use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::Session;
use crate::wire::Traffic;

/// Names the other end of a session in the list of sessions, in summaries and in logs: an
/// address, a user, anything that tells sessions apart.
///
/// It is a request extension for a layer outside of
/// [`WsStreamLayer`](crate::WsStreamLayer) to insert. The library inserts none itself, because
/// behind a proxy the address of the socket says nothing.
///
/// # Examples
///
/// ```
/// use tower_wsstream::session::Peer;
///
/// let mut request = http::Request::new(());
/// request.extensions_mut().insert(Peer::new("alice from 192.0.2.7"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer(Arc<str>);

impl Peer {
    /// Creates a peer of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session as [`Sessions::list`](super::Sessions::list) shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// A handle, for example to close the session.
    pub session: Session,
    /// The selected subprotocol; "" if the client offered none.
    pub subprotocol: Cow<'static, str>,
    /// The other end, if a layer outside has named it.
    pub peer: Option<Peer>,
    /// The time since the upgrade was accepted.
    pub age: Duration,
    /// Data received so far, over all channels.
    pub received: Traffic,
    /// Data written by the service so far, over all channels.
    pub sent: Traffic,
}

/// The result of [`Sessions::drain`](super::Sessions::drain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// How many sessions ended in time.
    pub ended: usize,
    /// How many sessions had not ended at the deadline, and were aborted.
    pub cut: usize,
}
