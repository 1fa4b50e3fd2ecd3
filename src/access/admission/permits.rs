//! A limit that sessions of different kinds share.

use std::{
    fmt,
    hash::Hash,
    sync::{Arc, Mutex},
};

use super::{SessionLimitLayer, held::HeldPermits};
use crate::rejection::Rejection;

/// A limit on the sessions with the same key that are open at once, shared by sessions of different
/// kinds.
///
/// Clones share the permits. Each [`layer`](Self::layer) works as a [`SessionLimitLayer`] does, and
/// all of them take their permits from this limit. Code that no layer covers
/// [acquires](Self::try_acquire) a permit itself.
///
/// # Examples
///
/// This limit allows each user four sessions of any kind. kubectl does not show why an upgrade was
/// refused, so for exec and attach the layer belongs inside of `RemoteCommandLayer`, with a
/// `map_err` around it that makes a Status of the refusal, as `told` does here. Without it, the
/// refusal is still the answer to the upgrade; see the [guide](crate::guide::errors#kubectl). For
/// port-forward it belongs outside of `PortForwardLayer`:
/// inside, it would count each port. A followed log holds its permit for as long as its body lives.
/// The handler of the log returns a [`Rejection`], which needs the feature `axum08`. kubectl
/// retries for ten seconds before it shows an answer with `Retry-After`, so the refusal of a log is
/// shown late.
///
/// ```
/// # #[cfg(all(feature = "axum08", feature = "portforward", feature = "remotecommand"))] {
/// use axum::{Extension, Router, body::Body, extract::State, routing::any};
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
/// /// Inserted into the request's extensions by an authentication layer further out.
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
///         // The permit is released with the body.
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
///     // Over HTTP/2, the method is CONNECT.
///     .route("/log", any(log))
///     .layer(WsReaderLayer::new())
///     .with_state(permits);
/// # let _ = (exec, port_forward, logs);
/// # }
/// ```
pub struct SessionPermits<K> {
    held: Arc<HeldPermits<K>>,
}

impl<K> SessionPermits<K>
where
    K: Hash + Eq + Clone + Send + 'static,
{
    /// Creates a limit of this many sessions at once for each key.
    ///
    /// With 0, every session that has a key is refused.
    pub fn new(sessions: usize) -> Self {
        Self {
            held: Arc::new(HeldPermits::new(sessions)),
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
        SessionLimitLayer::admitting(self.held.most(), admit)
    }

    /// Acquires a permit for this key. Dropping the permit releases it.
    ///
    /// # Errors
    /// Returns an error if the key already holds all of its permits. The [`Rejection`] answers with
    /// 429 and `Retry-After`.
    pub fn try_acquire(&self, key: K) -> Result<SessionPermit, Rejection> {
        match self.held.acquire(key) {
            Some(permit) => Ok(SessionPermit {
                _permit: Box::new(Mutex::new(permit)),
            }),
            None => Err(Rejection::session_limit(self.held.most())),
        }
    }
}

impl<K> Clone for SessionPermits<K> {
    fn clone(&self) -> Self {
        Self {
            held: Arc::clone(&self.held),
        }
    }
}

/// Leaves out the keys, which may name users.
impl<K> fmt::Debug for SessionPermits<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPermits")
            .field("sessions", &self.held.most())
            .finish_non_exhaustive()
    }
}

/// The permit of a session, from [`SessionPermits::try_acquire`]. Dropping it releases the permit.
///
/// # Examples
///
/// A session of your own kind, such as a task that no layer covers, holds the permit in a variable:
///
/// ```
/// use tower_wsstream::access::{SessionPermit, SessionPermits};
///
/// async fn watch(_permit: SessionPermit) {
///     // The permit is released when this returns or is dropped.
/// }
///
/// # fn main() -> Result<(), tower_wsstream::Rejection> {
/// let permits = SessionPermits::new(1);
/// let permit = permits.try_acquire("alice")?;
/// assert_eq!(permits.try_acquire("alice").unwrap_err().status(), 429);
/// drop(permit);
/// let watching = watch(permits.try_acquire("alice")?);
/// # let _ = watching;
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a permit releases it"]
pub struct SessionPermit {
    /// The permit of a key of any type, which no public type names. The mutex is never locked. It
    /// makes this field `Sync`, which a key need not be.
    _permit: Box<Mutex<dyn Send>>,
}

impl fmt::Debug for SessionPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionPermit").finish_non_exhaustive()
    }
}
