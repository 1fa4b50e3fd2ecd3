//! How many sessions there may be at once of whom.

use std::{
    fmt,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::permits::{SessionPermit, SessionPermits};
use crate::{channel::ChannelSet, error::BoxError, rejection::Rejection};

/// Limits how many sessions there are at once with the same key, a user or a tenant
/// say: one more is refused with 429 and `Retry-After`.
///
/// Belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer), where a refusal comes
/// before the upgrade, and around whatever counts what begins, as
/// [`SessionRateLimitLayer`](crate::access::SessionRateLimitLayer): a session that is refused
/// here then counts for no rate. `concurrency_limit` has one number for all, and makes
/// its callers wait; this does not, because whose place it would be is not known before
/// the call.
///
/// A session has its place until its service is done or dropped: it panics, the session's
/// grace is over, the client leaves before it has its answer, a layer further inside refuses.
/// A closing handshake that goes on after that needs no place. What is kept is one number for
/// each key that has a session.
///
/// Clones of the layer, the services that it makes and their clones share the places; layers
/// over different requests do by [`SessionPermits`].
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer, access::SessionLimitLayer,
/// };
///
/// /// What an authentication layer outside has put into the request's extensions.
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
    limit: Limit<R>,
}

impl<R> SessionLimitLayer<R> {
    /// Lets each key have at most so many sessions at once; with 0, none.
    ///
    /// `key` is called once for each session, before the service is. A session for which
    /// it returns `None` is not limited, so what must not get around the limit has to be
    /// refused outside. A panic in it is answered like one of the service; it must not block.
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
            limit: Limit {
                sessions,
                admit: Arc::new(admit),
            },
        }
    }
}

impl<S, R> Layer<S> for SessionLimitLayer<R> {
    type Service = SessionLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionLimit {
            inner,
            limit: self.limit.clone(),
        }
    }
}

impl<R> Clone for SessionLimitLayer<R> {
    fn clone(&self) -> Self {
        Self {
            limit: self.limit.clone(),
        }
    }
}

/// Without the keys: they may say who is there.
impl<R> fmt::Debug for SessionLimitLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLimitLayer")
            .field("sessions", &self.limit.sessions)
            .finish_non_exhaustive()
    }
}

/// The service that [`SessionLimitLayer`] makes.
///
/// Its readiness is that of the inner service, whose key is not known yet; the place is
/// taken in `call`, and a refusal is the error of its future.
pub struct SessionLimit<S, R = ChannelSet> {
    inner: S,
    limit: Limit<R>,
}

impl<S, R> SessionLimit<S, R> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service, to be changed for the sessions to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service again.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, R> Service<R> for SessionLimit<S, R>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = SessionLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let kind = match (self.limit.admit)(&request) {
            Ok(place) => Kind::Admitted {
                future: self.inner.call(request),
                place,
            },
            Err(rejection) => Kind::Refused {
                rejection: Some(rejection),
            },
        };
        SessionLimitFuture { kind }
    }
}

impl<S: Clone, R> Clone for SessionLimit<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            limit: self.limit.clone(),
        }
    }
}

/// Without the keys: they may say who is there.
impl<S, R> fmt::Debug for SessionLimit<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLimit")
            .field("sessions", &self.limit.sessions)
            .finish_non_exhaustive()
    }
}

pin_project! {
    /// The session of a [`SessionLimit`], or its refusal.
    ///
    /// Dropping it gives its place back.
    #[must_use = "futures do nothing unless polled"]
    pub struct SessionLimitFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Admitted {
            #[pin]
            future: F,
            // Behind the future: the place is free once nothing of the session is left.
            place: Option<SessionPermit>,
        },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F, T, E> Future for SessionLimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Admitted { future, .. } => future.poll(cx).map_err(Into::into),
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(rejection.into())),
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F> fmt::Debug for SessionLimitFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLimitFuture").finish_non_exhaustive()
    }
}

/// What all clones share.
struct Limit<R> {
    sessions: usize,
    admit: Arc<Admit<R>>,
}

type Admit<R> = dyn Fn(&R) -> Result<Option<SessionPermit>, Rejection> + Send + Sync;

impl<R> Clone for Limit<R> {
    fn clone(&self) -> Self {
        Self {
            sessions: self.sessions,
            admit: Arc::clone(&self.admit),
        }
    }
}
#[cfg(test)]
mod tests {
    use std::future::{Ready, pending, ready};

    use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok, task};
    use tower::service_fn;

    use super::*;
    use crate::rejection::RejectionKind;

    /// A request that names its key, or none.
    type Named = Option<&'static str>;
    type Stays = std::future::Pending<Result<(), BoxError>>;

    fn stay(_: Named) -> Stays {
        pending()
    }

    fn limit(sessions: usize) -> SessionLimitLayer<Named> {
        SessionLimitLayer::new(sessions, |named: &Named| *named)
    }

    /// A session of this key, if it got a place.
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
    fn each_key_has_its_own_places_and_no_key_has_all() {
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
    fn clones_and_services_of_one_layer_share_the_places() {
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
    fn a_call_that_panics_gives_its_place_back() {
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
