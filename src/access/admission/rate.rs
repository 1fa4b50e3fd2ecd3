//! The limit on sessions that begin in a window of time.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tower_layer::Layer;

use super::{Admission, AdmissionFuture, Admit, SessionPermit, service::Rule, window::Windows};
use crate::rejection::Rejection;

/// Limits how many sessions begin in a window of time, and refuses others with 429 and
/// `Retry-After`.
///
/// The layer belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer), which clones its inner
/// service for each session. tower's own `rate_limit` cannot be used there, because it does not
/// implement `Clone`. It also makes its callers wait where this layer refuses.
///
/// Windows are fixed, as tower's are: the first session after the end of a window begins the next
/// one. A session that is refused here does not count, but one that the inner service refuses does,
/// so `load_shed` belongs outside of this layer.
///
/// Clones of the layer, the services that it makes and their clones share one count.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer,
///     access::SessionRateLimitLayer,
/// };
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
///     .layer(SessionRateLimitLayer::new(20, Duration::from_secs(1)))
///     .concurrency_limit(64)
///     .service_fn(session);
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
///
/// Around commands, with a refusal that kubectl shows; see the [guide](crate::guide::errors#kubectl):
///
/// ```
/// # #[cfg(feature = "remotecommand")] {
/// use std::time::Duration;
///
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, Rejection, WsStreamLayer,
///     access::SessionRateLimitLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// let service = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .map_err(|error: BoxError| Rejection::from_error(&*error).to_status())
///     .layer(SessionRateLimitLayer::new(100, Duration::from_secs(60)))
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # let _ = service;
/// # }
/// ```
#[derive(Clone)]
pub struct SessionRateLimitLayer {
    rate: Rate,
}

/// The service of a [`SessionRateLimitLayer`].
pub type SessionRateLimit<S> = Admission<S, Rate>;

/// The future of a [`SessionRateLimit`], which runs the session or refuses it.
pub type SessionRateLimitFuture<F> = AdmissionFuture<F>;

impl SessionRateLimitLayer {
    /// Creates a layer that lets at most this many sessions begin in each window of the length
    /// `per`.
    ///
    /// With 0 sessions the layer refuses all of them. Otherwise a `per` of zero refuses none, and a
    /// `per` of [`Duration::MAX`] is a window that never ends.
    pub fn new(sessions: u64, per: Duration) -> Self {
        Self {
            rate: Rate(Arc::new(Mutex::new(Windows::new(sessions, per)))),
        }
    }
}

impl<S> Layer<S> for SessionRateLimitLayer {
    type Service = SessionRateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Admission::new(inner, self.rate.clone())
    }
}

impl fmt::Debug for SessionRateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRateLimitLayer")
            .field("rate", &self.rate)
            .finish()
    }
}

/// The rule of a [`SessionRateLimitLayer`], shared by its clones and services.
#[derive(Clone)]
pub struct Rate(Arc<Mutex<Windows>>);

impl Rate {
    fn windows<T>(&self, with: impl FnOnce(&mut Windows) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<R> Admit<R> for Rate {}

impl<R> Rule<R> for Rate {
    fn admit(&self, _request: &R) -> Result<Option<SessionPermit>, Rejection> {
        let now = Instant::now();
        match self.windows(|windows| windows.admit(now)) {
            Ok(()) => Ok(None),
            Err(left) => Err(Rejection::rate_limited(left)),
        }
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Copied, because the formatter may write to something that blocks, which must not happen
        // under the lock.
        let windows = self.windows(|windows| windows.clone());
        fmt::Debug::fmt(&windows, f)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready_ok, task};
    use tower::{Service, ServiceExt, service_fn};

    use super::*;
    use crate::{BoxError, rejection::RejectionKind};

    const SECOND: Duration = Duration::from_secs(1);

    fn echo() -> impl Service<u8, Response = u8, Error = BoxError, Future: Send> + Clone {
        service_fn(|n: u8| ready(Ok::<_, BoxError>(n)))
    }

    fn limited(
        sessions: u64,
        per: Duration,
    ) -> SessionRateLimit<impl Service<u8, Response = u8, Error = BoxError> + Clone> {
        SessionRateLimitLayer::new(sessions, per).layer(echo())
    }

    /// Returns the `Retry-After` of a refusal, or `None` if the session was admitted.
    async fn try_one<S>(service: &SessionRateLimit<S>) -> Option<String>
    where
        S: Service<u8, Response = u8, Error = BoxError> + Clone,
    {
        let error = match service.clone().oneshot(7).await {
            Ok(n) => {
                assert_eq!(n, 7);
                return None;
            }
            Err(error) => error,
        };
        let rejection = error.downcast_ref::<Rejection>().unwrap();
        assert_eq!(rejection.kind(), RejectionKind::RateLimited);
        let answer = rejection.clone().into_response::<crate::body::NoBody>();
        assert_eq!(answer.status(), 429);
        Some(answer.headers()["retry-after"].to_str().unwrap().to_owned())
    }

    fn seconds(n: &str) -> Option<String> {
        Some(n.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_lets_in_so_many_and_no_more() {
        let service = limited(3, SECOND);
        for _ in 0..3 {
            for _ in 0..3 {
                assert_eq!(try_one(&service).await, None);
            }
            for _ in 0..3 {
                assert_eq!(try_one(&service).await, seconds("1"));
            }
            advance(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_begins_with_its_first_session_and_ends_on_time() {
        let service = limited(2, SECOND);
        advance(SECOND * 10 + SECOND / 2).await;
        assert_eq!(try_one(&service).await, None);
        advance(SECOND / 2).await;
        assert_eq!(try_one(&service).await, None);
        advance(SECOND / 2 - Duration::from_nanos(1)).await;
        assert_eq!(try_one(&service).await, seconds("1"));
        advance(Duration::from_nanos(1)).await;
        assert_eq!(try_one(&service).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_is_what_is_left_rounded_up() {
        let service = limited(1, SECOND * 60);
        assert_eq!(try_one(&service).await, None);
        assert_eq!(try_one(&service).await, seconds("60"));
        advance(Duration::from_nanos(1)).await;
        assert_eq!(try_one(&service).await, seconds("60"));
        advance(SECOND - Duration::from_nanos(1)).await;
        assert_eq!(try_one(&service).await, seconds("59"));
        advance(SECOND * 58 + SECOND / 2).await;
        assert_eq!(try_one(&service).await, seconds("1"));
        advance(SECOND / 2).await;
        assert_eq!(try_one(&service).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_ends_of_the_scale_have_a_meaning() {
        let all = [None, None, None];
        let one = |retry_after| [None, seconds(retry_after), seconds(retry_after)];
        let none = |retry_after| [(); 3].map(|()| seconds(retry_after));
        const NEVER: &str = "18446744073709551615";
        for (sessions, per, expected) in [
            (0, Duration::ZERO, none("1")),
            (0, SECOND * 5, none("5")),
            (0, Duration::MAX, none(NEVER)),
            (1, Duration::ZERO, all.clone()),
            (1, Duration::from_nanos(1), one("1")),
            (1, Duration::MAX, one(NEVER)),
            (u64::MAX, Duration::ZERO, all.clone()),
            (u64::MAX, Duration::MAX, all),
        ] {
            let service = limited(sessions, per);
            for expected in expected {
                assert_eq!(try_one(&service).await, expected, "{sessions} per {per:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clones_and_services_of_one_layer_share_the_count() {
        let layer = SessionRateLimitLayer::new(3, SECOND);
        let first = layer.layer(echo());
        let second = layer.clone().layer(echo());
        assert_eq!(try_one(&first).await, None);
        assert_eq!(try_one(&first.clone()).await, None);
        assert_eq!(try_one(&second).await, None);
        assert_eq!(try_one(&first).await, seconds("1"));
        assert_eq!(try_one(&second).await, seconds("1"));
        // Another layer has a count of its own.
        assert_eq!(try_one(&limited(3, SECOND)).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_the_inner_services_and_a_refusal_does_not_call_it() {
        let (mock, mut handle) = tower_test::mock::pair::<u8, u8>();
        let mut service = task::spawn(SessionRateLimitLayer::new(1, SECOND).layer(mock));
        handle.allow(0);
        assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
        handle.allow(2);
        assert!(service.is_woken());
        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let mut admitted = task::spawn(service.enter(|_, mut service| service.call(1)));
        assert_pending!(admitted.poll());
        let (request, respond) = handle.next_request().await.unwrap();
        assert_eq!(request, 1);

        assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
        let mut refused = task::spawn(service.enter(|_, mut service| service.call(2)));
        let refused = tokio_test::assert_ready_err!(refused.poll());
        assert!(refused.is::<Rejection>());
        assert_pending!(task::spawn(handle.next_request()).poll());

        respond.send_response(5);
        assert!(admitted.is_woken());
        assert_eq!(assert_ready_ok!(admitted.poll()), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_of_the_inner_service_pass() {
        fn failing(_: ()) -> Ready<Result<(), std::io::Error>> {
            ready(Err(std::io::ErrorKind::NotFound.into()))
        }
        let service = SessionRateLimitLayer::new(1, SECOND).layer(service_fn(failing));
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert!(error.is::<std::io::Error>());
        // The inner service was called, so the session counts.
        assert!(service.oneshot(()).await.unwrap_err().is::<Rejection>());
    }
}
