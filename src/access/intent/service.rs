use std::{
    fmt,
    task::{Context, Poll},
};

use http::Request;
use tower_service::Service;

use super::UpgradeIntent;

/// The service of an [`UpgradeIntentLayer`](super::UpgradeIntentLayer).
#[derive(Clone, Copy)]
pub struct UpgradeIntentService<S> {
    inner: S,
}

impl<S> UpgradeIntentService<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner }
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

impl<S, B> Service<Request<B>> for UpgradeIntentService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let intent = UpgradeIntent::from_request(&request);
        request.extensions_mut().insert(intent);
        self.inner.call(request)
    }
}

impl<S> fmt::Debug for UpgradeIntentService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpgradeIntentService")
            .finish_non_exhaustive()
    }
}
