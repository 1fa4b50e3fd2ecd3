use std::{
    pin::{Pin, pin},
    task::{Context, Waker},
};

use tokio::{
    task::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

/// The one timer of a session.
///
/// A deadline that moves away costs nothing: the timer then fires early, and is armed again.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// The timer fires no later than the earliest deadline, or there is no deadline.
    current: bool,
}

impl Timer {
    /// Notes that a new deadline may be earlier than all others.
    pub(super) fn reconsider(&mut self) {
        self.current = false;
    }

    /// Returns whether the timer fires no later than the next deadline. It wakes the driver then.
    pub(super) fn is_current(&self) -> bool {
        self.current
    }

    pub(super) fn has_fired(&self) -> bool {
        self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed())
    }

    /// Arranges for `waker` to be woken at the deadline or earlier.
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
        // The turn may have used up tokio's budget. Without any budget, the poll would not register
        // the waker, and the wake-up would be lost.
        let sleep = pin!(unconstrained(sleep.as_mut()));
        if sleep.poll(&mut Context::from_waker(waker)).is_ready() {
            waker.wake_by_ref();
        }
    }
}
