//! How many sessions may begin in a time.

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::{error::BoxError, rejection::Rejection};

/// Refuses sessions that begin faster than a rate, with 429 and `Retry-After`.
///
/// Belongs inside of a [`WsStreamLayer`](crate::WsStreamLayer), which clones its
/// inner service for each session: tower's own `rate_limit` is no `Clone`, and makes
/// its callers wait where this refuses. Windows are fixed, as tower's: the
/// first session after the end of a window begins the next one. What is refused does
/// not count; what the inner service refuses does, so that `load_shed` belongs outside
/// of this layer.
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
#[derive(Clone)]
pub struct SessionRateLimitLayer {
    rate: Arc<Rate>,
}

impl SessionRateLimitLayer {
    /// Lets at most so many sessions begin in each window of `per`.
    ///
    /// With no sessions it refuses every one, else with a `per` of zero none. A
    /// `per` of [`Duration::MAX`] is a window without end.
    pub fn new(sessions: u64, per: Duration) -> Self {
        Self {
            rate: Arc::new(Rate {
                sessions,
                per,
                window: Mutex::default(),
            }),
        }
    }
}

impl<S> Layer<S> for SessionRateLimitLayer {
    type Service = SessionRateLimit<S>;

    fn layer(&self, inner: S) -> Self::Service {
        SessionRateLimit {
            inner,
            rate: Arc::clone(&self.rate),
        }
    }
}

impl fmt::Debug for SessionRateLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rate
            .fields(&mut f.debug_struct("SessionRateLimitLayer"))
    }
}

/// The service that [`SessionRateLimitLayer`] makes.
///
/// Its readiness is that of the inner service; a refusal is the error of its future.
#[derive(Clone)]
pub struct SessionRateLimit<S> {
    inner: S,
    rate: Arc<Rate>,
}

impl<S> SessionRateLimit<S> {
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

impl<S, R> Service<R> for SessionRateLimit<S>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = SessionRateLimitFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // Not pending while the rate is used up: the caller would wait for the
        // accept timeout and be told nothing of when to come back.
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let kind = match self.rate.admit(Instant::now()) {
            Ok(()) => Kind::Admitted {
                future: self.inner.call(request),
            },
            Err(left) => Kind::Refused {
                rejection: Some(Rejection::rate_limited(left)),
            },
        };
        SessionRateLimitFuture { kind }
    }
}

impl<S> fmt::Debug for SessionRateLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rate.fields(&mut f.debug_struct("SessionRateLimit"))
    }
}

pin_project! {
    /// The session of a [`SessionRateLimit`], or its refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct SessionRateLimitFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F> {
        Admitted { #[pin] future: F },
        Refused { rejection: Option<Rejection> },
    }
}

impl<F, T, E> Future for SessionRateLimitFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProj::Admitted { future } => future.poll(cx).map_err(Into::into),
            KindProj::Refused { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(rejection.into())),
                None => panic!("polled after it was ready"),
            },
        }
    }
}

impl<F> fmt::Debug for SessionRateLimitFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionRateLimitFuture")
            .finish_non_exhaustive()
    }
}

/// What all clones share.
struct Rate {
    sessions: u64,
    per: Duration,
    window: Mutex<Option<Window>>,
}

/// A window knows its beginning and not its end: that may lie beyond what an
/// [`Instant`] can say.
struct Window {
    began: Instant,
    admitted: u64,
}

impl Rate {
    /// Counts a session, or says how much of the window is left.
    fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        // `now` was read before the lock: another caller's may be later.
        let elapsed = |window: &Window| now.saturating_duration_since(window.began);
        let window = match &mut *window {
            Some(window) if elapsed(window) < self.per => window,
            over => over.insert(Window {
                began: now,
                admitted: 0,
            }),
        };
        if window.admitted < self.sessions {
            window.admitted += 1;
            Ok(())
        } else {
            Err(self.per.saturating_sub(elapsed(window)))
        }
    }

    fn fields(&self, f: &mut fmt::DebugStruct<'_, '_>) -> fmt::Result {
        f.field("sessions", &self.sessions)
            .field("per", &self.per)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, ready};

    use tokio::time::advance;
    use tokio_test::{assert_pending, assert_ready_ok, task};
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::rejection::RejectionKind;

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

    /// What `Retry-After` says, or nothing where the session was let in.
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
        // Another layer counts for itself.
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
        // It was called, and so it counts.
        assert!(service.oneshot(()).await.unwrap_err().is::<Rejection>());
    }
}
