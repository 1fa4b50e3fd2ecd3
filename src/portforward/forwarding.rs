//! A session whose ports are those of its request, each with a pair of channels.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{
    call::PORT_SERVICE,
    due::{Due, Order},
    pair::Pair,
    port::ForwardedPort,
};
use crate::{BoxError, unwind::drop_quietly};

/// The ports of a session, which run concurrently.
pub(super) struct Forwarding<S, F> {
    pairs: Vec<Pair<S, F>>,
    due: Arc<Due>,
    /// The number of ports that have not ended.
    open: usize,
    order: Order,
    greeted: bool,
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

impl<S> Forwarding<S, S::Future>
where
    S: Service<ForwardedPort, Response = ()>,
    S::Error: Into<BoxError>,
{
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
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
