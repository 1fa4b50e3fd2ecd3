use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Tap;
use crate::channel::ChannelSet;

/// Records the sessions for which a function gives it a [`Tap`].
///
/// The function is called once for each session, before the service is, with all
/// that there is to decide on: the subprotocol, the head of the request with what
/// outer layers have put into its extensions, and the session, whose
/// [`id`](crate::Session::id) is what the logs show. It runs in the session's call: a
/// panic in it is answered with 500, like one of the service. It must not block.
///
/// See the [module](super) for what is recorded, and for examples.
#[derive(Clone, Copy)]
pub struct TapLayer<F> {
    which: F,
}

impl<F> TapLayer<F>
where
    F: Fn(&ChannelSet) -> Option<Tap>,
{
    /// Records what `which` has a tap for.
    pub fn new(which: F) -> Self {
        Self { which }
    }
}

impl<S, F: Clone> Layer<S> for TapLayer<F> {
    type Service = TapService<S, F>;

    fn layer(&self, inner: S) -> Self::Service {
        TapService {
            inner,
            which: self.which.clone(),
        }
    }
}

/// Without the function.
impl<F> fmt::Debug for TapLayer<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapLayer").finish_non_exhaustive()
    }
}

/// The service that [`TapLayer`] makes.
///
/// Its readiness is that of the inner service, and so is what comes of a session.
#[derive(Clone, Copy)]
pub struct TapService<S, F> {
    inner: S,
    which: F,
}

impl<S, F> TapService<S, F> {
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

impl<S, F> Service<ChannelSet> for TapService<S, F>
where
    S: Service<ChannelSet>,
    F: Fn(&ChannelSet) -> Option<Tap>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = TapFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut channels: ChannelSet) -> Self::Future {
        if let Some(tap) = (self.which)(&channels) {
            tap.attach(&mut channels);
        }
        TapFuture {
            future: self.inner.call(channels),
        }
    }
}

impl<S, F> fmt::Debug for TapService<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapService").finish_non_exhaustive()
    }
}

pin_project! {
    /// A session of a [`TapService`].
    #[must_use = "futures do nothing unless polled"]
    pub struct TapFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for TapFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<F> fmt::Debug for TapFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapFuture").finish_non_exhaustive()
    }
}
