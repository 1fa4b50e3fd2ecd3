//! The events of a session that its handles can wait for.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::error::EndCause;

/// The events that have occurred in a session. None is ever undone.
///
/// The flags are `Relaxed`, because none of them says anything about other memory. A waiting task
/// cannot miss one either, because `Notify` orders the two sides: a waiter that was created before
/// a notification is woken by it, and one that is created later sees the store that preceded the
/// notification.
#[derive(Default)]
pub(super) struct Progress {
    cause: OnceLock<EndCause>,
    /// Set once the service wants the upgrade to be accepted.
    accepting: AtomicBool,
    accepted: AtomicBool,
    /// Set once the session's `Sessions` refuses new sessions.
    draining: AtomicBool,
    /// Set if the session was aborted at the deadline of a drain. Only the session's task sets and
    /// reads this.
    cut: AtomicBool,
    changed: Notify,
}

impl Progress {
    /// Sets the cause of the end, unless there already is one.
    pub(super) fn set_cause(&self, cause: &EndCause) {
        if self.cause.set(cause.clone()).is_ok() {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn cause(&self) -> Option<&EndCause> {
        self.cause.get()
    }

    /// Records that the service accepts. The caller has to wake the session's task, which sees this
    /// because it reads the flag after the wake-up.
    pub(super) fn set_accepting(&self) {
        self.accepting.store(true, Relaxed);
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting.load(Relaxed)
    }

    pub(super) fn set_accepted(&self) {
        self.accepted.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    pub(super) fn is_accepted(&self) -> bool {
        self.accepted.load(Relaxed)
    }

    pub(super) fn set_draining(&self) {
        self.draining.store(true, Relaxed);
        self.changed.notify_waiters();
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    pub(super) fn set_cut(&self) {
        self.cut.store(true, Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Relaxed)
    }

    /// Waits until `find` returns `Some`.
    pub(super) async fn wait<T>(&self, find: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            // Created before the check, so that no change in between is missed.
            let changed = self.changed.notified();
            if let Some(found) = find(self) {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_test::{assert_pending, assert_ready, assert_ready_eq, task::spawn};

    use super::*;

    #[test]
    fn a_waiter_is_woken_by_each_event_and_sees_it() {
        let progress = Progress::default();
        let mut accepted = spawn(progress.wait(|it| it.is_accepted().then_some(())));
        let mut draining = spawn(progress.wait(|it| it.is_draining().then_some(())));
        let mut ended = spawn(progress.wait(|it| it.cause().cloned()));
        assert_pending!(accepted.poll());
        assert_pending!(draining.poll());
        assert_pending!(ended.poll());

        progress.set_accepted();
        assert!(accepted.is_woken() && draining.is_woken() && ended.is_woken());
        assert_ready!(accepted.poll());
        assert_pending!(draining.poll());
        assert_pending!(ended.poll());

        progress.set_draining();
        assert!(draining.is_woken() && ended.is_woken());
        assert_ready!(draining.poll());
        assert_pending!(ended.poll());

        progress.set_cause(&EndCause::Drained);
        assert!(ended.is_woken());
        assert_ready_eq!(ended.poll(), EndCause::Drained);
    }

    #[test]
    fn an_event_before_the_first_poll_is_not_missed() {
        let progress = Progress::default();
        progress.set_accepted();
        let mut accepted = spawn(progress.wait(|it| it.is_accepted().then_some(())));
        assert_ready!(accepted.poll());
    }

    #[test]
    fn the_first_cause_stays() {
        let progress = Progress::default();
        progress.set_cause(&EndCause::Drained);
        progress.set_cause(&EndCause::Completed);
        assert_eq!(progress.cause(), Some(&EndCause::Drained));
    }
}
