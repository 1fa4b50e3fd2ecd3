//! The attention of the session's task: whether it will look at the queue without being woken.
//!
//! ```text
//!           begin               end, nothing paced
//!   Away ----------> InTurn ------------------------> Away
//!    |                ^  |
//!    | call     begin |  | end, with a timer for the rate
//!    v                |  v
//!   Expected ---------'  Expected
//! ```
//!
//! A turn writes out when it ends, so output that was written during it needs no wake-up. Between
//! two turns, the first writer that leaves work behind wakes the task, and the other writers rely on
//! that.

/// The state; see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// The task's turn is running. At its end, it writes out and sets its timers.
    InTurn,
    /// The task will run, because it was woken or has a timer for the rate.
    Expected,
    /// The task will not run unless it is woken.
    Away,
}

impl Attention {
    pub(super) fn begin(&mut self) {
        *self = Self::InTurn;
    }

    /// Ends the turn. `timer` is true if the task is about to set a timer for the rate.
    pub(super) fn end(&mut self, timer: bool) {
        *self = if timer { Self::Expected } else { Self::Away };
    }

    /// Requests a turn. Returns whether the task has to be woken for it.
    #[must_use = "the task does not run unless it is woken"]
    pub(super) fn call(&mut self) -> bool {
        match self {
            Self::InTurn | Self::Expected => false,
            Self::Away => {
                *self = Self::Expected;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Attention::*, *};

    /// Returns the next state, and whether the task is woken.
    fn call(mut attention: Attention) -> (Attention, bool) {
        let woken = attention.call();
        (attention, woken)
    }

    #[test]
    fn only_a_task_that_would_not_run_is_woken_and_only_once() {
        assert_eq!(call(Away), (Expected, true));
        assert_eq!(call(Expected), (Expected, false));
        assert_eq!(call(InTurn), (InTurn, false));
    }

    #[test]
    fn a_turn_forgets_how_it_came_about() {
        for before in [InTurn, Expected, Away] {
            let mut attention = before;
            attention.begin();
            assert_eq!(attention, InTurn);
        }
    }

    #[test]
    fn behind_a_turn_only_a_timer_makes_the_next_one_certain() {
        for before in [InTurn, Expected, Away] {
            let mut attention = before;
            attention.end(false);
            assert_eq!(attention, Away);
            attention.end(true);
            assert_eq!(attention, Expected);
        }
    }
}
