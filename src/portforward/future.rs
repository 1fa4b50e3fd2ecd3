use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tower_service::Service;

#[cfg(feature = "spdy")]
use super::tunnel::Tunnel;
use super::{forwarding::Forwarding, port::ForwardedPort};
use crate::{BoxError, Rejection};

/// The future of a [`PortForward`](super::PortForward), which runs all ports of one session.
///
/// Dropping it drops the futures of all ports.
#[must_use = "futures do nothing unless polled"]
pub struct PortForwardFuture<S, F> {
    kind: Kind<S, F>,
}

enum Kind<S, F> {
    Refused(Option<Rejection>),
    Forwarding(Forwarding<S, F>),
    #[cfg(feature = "spdy")]
    Tunnel(Tunnel<S, F>),
}

impl<S, F> PortForwardFuture<S, F> {
    pub(super) fn refused(rejection: Rejection) -> Self {
        Self {
            kind: Kind::Refused(Some(rejection)),
        }
    }

    pub(super) fn forwarding(session: Forwarding<S, F>) -> Self {
        Self {
            kind: Kind::Forwarding(session),
        }
    }

    #[cfg(feature = "spdy")]
    pub(super) fn tunnel(session: Tunnel<S, F>) -> Self {
        Self {
            kind: Kind::Tunnel(session),
        }
    }
}

// The futures that must not move are boxed.
impl<S, F> Unpin for PortForwardFuture<S, F> {}

impl<S> Future for PortForwardFuture<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()> + Clone,
    S::Error: Into<BoxError>,
{
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.kind {
            Kind::Refused(rejection) => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(rejection.into())),
                None => panic!("polled after it was ready"),
            },
            Kind::Forwarding(forwarding) => forwarding.poll(cx),
            #[cfg(feature = "spdy")]
            Kind::Tunnel(tunnel) => tunnel.poll(cx),
        }
    }
}

impl<S, F> fmt::Debug for PortForwardFuture<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortForwardFuture").finish_non_exhaustive()
    }
}
