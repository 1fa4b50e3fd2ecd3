use std::{
    pin::{Pin, pin},
    task::{Context, Waker},
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

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

    /// Whether it stands for the next deadline. When it fires it wakes the driver.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }

    pub(super) fn has_fired(&self) -> bool {
        self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed())
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
        // Whatever the turn has used up of tokio's budget: without any left the
        // poll would leave no waker, and nobody would ask again.
        let sleep = pin!(unconstrained(sleep.as_mut()));
        if sleep.poll(&mut Context::from_waker(waker)).is_ready() {
            waker.wake_by_ref();
        }
    }
}
