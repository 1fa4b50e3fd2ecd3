use std::{
    pin::Pin,
    task::{Context, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// The one timer of a session. It may fire too early, and is then armed again:
/// so a deadline that moves away costs nothing.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The deadline that it was armed for still is the next one, as far as
    /// anybody knows; none is one too.
    current: bool,
}

impl Timer {
    /// A deadline has come that may be sooner than all others.
    pub(super) fn reconsider(&mut self) {
        self.current = false;
    }

    /// Whether nothing is due before the timer wakes the driver.
    pub(super) fn is_armed(&self) -> bool {
        let fired = self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed());
        self.current && !fired
    }

    /// Sees to it that `waker` is woken at the deadline at the latest.
    pub(super) fn arm(&mut self, deadline: Option<Instant>, waker: &Waker) {
        self.current = true;
        let Some(deadline) = deadline else {
            self.sleep = None;
            return;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.is_elapsed() || sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        if sleep
            .as_mut()
            .poll(&mut Context::from_waker(waker))
            .is_ready()
        {
            waker.wake_by_ref();
        }
    }
}
