use std::{
    fmt,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{Tap, TapFuture};
use crate::channel::ChannelSet;

/// The service of a [`TapLayer`](super::TapLayer).
///
/// Its readiness and its results are those of the inner service.
#[derive(Clone, Copy)]
pub struct TapService<S, F> {
    inner: S,
    which: F,
}

impl<S, F> TapService<S, F> {
    pub(super) fn new(inner: S, which: F) -> Self {
        Self { inner, which }
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
        TapFuture::new(self.inner.call(channels))
    }
}

impl<S, F> fmt::Debug for TapService<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapService").finish_non_exhaustive()
    }
}
