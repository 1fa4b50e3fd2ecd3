//! The limit on sessions with the same key that are open at once.

use std::{fmt, hash::Hash, sync::Arc};

use tower_layer::Layer;

use super::{Admission, AdmissionFuture, Admit, SessionPermit, SessionPermits, service::Rule};
use crate::{channel::ChannelSet, rejection::Rejection};

/// Limits how many sessions with the same key, such as a user or a tenant, are open at once.
///
/// Any further session is refused with 429 and `Retry-After`.
///
/// The layer belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer), where a refusal comes
/// before the upgrade. It belongs around layers that count how many sessions begin, such as
/// [`SessionRateLimitLayer`](super::SessionRateLimitLayer), so that a session that is refused here
/// does not count towards the rate. tower's `concurrency_limit` has one number for all sessions,
/// and makes its callers wait. This layer never waits, because the key is not known before the
/// call.
///
/// A session holds its permit until its service has returned or is dropped: because it panicked,
/// because the session's grace is over, because the client left before it had its answer, or
/// because a layer further inside refused. The closing handshake that follows does not need the
/// permit. The layer stores one number for each key that has a session.
///
/// Clones of the layer, the services that it makes and their clones share the permits. Layers
/// over different kinds of requests share them through [`SessionPermits`].
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer, access::SessionLimitLayer,
/// };
///
/// /// Inserted into the request's extensions by an authentication layer further out.
/// #[derive(Clone, PartialEq, Eq, Hash)]
/// struct User(String);
///
/// async fn session(channels: ChannelSet) -> Result<(), BoxError> {
///     Ok(())
/// }
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(protocols))
///     .load_shed()
///     .layer(SessionLimitLayer::new(4, |channels: &ChannelSet| {
///         channels.request()?.extensions.get::<User>().cloned()
///     }))
///     .concurrency_limit(64) // all users
///     .service_fn(session);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
///
/// Inside of `RemoteCommandLayer`, which has taken the request out of the channels. A refusal is
/// still the answer to the upgrade, which kubectl does not show, unless a `map_err` around this layer
/// makes a Status of it; see the [guide](crate::guide::errors#kubectl).
///
/// ```
/// # #[cfg(feature = "remotecommand")] {
/// # #[derive(Clone, PartialEq, Eq, Hash)]
/// # struct User(String);
/// use tower_wsstream::{access::SessionLimitLayer, remotecommand::RemoteCommand};
///
/// let limit = SessionLimitLayer::new(4, |command: &RemoteCommand| {
///     command.request.as_ref()?.extensions.get::<User>().cloned()
/// });
/// # let _ = limit;
/// # }
/// ```
pub struct SessionLimitLayer<R = ChannelSet> {
    limit: PerKey<R>,
}

/// The service of a [`SessionLimitLayer`].
pub type SessionLimit<S, R = ChannelSet> = Admission<S, PerKey<R>>;

/// The future of a [`SessionLimit`], which runs the session or refuses it.
pub type SessionLimitFuture<F> = AdmissionFuture<F>;

impl<R> SessionLimitLayer<R> {
    /// Creates a layer that allows each key at most this many sessions at once.
    ///
    /// With 0, every session that has a key is refused.
    ///
    /// `key` is called once for each session, before the service. It must not block, and a panic in
    /// it is answered like a panic of the service. A session for which it returns `None` is not
    /// limited, so a request that must not evade the limit has to be refused further out.
    pub fn new<K>(sessions: usize, key: impl Fn(&R) -> Option<K> + Send + Sync + 'static) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
    {
        SessionPermits::new(sessions).layer(key)
    }

    /// Returns a layer that gets each session's permit from `admit`. `sessions` is only shown by
    /// `Debug`.
    pub(super) fn admitting(
        sessions: usize,
        admit: impl Fn(&R) -> Result<Option<SessionPermit>, Rejection> + Send + Sync + 'static,
    ) -> Self {
        Self {
            limit: PerKey {
                sessions,
                admit: Arc::new(admit),
            },
        }
    }
}

impl<S, R> Layer<S> for SessionLimitLayer<R> {
    type Service = SessionLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission::new(inner, self.limit.clone())
    }
}

impl<R> Clone for SessionLimitLayer<R> {
    fn clone(&self) -> Self {
        Self {
            limit: self.limit.clone(),
        }
    }
}

impl<R> fmt::Debug for SessionLimitLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLimitLayer")
            .field("limit", &self.limit)
            .finish()
    }
}

/// The rule of a [`SessionLimitLayer`], shared by its clones and services.
pub struct PerKey<R> {
    sessions: usize,
    admit: Arc<AdmitFn<R>>,
}

/// Acquires a permit for the key of a request, if the request has a key. The function hides the
/// type of the key, so no public type has to name it.
type AdmitFn<R> = dyn Fn(&R) -> Result<Option<SessionPermit>, Rejection> + Send + Sync;

impl<R> Admit<R> for PerKey<R> {}

impl<R> Rule<R> for PerKey<R> {
    fn admit(&self, request: &R) -> Result<Option<SessionPermit>, Rejection> {
        (self.admit)(request)
    }
}

impl<R> Clone for PerKey<R> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions,
            admit: Arc::clone(&self.admit),
        }
    }
}

/// Leaves out the keys, which may name users.
impl<R> fmt::Debug for PerKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerKey")
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{Ready, pending, ready},
        task::Poll,
    };

    use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
    use tower::{Service, service_fn};

    use super::*;
    use crate::{BoxError, rejection::RejectionKind};

    /// A request that consists of its key, if it has one.
    type Named = Option<&'static str>;
    type Stays = std::future::Pending<Result<(), BoxError>>;

    fn stay(_: Named) -> Stays {
        pending()
    }

    fn limit(sessions: usize) -> SessionLimitLayer<Named> {
        SessionLimitLayer::new(sessions, |named: &Named| *named)
    }

    /// Begins a session with this key, and returns it if it got a permit.
    fn begin<S>(service: &mut S, key: Named) -> Option<task::Spawn<S::Future>>
    where
        S: Service<Named, Response = (), Error = BoxError>,
    {
        let mut session = task::spawn(service.call(key));
        match session.poll() {
            Poll::Pending => Some(session),
            Poll::Ready(Ok(())) => panic!("a session ended"),
            Poll::Ready(Err(error)) => {
                let rejection = error.downcast_ref::<Rejection>().unwrap();
                assert_eq!(rejection.kind(), RejectionKind::SessionLimit);
                let answer = rejection.clone().into_response::<crate::body::NoBody>();
                assert_eq!(answer.status(), 429);
                assert_eq!(answer.headers()["retry-after"], "1");
                None
            }
        }
    }

    #[test]
    fn each_key_has_its_own_permits_and_no_key_has_all() {
        for most in 0..4 {
            let mut service = limit(most).layer(service_fn(stay));
            let mut held = Vec::new();
            for key in ["a", "b"] {
                for _ in 0..most {
                    held.push(begin(&mut service, Some(key)).unwrap());
                }
                assert!(begin(&mut service, Some(key)).is_none(), "{most}");
            }
            for _ in 0..10 {
                held.push(begin(&mut service, None).unwrap());
            }
            // Each session that ends makes room for another.
            if most > 0 {
                drop(held.remove(0));
                held.push(begin(&mut service, Some("a")).unwrap());
            }
            assert!(begin(&mut service, Some("a")).is_none(), "{most}");
            assert!(begin(&mut service, Some("b")).is_none(), "{most}");
        }
    }

    #[test]
    fn clones_and_services_of_one_layer_share_the_permits() {
        let layer = limit(2);
        let mut first = layer.layer(service_fn(stay));
        let mut second = layer.clone().layer(service_fn(stay));
        let held = begin(&mut first, Some("a"));
        let _held = begin(&mut second, Some("a")).unwrap();
        assert!(begin(&mut first.clone(), Some("a")).is_none());
        drop(held);
        assert!(begin(&mut first.clone(), Some("a")).is_some());
        // Another layer has permits of its own.
        assert!(begin(&mut limit(1).layer(service_fn(stay)), Some("a")).is_some());
    }

    #[test]
    fn a_call_that_panics_releases_its_permit() {
        fn broken(_: Named) -> Stays {
            panic!("broken")
        }
        let layer = limit(1);
        let mut service = layer.layer(service_fn(broken));
        for _ in 0..3 {
            let call = std::panic::AssertUnwindSafe(|| drop(service.call(Some("a"))));
            std::panic::catch_unwind(call).unwrap_err();
        }
        let mut service = layer.layer(service_fn(stay));
        assert!(begin(&mut service, Some("a")).is_some());
    }

    #[tokio::test]
    async fn readiness_is_the_inner_services_and_a_refusal_does_not_call_it() {
        let (mock, mut handle) = tower_test::mock::pair::<Named, ()>();
        let mut service = task::spawn(limit(1).layer(mock));
        handle.allow(0);
        assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
        handle.allow(2);
        assert!(service.is_woken());
        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let mut admitted = task::spawn(service.enter(|_, mut service| service.call(Some("a"))));
        assert_pending!(admitted.poll());
        let (_, respond) = handle.next_request().await.unwrap();

        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let mut refused = task::spawn(service.enter(|_, mut service| service.call(Some("a"))));
        assert!(assert_ready_err!(refused.poll()).is::<Rejection>());
        assert_pending!(task::spawn(handle.next_request()).poll());

        respond.send_response(());
        assert!(admitted.is_woken());
        assert_ready_ok!(admitted.poll());
    }

    #[tokio::test]
    async fn errors_of_the_inner_service_pass() {
        fn failing(_: Named) -> Ready<Result<(), std::io::Error>> {
            ready(Err(std::io::ErrorKind::NotFound.into()))
        }
        let mut service = limit(1).layer(service_fn(failing));
        for _ in 0..2 {
            let error = service.call(Some("a")).await.unwrap_err();
            assert!(error.is::<std::io::Error>());
        }
    }
}
