//! The sessions that live: counted, listed, drained.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Session, summary::total};
use crate::{
    policy::after,
    wire::{TotalReserve, Traffic},
};

/// What the stalled channels of all sessions may take beyond their windows: 16
/// sessions that stall to the end.
const DEFAULT_STALL_RESERVE: usize = 256 * 1024 * 1024;

/// Who is at the other end, as the list of sessions, their end events and summaries
/// show it: an address, a user, whatever tells sessions apart.
///
/// A request extension, for a layer outside of
/// [`WsStreamLayer`](crate::WsStreamLayer) to insert. The library makes none up: behind
/// a proxy the address of the socket says nothing.
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
    /// A peer of this name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The sessions of one or more [`WsStreamLayer`](crate::WsStreamLayer)s: a cheap handle
/// to count, list and drain them.
///
/// Each layer has one of its own; give several layers a clone of the same one by
/// [`WsStreamLayer::sessions`](crate::WsStreamLayer::sessions) to have all sessions of a
/// process in one place. A session counts from the acceptance of its upgrade until its
/// connection is closed and its service's future is gone, closing and lingering included.
///
/// # Shutting down
///
/// No server's graceful shutdown waits for connections that it has handed over, so
/// drain beside it: stop accepting connections, and [`drain`](Self::drain) at once. It
/// does wait for every request that has not been answered in full, such as a followed
/// log, and over HTTP/2 for sessions too: a drain that comes behind it may never come.
///
/// ```
/// use std::{future::IntoFuture, time::Duration};
/// use tokio::{sync::oneshot, time::timeout};
/// use tower_wsstream::{Sessions, WsStreamLayer};
/// # use axum::Router;
/// # use tower_wsstream::{BoxError, ChannelProtocols, ChannelSet, ChannelType};
/// # async fn session(channels: ChannelSet) -> Result<(), BoxError> { Ok(()) }
/// # async fn serve(listener: tokio::net::TcpListener) -> Result<(), BoxError> {
/// # let protocols = ChannelProtocols::standard([ChannelType::Read])?;
///
/// let sessions = Sessions::default();
/// let exec = tower::ServiceBuilder::new()
///     .layer(WsStreamLayer::new(protocols).sessions(sessions.clone()))
///     .service_fn(session);
/// let app = Router::new().route_service("/exec", exec);
///
/// let (stop, stopped) = oneshot::channel::<()>();
/// let server = axum::serve(listener, app)
///     .with_graceful_shutdown(async { drop(stopped.await) });
/// let server = tokio::spawn(server.into_future());
///
/// tokio::signal::ctrl_c().await?;
/// drop(stop);
/// let drained = sessions.drain(Duration::from_secs(30)).await;
/// println!("{} sessions had to be cut", drained.cut);
/// // Requests that are no sessions have no deadline of their own.
/// drop(timeout(Duration::from_secs(5), server).await);
/// # Ok(())
/// # }
/// # let _ = serve;
/// ```
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Registry>,
}

struct Registry {
    reserve: Arc<TotalReserve>,
    state: Mutex<State>,
    /// A session is gone.
    changed: Notify,
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, Entry>,
    /// New ones are refused.
    closed: bool,
    /// Until when those that were told to end may take.
    deadline: Option<Instant>,
    /// How many had to be cut, and how many ended otherwise, since then.
    drained: Drained,
}

/// What is known of a session without asking it.
pub(crate) struct Entry {
    pub(crate) session: Session,
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) peer: Option<Peer>,
    pub(crate) since: Instant,
}

/// A session as [`Sessions::list`] shows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionInfo {
    /// A handle, to close it for one.
    pub session: Session,
    /// The subprotocol that was selected; "" where none was offered.
    pub subprotocol: Cow<'static, str>,
    /// Who is at the other end, where a layer outside has said so.
    pub peer: Option<Peer>,
    /// Since the acceptance.
    pub age: Duration,
    /// What has come so far, over all channels.
    pub received: Traffic,
    /// What the service has written so far, over all channels.
    pub sent: Traffic,
}

/// What [`Sessions::drain`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Sessions that ended in time.
    pub ended: usize,
    /// Sessions that had not at the deadline, and were aborted.
    pub cut: usize,
}

/// There are no new sessions any more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed;

impl Default for Sessions {
    fn default() -> Self {
        Self::with_stall_reserve(DEFAULT_STALL_RESERVE)
    }
}

impl Sessions {
    /// Sessions whose stalled channels may take so many bytes together beyond their
    /// windows, first come, first served; default 256 MiB. See
    /// [`Limits::stall_reserve`](crate::policy::Limits::stall_reserve).
    pub fn with_stall_reserve(bytes: usize) -> Self {
        Self {
            inner: Arc::new(Registry {
                reserve: TotalReserve::new(bytes),
                state: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, the oldest first, as they are at this moment.
    pub fn list(&self) -> Vec<SessionInfo> {
        let now = Instant::now();
        let state = self.lock();
        let info = |entry: &Entry| {
            let traffic = entry.session.traffic();
            SessionInfo {
                session: entry.session.clone(),
                subprotocol: entry.subprotocol.clone(),
                peer: entry.peer.clone(),
                age: now.saturating_duration_since(entry.since),
                received: total(traffic.iter().map(|(received, _)| *received)),
                sent: total(traffic.iter().map(|(_, sent)| *sent)),
            }
        };
        state.live.values().map(info).collect()
    }

    /// Whether new sessions are refused: after [`close`](Self::close) or
    /// [`drain`](Self::drain).
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Refuses new sessions from now on, with 503 and `Retry-After`, and lets those that
    /// live go on: [`Session::draining`] tells them. Cannot be taken back.
    pub fn close(&self) {
        let sessions = {
            let mut state = self.lock();
            state.closed = true;
            state.sessions()
        };
        for session in sessions {
            session.set_draining();
        }
    }

    /// Ends all sessions, and waits until they are gone.
    ///
    /// New ones are refused from the call on, as by [`close`](Self::close), whether the
    /// future is awaited or not. Each live one ends with
    /// [`EndCause::Drained`](crate::EndCause::Drained): its service has the grace period
    /// to finish and to say its last words (a command says a failure Status), the Close
    /// frame says 1001 where nobody told the outcome. What is not gone at the deadline,
    /// because its peer does not read for one, is aborted then.
    ///
    /// Of several drains the earliest deadline counts.
    ///
    /// # Cancel safety
    /// Cancel safe: sessions end, and are cut at the deadline, all the same.
    pub fn drain(&self, deadline: Duration) -> impl Future<Output = Drained> + Send + use<> {
        let (deadline, sessions) = {
            let mut state = self.lock();
            state.closed = true;
            let deadline = after(Instant::now(), deadline);
            let earliest = state.deadline.map_or(deadline, |old| old.min(deadline));
            state.deadline = Some(earliest);
            (earliest, state.sessions())
        };
        for session in sessions {
            session.set_draining();
            session.drain(deadline);
        }
        let registry = Arc::clone(&self.inner);
        async move { registry.empty().await }
    }

    pub(crate) fn reserve(&self) -> &Arc<TotalReserve> {
        &self.inner.reserve
    }

    /// Counts a session until what this returns is dropped.
    ///
    /// Where new ones are refused it is counted only if `refuse` says that this one
    /// cannot be: then it is one of those that are told to end.
    pub(crate) fn register(
        &self,
        entry: Entry,
        refuse: impl FnOnce() -> bool,
    ) -> Result<Registered, Closed> {
        let session = entry.session.clone();
        let (closed, deadline) = {
            let mut state = self.lock();
            if state.closed && refuse() {
                return Err(Closed);
            }
            state.live.insert(session.id(), entry);
            (state.closed, state.deadline)
        };
        if closed {
            session.set_draining();
        }
        if let Some(deadline) = deadline {
            session.drain(deadline);
        }
        Ok(Registered {
            registry: Arc::clone(&self.inner),
            id: session.id(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.lock()
    }
}

impl State {
    /// To be told without the lock.
    fn sessions(&self) -> Vec<Session> {
        let entries = self.live.values();
        entries.map(|entry| entry.session.clone()).collect()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under it panics between two steps of one change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn empty(&self) -> Drained {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, so that no change falls between.
            changed.as_mut().enable();
            {
                let state = self.lock();
                if state.live.is_empty() {
                    return state.drained;
                }
            }
            changed.await;
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Counts a session as long as it is.
pub(crate) struct Registered {
    registry: Arc<Registry>,
    id: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let entry = {
            let mut state = self.registry.lock();
            let entry = state.live.remove(&self.id);
            if state.deadline.is_some() {
                match entry.as_ref().is_some_and(|entry| entry.session.is_cut()) {
                    true => state.drained.cut += 1,
                    false => state.drained.ended += 1,
                }
            }
            entry
        };
        // Not under the lock: the last handle frees the session's buffers.
        drop(entry);
        self.registry.changed.notify_waiters();
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").finish_non_exhaustive()
    }
}
