//! One call of the service, for one port: it contains panics, and drops what is done.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tower_service::Service;

use super::{failure::Failure, port::ForwardedPort};
use crate::{
    BoxError,
    unwind::{Quiet, catch, drop_quietly},
};

/// The name in the log of a value that panics while it is dropped.
pub(super) const PORT_SERVICE: &str = "the service of a port";
const PORT: &str = "the request of a port";

/// The call of the service for one port, from its readiness on.
pub(super) enum Call<S, F> {
    /// Each is dropped on its own: two panics in one drop would abort the process.
    Waiting {
        service: Quiet<S>,
        port: Quiet<ForwardedPort>,
    },
    Running(Pin<Box<F>>),
    Ended,
}

impl<S, F> Call<S, F> {
    /// Creates a call that waits for the readiness of the service.
    pub(super) fn new(service: S, port: ForwardedPort) -> Self {
        Self::Waiting {
            service: Quiet::new(service, PORT_SERVICE),
            port: Quiet::new(port, PORT),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self, Self::Ended)
    }
}

impl<S> Call<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()>,
    S::Error: Into<BoxError>,
{
    /// Polls the service. Its future has been dropped when this returns its result, so that data
    /// which it writes in its drop goes before everything that is said about its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let result = ready!(self.step(cx));
        let ended = mem::replace(self, Self::Ended);
        drop_quietly(ended, PORT_SERVICE);
        Poll::Ready(result)
    }

    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if let Self::Waiting { service, .. } = self {
            ready!(guarded(|| service
                .get_mut()
                .poll_ready(cx)
                .map_err(Into::into)))?;
            *self = match mem::replace(self, Self::Ended) {
                Self::Waiting { mut service, port } => {
                    let port = port.into_inner();
                    let called = guarded(|| Poll::Ready(Ok(service.get_mut().call(port))));
                    drop(service);
                    Self::Running(Box::pin(ready!(called)?))
                }
                other => other,
            };
        }
        match self {
            Self::Running(future) => guarded(|| future.as_mut().poll(cx).map_err(Into::into)),
            // A late wake-up.
            Self::Waiting { .. } | Self::Ended => Poll::Pending,
        }
    }
}

/// Runs a step of the service. A panic in it is a failure of this port alone.
fn guarded<T>(step: impl FnOnce() -> Poll<Result<T, BoxError>>) -> Poll<Result<T, Failure>> {
    match catch(step) {
        Ok(poll) => poll.map_err(Failure::Error),
        Err(_) => Poll::Ready(Err(Failure::Panicked)),
    }
}
