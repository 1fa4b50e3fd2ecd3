use std::{
    fmt,
    task::{Context, Poll},
};

use http::Request;
use tower_service::Service;

use super::layer::Policy;

/// The service of [`PolicyLayer`](super::PolicyLayer) and
/// [`IdleTimeoutLayer`](super::IdleTimeoutLayer).
#[derive(Clone, Copy)]
pub struct PolicyService<S, P> {
    inner: S,
    policy: P,
}

impl<S, P> PolicyService<S, P> {
    pub(super) fn new(inner: S, policy: P) -> Self {
        Self { inner, policy }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later requests.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, P, B> Service<Request<B>> for PolicyService<S, P>
where
    S: Service<Request<B>>,
    P: Policy,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(self.policy.clone());
        self.inner.call(request)
    }
}

impl<S, P: fmt::Debug> fmt::Debug for PolicyService<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyService")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
