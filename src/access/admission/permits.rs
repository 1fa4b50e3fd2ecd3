//! One limit that sessions of different kinds share.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::limit::SessionLimitLayer;
use crate::{
    rejection::Rejection,
    unwind::{catch, drop_quietly},
};

/// For a log: see [`drop_quietly`].
const KEY: &str = "the key of a session";

/// Limits how many sessions there are at once with the same key, over sessions of different
/// kinds. Clones share the places.
///
/// Each [`layer`](Self::layer) works as a [`SessionLimitLayer`] does, and all of them take from
/// the same permits. Code that no layer covers [acquires](Self::try_acquire) its own.
///
/// # Examples
///
/// Four sessions per user, of any kind. kubectl does not show why an upgrade was refused, so for
/// exec and attach the layer belongs inside of `RemoteCommandLayer`, and its refusals are told as
/// a Status. Inside of `PortForwardLayer` it would count each port, so there it belongs outside;
/// and a followed log keeps its place for as long as its body lives. The handler returns a
/// [`Rejection`], which needs the feature `axum08`. kubectl retries an answer with `Retry-After`
/// for ten seconds before it shows it, so a refused log is shown late.
///
/// ```
/// # #[cfg(all(feature = "axum08", feature = "portforward", feature = "remotecommand"))] {
/// use axum::{Extension, Router, body::Body, extract::State, routing::get};
/// use http::request::Parts;
/// use http_body_util::BodyExt;
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelSet, Rejection, RejectionKind, WsStreamLayer,
///     access::SessionPermits,
///     portforward::{self, ForwardedPort, PortForwardLayer},
///     reader::WsReaderLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// /// What an authentication layer outside has put into the request's extensions.
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct User(String);
///
/// fn user(head: &Parts) -> Option<User> {
///     head.extensions.get().cloned()
/// }
///
/// fn told(error: BoxError) -> BoxError {
///     let rejection = Rejection::from_error(&*error);
///     match rejection.kind() {
///         RejectionKind::Internal => error,
///         _ => rejection.to_status().into(),
///     }
/// }
///
/// async fn log(
///     State(permits): State<SessionPermits<User>>,
///     Extension(user): Extension<User>,
/// ) -> Result<Body, Rejection> {
///     let permit = permits.try_acquire(user)?;
///     let log = Body::from("a line\n").map_frame(move |frame| {
///         // It goes with the body.
///         let _permit = &permit;
///         frame
///     });
///     Ok(Body::new(log))
/// }
///
/// let permits = SessionPermits::new(4);
/// let exec = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .map_err(told)
///     .layer(permits.layer(|command: &RemoteCommand| user(command.request.as_ref()?)))
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// let port_forward = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(portforward::Protocols::default()))
///     .layer(permits.layer(|channels: &ChannelSet| user(channels.request()?)))
///     .layer(PortForwardLayer::new())
///     .service_fn(async |_: ForwardedPort| Ok::<_, BoxError>(()));
/// let logs: Router = Router::new()
///     .route("/log", get(log))
///     .layer(WsReaderLayer::new())
///     .with_state(permits);
/// # let _ = (exec, port_forward, logs);
/// # }
/// ```
pub struct SessionPermits<K> {
    places: Arc<Places<K>>,
}

impl<K> SessionPermits<K>
where
    K: Hash + Eq + Clone + Send + 'static,
{
    /// Creates a limit of that many sessions at once with the same key; 0 refuses all that have
    /// a key.
    pub fn new(sessions: usize) -> Self {
        Self {
            places: Arc::new(Places::new(sessions)),
        }
    }

    /// Returns a layer that acquires a permit for each session; see
    /// [`SessionLimitLayer::new`].
    pub fn layer<R>(
        &self,
        key: impl Fn(&R) -> Option<K> + Send + Sync + 'static,
    ) -> SessionLimitLayer<R> {
        let permits = self.clone();
        let admit = move |request: &R| key(request).map(|key| permits.try_acquire(key)).transpose();
        SessionLimitLayer::admitting(self.places.most, admit)
    }

    /// Takes a place for this key, which is free again when the permit is dropped.
    ///
    /// # Errors
    /// There is none left: the [`Rejection`] answers with 429 and `Retry-After`.
    pub fn try_acquire(&self, key: K) -> Result<SessionPermit, Rejection> {
        match self.places.take(key) {
            Some(place) => Ok(SessionPermit {
                _place: Box::new(Mutex::new(place)),
            }),
            None => Err(Rejection::session_limit(self.places.most)),
        }
    }
}

impl<K> Clone for SessionPermits<K> {
    fn clone(&self) -> Self {
        Self {
            places: Arc::clone(&self.places),
        }
    }
}

/// Without the keys: they may say who is there.
impl<K> fmt::Debug for SessionPermits<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPermits")
            .field("sessions", &self.places.most)
            .finish_non_exhaustive()
    }
}

/// A session's place, returned by [`SessionPermits::try_acquire`]. Dropping it frees the place.
#[must_use = "the place is free again when this is dropped"]
pub struct SessionPermit {
    /// Its key left behind: no type that a user sees names it. Never locked: the mutex makes
    /// a key that is `Send` alone `Sync` as well.
    _place: Box<Mutex<dyn Send>>,
}

impl fmt::Debug for SessionPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPermit").finish_non_exhaustive()
    }
}
/// How many sessions each key has. None is kept that has none: clients may choose them.
struct Places<K> {
    most: usize,
    taken: Mutex<HashMap<K, usize>>,
}

impl<K> Places<K> {
    fn new(most: usize) -> Self {
        Self {
            most,
            taken: Mutex::default(),
        }
    }

    /// A key that panics while it is compared has changed nothing yet.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Places<K> {
    fn take(self: &Arc<Self>, key: K) -> Option<Place<K>> {
        let mut taken = self.lock();
        match taken.get_mut(&key) {
            Some(count) if *count < self.most => *count += 1,
            None if self.most > 0 => {
                taken.insert(key.clone(), 1);
            }
            _ => return None,
        }
        drop(taken);
        Some(Place {
            places: Arc::clone(self),
            key: Some(key),
        })
    }
}

impl<K: Hash + Eq> Places<K> {
    /// Returns the key of the map, where this was the last place of it: no key is dropped
    /// under the lock.
    fn give_back(&self, key: &K) -> Option<K> {
        let mut taken = self.lock();
        match taken.get_mut(key) {
            Some(count) if *count > 1 => {
                *count -= 1;
                None
            }
            _ => taken.remove_entry(key).map(|(key, _)| key),
        }
    }
}

/// A session's place, until it is dropped.
struct Place<K: Hash + Eq> {
    places: Arc<Places<K>>,
    /// Until it is dropped.
    key: Option<K>,
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        // A key is the user's code, and this may run while a panic of the session unwinds:
        // another one that left it would abort the process.
        match catch(|| self.places.give_back(&key)) {
            Ok(last) => drop_quietly(last, KEY),
            Err(_) => tracing::error!("a key panicked: the place of its session is lost"),
        }
        drop_quietly(key, KEY);
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_gone_leave_nothing_behind() {
        let places = Arc::new(Places::new(2));
        for round in 0..1_000 {
            let held: Vec<_> = (0..10)
                .filter_map(|n| places.take(round * 10 + n / 3))
                .collect();
            assert_eq!((held.len(), places.lock().len()), (7, 4));
        }
        assert!(places.lock().is_empty());
        // Nor does one that is refused.
        let full = Arc::new(Places::new(0));
        assert!(full.take(1).is_none());
        assert!(full.lock().is_empty());
    }
}
