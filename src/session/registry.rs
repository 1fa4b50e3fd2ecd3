//! The registry of the live sessions, to count, list and drain them.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{Drained, Peer, Session, SessionInfo, summary::total};
use crate::{policy::after, wire::TotalReserve};

/// The memory that the stalled channels of all sessions may use beyond their windows. One session gets
/// an eighth of it at most, so it is eight times the default reserve of a session.
const DEFAULT_STALL_RESERVE: usize = 384 * 1024 * 1024;

/// The live sessions of one or more [`WsStreamLayer`](crate::WsStreamLayer)s, to count, list and
/// drain them. Cloning is cheap.
///
/// Each layer has its own by default. To have all sessions of a process in one place, pass clones
/// of one `Sessions` to several layers with
/// [`WsStreamLayer::sessions`](crate::WsStreamLayer::sessions). A session counts from the
/// acceptance of its upgrade until its connection is closed and its service's future is dropped,
/// which includes closing and lingering.
///
/// # Shutting down
///
/// The graceful shutdown of a server does not wait for connections that it has handed over, so
/// drain at the same time: stop accepting connections, and call [`drain`](Self::drain) at once.
/// The server does wait for every request whose answer is not complete, such as a followed log, and
/// over HTTP/2 for sessions as well. A drain that waits for the server's shutdown may therefore
/// never begin.
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
/// // Other requests have no deadline of their own.
/// drop(timeout(Duration::from_secs(5), server).await);
/// # Ok(())
/// # }
/// # let _ = serve;
/// ```
///
/// # Looking at sessions
///
/// ```
/// use tower_wsstream::Sessions;
///
/// let sessions = Sessions::with_stall_reserve(64 << 20);
/// // ... layers get clones of it ...
///
/// // A gauge, and a page for operators.
/// println!("{} sessions", sessions.len());
/// for it in sessions.list() {
///     println!("{}: {:?}, {} B in", it.session.id(), it.age, it.received.bytes);
/// }
///
/// // A rolling update: no new sessions here, while those that exist go on.
/// sessions.close();
/// assert!(sessions.is_closed() && sessions.is_empty());
/// ```
#[derive(Clone)]
pub struct Sessions {
    inner: Arc<Registry>,
}

struct Registry {
    reserve: Arc<TotalReserve>,
    state: Mutex<State>,
    /// Notified when a session is removed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    live: BTreeMap<u64, Entry>,
    /// Set once new sessions are refused.
    closed: bool,
    /// The deadline of a drain.
    deadline: Option<Instant>,
    /// The sessions that were removed since a deadline was set.
    drained: Drained,
}

/// A live session, and the facts that the session itself does not store.
pub(crate) struct Entry {
    pub(crate) session: Session,
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) peer: Option<Peer>,
    pub(crate) since: Instant,
}

/// The error of a registration after [`Sessions::close`] or [`Sessions::drain`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed;

impl Default for Sessions {
    fn default() -> Self {
        Self::with_stall_reserve(DEFAULT_STALL_RESERVE)
    }
}

impl Sessions {
    /// Creates a `Sessions` whose stalled channels may together use this many bytes beyond their
    /// windows. Default 384 MiB.
    ///
    /// A session gets at most an eighth of what the other sessions have left, and at most its own
    /// [`Limits::stall_reserve`](crate::policy::Limits::stall_reserve). So a session alone gets an eighth
    /// of this, and however many sessions take as much as they can, some is left: at least a third after
    /// 8 of them, and 11 % after 16. To bound what the sessions of one user can take, bound their number
    /// with a [`SessionLimitLayer`](crate::access::SessionLimitLayer).
    ///
    /// Forwarded connections of SPDY use three quarters of the reserve at most, and half of it without a
    /// pause. The same part of that applies to each session.
    pub fn with_stall_reserve(bytes: usize) -> Self {
        Self {
            inner: Arc::new(Registry {
                reserve: TotalReserve::new(bytes),
                state: Mutex::default(),
                changed: Notify::new(),
            }),
        }
    }

    /// Returns the number of live sessions.
    pub fn len(&self) -> usize {
        self.lock().live.len()
    }

    /// Returns whether there are no live sessions.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a snapshot of all live sessions, oldest first.
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

    /// Returns whether new sessions are refused, after [`close`](Self::close) or
    /// [`drain`](Self::drain).
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Refuses new sessions from now on, with 503 and `Retry-After`. This cannot be undone.
    ///
    /// Live sessions continue, and learn of the shutdown from [`Session::draining`].
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
    /// The drain begins with the call, even if the future is never awaited. New sessions are
    /// refused, as with [`close`](Self::close). Each live session ends with
    /// [`EndCause::Drained`](crate::EndCause::Drained). Its service has the grace period to finish,
    /// and its last words are sent, which are a failure Status for a command. The close code is 1001
    /// if the outcome was not reported. A session that still exists at the deadline, for example
    /// because the peer does not read, is aborted.
    ///
    /// If there are several drains, the earliest deadline counts.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped, sessions still end, and are aborted at the deadline.
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

    /// Counts a session until the returned guard is dropped.
    ///
    /// If new sessions are refused, `refuse` returns whether this one can still be refused. If it
    /// cannot, the session is counted, and is told to end like the others.
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
    /// Returns handles that can be used without the lock.
    fn sessions(&self) -> Vec<Session> {
        let entries = self.live.values();
        entries.map(|entry| entry.session.clone()).collect()
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is fine: nothing under it panics between two steps of one change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn empty(&self) -> Drained {
        loop {
            // Created before the check, so that no change in between is missed.
            let changed = self.changed.notified();
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

/// A guard that counts a session until it is dropped.
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
        // Not under the lock, because dropping the last handle frees the session's buffers.
        drop(entry);
        self.registry.changed.notify_waiters();
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered").finish_non_exhaustive()
    }
}
