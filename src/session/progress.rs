//! The events that holders of a session's handle wait for.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use tokio::sync::Notify;

use crate::error::EndCause;

/// How far a session has come. Nothing in here is ever taken back.
///
/// The flags are `Relaxed`: none of them says anything about other memory. A task that waits
/// cannot miss one either, because `Notify` orders the two sides. A waiter that was created
/// before a notification is woken by it, and one that is created later sees the store in front
/// of that notification.
#[derive(Default)]
pub(super) struct Progress {
    cause: OnceLock<EndCause>,
    /// The service wants the upgrade to be accepted.
    accepting: AtomicBool,
    accepted: AtomicBool,
    /// Its `Sessions` refuses new sessions.
    draining: AtomicBool,
    /// It was aborted at the deadline of a drain. Set and read by the session's task alone.
    cut: AtomicBool,
    changed: Notify,
}

impl Progress {
    /// Sets the cause of the end, unless there is one.
    pub(super) fn set_cause(&self, cause: &EndCause) {
        if self.cause.set(cause.clone()).is_ok() {
            self.changed.notify_waiters();
        }
    }

    pub(super) fn cause(&self) -> Option<&EndCause> {
        self.cause.get()
    }

    /// Records that the service accepts. The caller wakes the session's task, which reads this
    /// after the wake-up and so sees it.
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

    /// Waits until `find` finds something.
    pub(super) async fn wait<T>(&self, find: impl Fn(&Self) -> Option<T>) -> T {
        loop {
            // Created before the look, so that no change falls between.
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
