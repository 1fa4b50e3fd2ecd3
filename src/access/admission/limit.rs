//! How many sessions there may be at once with the same key.

use std::{fmt, hash::Hash, sync::Arc};

use tower_layer::Layer;

use super::{Admission, AdmissionFuture, SessionPermit, SessionPermits, service::Admit};
use crate::{channel::ChannelSet, rejection::Rejection};

/// Limits how many sessions there are at once with the same key, such as a user or a tenant: one
/// more is refused with 429 and `Retry-After`.
///
/// Belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer), where a refusal comes before the
/// upgrade, and around layers that count beginnings, such as
/// [`SessionRateLimitLayer`](super::SessionRateLimitLayer): a session that is refused here then
/// does not count for the rate. `concurrency_limit` has one number for all sessions, and makes
/// its callers wait. This layer never waits, because the key is not known before the call.
///
/// A session holds a permit until its service is done or dropped: when it panics, when the
/// session's grace is over, when the client leaves before it has its answer, or when a layer
/// further inside refuses. The closing handshake after that does not need the permit. One number
/// is kept for each key that has a session.
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
/// /// An authentication layer outside has inserted it into the request's extensions.
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
/// Inside of `RemoteCommandLayer`, which has taken the request out of the channels:
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

/// The future of a [`SessionLimit`]: the session, or its refusal.
pub type SessionLimitFuture<F> = AdmissionFuture<F>;

impl<R> SessionLimitLayer<R> {
    /// Creates a layer that lets each key have at most this many sessions at once; with 0, none.
    ///
    /// `key` is called once for each session, before the service is. A session for which it
    /// returns `None` is not limited, so a request that must not evade the limit has to be refused
    /// outside. The function must not block. A panic in it is answered like one of the service.
    pub fn new<K>(sessions: usize, key: impl Fn(&R) -> Option<K> + Send + Sync + 'static) -> Self
    where
        K: Hash + Eq + Clone + Send + 'static,
    {
        SessionPermits::new(sessions).layer(key)
    }

    /// Returns a layer that asks `admit` for each session's permit; `sessions` is for its `Debug`.
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

/// The limit of a [`SessionLimitLayer`], shared by its clones and services.
pub struct PerKey<R> {
    sessions: usize,
    admit: Arc<AdmitFn<R>>,
}

/// Takes a permit for the key of a request, if the request has one. The type of the key stays
/// behind it, so no type that a user sees names it.
type AdmitFn<R> = dyn Fn(&R) -> Result<Option<SessionPermit>, Rejection> + Send + Sync;

impl<R> Admit<R> for PerKey<R> {
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

/// Shows no keys: they may name users.
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

    /// A request that names its key, or none.
    type Named = Option<&'static str>;
    type Stays = std::future::Pending<Result<(), BoxError>>;

    fn stay(_: Named) -> Stays {
        pending()
    }

    fn limit(sessions: usize) -> SessionLimitLayer<Named> {
        SessionLimitLayer::new(sessions, |named: &Named| *named)
    }

    /// A session of this key, if it got a permit.
    fn begin<S>(service: &mut S, key: Named) -> Option<task::Spawn<S::Future>>
    where
        S: Service<Named, Response = (), Error = BoxError>,
    {
        let mut session = task::spawn(service.call(key));
        match session.poll() {
            Poll::Pending => Some(session),
            Poll::Ready(Ok(())) => panic!("it stays"),
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
            // One goes, and one can come.
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
        // Another layer counts for itself.
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
