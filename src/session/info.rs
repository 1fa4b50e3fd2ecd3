use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use super::Session;
use crate::wire::Traffic;

/// The name of a session's peer in lists of sessions, in summaries and in logs.
///
/// It can be an address, a user, or anything else that tells sessions apart. It is a request
/// extension for a layer outside of [`WsStreamLayer`](crate::WsStreamLayer) to insert. The crate
/// does not insert one itself, because behind a proxy, the address of the socket says nothing.
///
/// # Examples
///
/// ```
/// use tower_wsstream::session::Peer;
///
/// let mut request = http::Request::new(());
/// let peer = Peer::new("alice from 192.0.2.7");
/// assert_eq!(peer.as_str(), "alice from 192.0.2.7");
/// request.extensions_mut().insert(peer);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer(Arc<str>);

impl Peer {
    /// Creates a peer with this name.
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

/// A live session in the result of [`Sessions::list`](super::Sessions::list).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// A handle to the session, for example to close it.
    pub session: Session,
    /// The selected subprotocol, or `""` if the client offered none.
    pub subprotocol: Cow<'static, str>,
    /// The name of the peer, if an outer layer has inserted one.
    pub peer: Option<Peer>,
    /// The time since the upgrade was accepted.
    pub age: Duration,
    /// The data received so far on all channels.
    pub received: Traffic,
    /// The data that the service has written so far on all channels.
    pub sent: Traffic,
}

/// The result of [`Sessions::drain`](super::Sessions::drain).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_wsstream::{Sessions, session::Drained};
///
/// async fn stop(sessions: Sessions) {
///     let Drained { ended, cut, .. } = sessions.drain(Duration::from_secs(30)).await;
///     println!("{ended} sessions ended, and {cut} had to be cut");
/// }
/// # let _ = stop;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// The number of sessions that ended in time.
    pub ended: usize,
    /// The number of sessions that had not ended at the deadline, and were aborted.
    pub cut: usize,
}
