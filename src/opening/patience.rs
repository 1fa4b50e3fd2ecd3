use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    task::{Unconstrained, unconstrained},
    time::{Sleep, sleep},
};

/// The time limit that all stages of an opening share, counted from the first wait.
///
/// An opening that never waits needs no timer.
pub(super) struct Patience {
    accept_timeout: Duration,
    /// Unconstrained: a service that uses up tokio's budget in every poll must not keep its own
    /// deadline from expiring.
    timer: Option<Pin<Box<Unconstrained<Sleep>>>>,
}

impl Patience {
    pub(super) fn new(accept_timeout: Duration) -> Self {
        Self {
            accept_timeout,
            timer: None,
        }
    }

    /// Completes when the time has expired.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let accept_timeout = self.accept_timeout;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(unconstrained(sleep(accept_timeout))));
        timer.as_mut().poll(cx)
    }
}
