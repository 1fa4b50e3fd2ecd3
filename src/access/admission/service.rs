use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{AdmissionFuture, SessionPermit};
use crate::{error::BoxError, rejection::Rejection};

/// A rule that decides whether a session may begin.
///
/// This trait is sealed. The rules are [`PerKey`](super::PerKey) and [`Rate`](super::Rate).
pub trait Admit<R>: Rule<R> {}

/// Seals [`Admit`], and keeps its method private.
#[allow(unreachable_pub, reason = "it cannot be named outside of the crate")]
pub trait Rule<R> {
    /// Admits a session, or refuses it. The session holds the permit, if there is one, until its
    /// service is done.
    fn admit(&self, request: &R) -> Result<Option<SessionPermit>, Rejection>;
}

/// The service of [`SessionLimitLayer`](super::SessionLimitLayer) and
/// [`SessionRateLimitLayer`](super::SessionRateLimitLayer).
///
/// Its readiness is that of the inner service. The limit decides in `call`, and a refusal is the
/// error of the future.
///
/// The service never waits for its limit. A client that waited would hear nothing until the accept
/// timeout, and the key of a session is not known before the call.
#[derive(Clone)]
pub struct Admission<S, A> {
    inner: S,
    limit: A,
}

impl<S, A> Admission<S, A> {
    pub(super) fn new(inner: S, limit: A) -> Self {
        Self { inner, limit }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later sessions.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, A, R> Service<R> for Admission<S, A>
where
    S: Service<R>,
    S::Error: Into<BoxError>,
    A: Admit<R>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = AdmissionFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.limit.admit(&request) {
            Ok(permit) => AdmissionFuture::admitted(self.inner.call(request), permit),
            Err(rejection) => AdmissionFuture::refused(rejection),
        }
    }
}

impl<S, A: fmt::Debug> fmt::Debug for Admission<S, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}
