use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

#[cfg(feature = "spdy")]
use super::tunnel::Tunnel;
use super::{
    call::PORT_SERVICE,
    due::{Due, Order},
    pair::Pair,
    port::ForwardedPort,
};
use crate::{BoxError, Rejection, unwind::drop_quietly};

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

/// The ports of a session, which run concurrently.
pub(super) struct Forwarding<S, F> {
    pairs: Vec<Pair<S, F>>,
    due: Arc<Due>,
    /// The number of ports that have not ended.
    open: usize,
    order: Order,
    greeted: bool,
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

impl<S, F> Forwarding<S, F> {
    /// Creates a session for this many ports, without any at first. `due` has a bit for each of them.
    pub(super) fn new(ports: usize, due: &Arc<Due>) -> Self {
        Self {
            pairs: Vec::with_capacity(ports),
            due: Arc::clone(due),
            open: 0,
            order: Order::default(),
            greeted: false,
        }
    }

    /// Adds the next port.
    pub(super) fn push(&mut self, pair: Pair<S, F>) {
        self.pairs.push(pair);
        self.open += 1;
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

impl<S> Forwarding<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()>,
    S::Error: Into<BoxError>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.due.register(cx.waker());
        self.poll_due();
        if !self.greeted {
            if self.open == 0
                && let Some(error) = self.take_refusal()
            {
                return Poll::Ready(Err(error));
            }
            // Nothing is sent until each service has been polled once and, with
            // `AcceptMode::Explicit`, one has accepted: until then they can refuse.
            if self.open > 0 && self.poll_writable(cx).is_pending() {
                return Poll::Pending;
            }
            self.pairs.iter_mut().for_each(Pair::greet);
            self.pairs.iter_mut().for_each(Pair::catch_up);
            self.greeted = true;
        }
        match self.open {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    /// Polls only the ports that were woken.
    fn poll_due(&mut self) {
        for port in self.order.of(self.due.take()) {
            if self.pairs[port].poll() {
                self.open -= 1;
            }
        }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // All ports wait for the same acceptance.
        match self.pairs.first_mut() {
            Some(pair) => pair.poll_writable(cx),
            None => Poll::Ready(()),
        }
    }

    /// Takes the refusal of the first port, if all ports have ended with one.
    fn take_refusal(&mut self) -> Option<BoxError> {
        if self.pairs.iter().all(Pair::has_refused) {
            self.pairs.first_mut()?.take_error()
        } else {
            None
        }
    }
}

impl<S, F> Drop for Forwarding<S, F> {
    fn drop(&mut self) {
        // One at a time, and with each panic contained: a second panic while the first unwinds would
        // abort the process.
        self.pairs
            .drain(..)
            .for_each(|pair| drop_quietly(pair, PORT_SERVICE));
    }
}

impl<S, F> fmt::Debug for PortForwardFuture<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortForwardFuture").finish_non_exhaustive()
    }
}
