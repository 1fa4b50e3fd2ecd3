//! The ports that are due to be polled, so that a wake-up of one port polls only that port.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use atomic_waker::AtomicWaker;

/// A bit for each port that is due to be polled, and the waker of the task that polls them.
#[derive(Debug)]
pub(super) struct Due {
    bits: [AtomicU64; 2],
    task: AtomicWaker,
}

impl Due {
    /// Creates the bits of fewer than 128 ports, all of which are due for their first poll.
    pub(super) fn new(ports: usize) -> Arc<Self> {
        let all = (1_u128 << ports) - 1;
        Arc::new(Self {
            bits: [
                AtomicU64::new(all as u64),
                AtomicU64::new((all >> 64) as u64),
            ],
            task: AtomicWaker::new(),
        })
    }

    /// Registers the waker of the task.
    ///
    /// Call it in every poll, before [`Due::take`]: a port that becomes due between the two calls
    /// then wakes the task.
    pub(super) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Takes the set of ports that are due, one bit each. A port is due again once it is woken.
    pub(super) fn take(&self) -> u128 {
        // Acquire: the poll that follows sees what the caller of the waker has written. Release
        // is not needed, because nothing is published here.
        let [low, high] = [0, 1].map(|at| self.bits[at].swap(0, Ordering::AcqRel));
        u128::from(high) << 64 | u128::from(low)
    }

    /// Makes a port due, for the caller that polls next.
    #[cfg(feature = "spdy")]
    pub(super) fn set(&self, port: usize) {
        // Relaxed: the caller has the task's own turn.
        self.bits[port / 64].fetch_or(1 << (port % 64), Ordering::Relaxed);
    }

    /// Returns the waker of one port.
    pub(super) fn waker(self: &Arc<Self>, port: usize) -> Waker {
        Waker::from(Arc::new(WakePort {
            due: Arc::clone(self),
            port,
        }))
    }
}

/// The order in which due ports are polled.
///
/// It begins with another port in every round, because the first one has all of the budget that
/// tokio gives a task.
#[derive(Debug, Default)]
pub(super) struct Order {
    first: u32,
}

impl Order {
    /// Returns the ports of a set, each once.
    pub(super) fn of(&mut self, due: u128) -> impl Iterator<Item = usize> + use<> {
        let from = self.first;
        let mut due = due.rotate_right(from);
        if due != 0 {
            self.first = (due.trailing_zeros() + from + 1) % u128::BITS;
        }
        std::iter::from_fn(move || {
            let port = (due.trailing_zeros() + from) % u128::BITS;
            let is_some = due != 0;
            due &= due.wrapping_sub(1);
            is_some.then_some(port as usize)
        })
    }
}

struct WakePort {
    due: Arc<Due>,
    port: usize,
}

impl Wake for WakePort {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let bit = 1 << (self.port % 64);
        // Release: see `take`.
        let before = self.due.bits[self.port / 64].fetch_or(bit, Ordering::AcqRel);
        // If the bit was already set, the caller that set it wakes the task, which has not taken
        // the bit since.
        if before & bit == 0 {
            self.due.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn all_are_due_at_first() {
        assert_eq!(Due::new(0).take(), 0);
        assert_eq!(Due::new(1).take(), 1);
        assert_eq!(Due::new(64).take(), u128::from(u64::MAX));
        assert_eq!(Due::new(127).take(), u128::MAX >> 1);
    }

    #[test]
    fn each_due_port_once_and_another_first() {
        let mut order = Order::default();
        let mut polled = |due: u128| order.of(due).collect::<Vec<_>>();
        assert!(polled(0).is_empty());
        let due = 1 | 1 << 5 | 1 << 64 | 1 << 126;
        assert_eq!(polled(due), [0, 5, 64, 126]);
        assert_eq!(polled(due), [5, 64, 126, 0]);
        assert_eq!(polled(due), [64, 126, 0, 5]);
        assert!(polled(0).is_empty());
        assert_eq!(polled(due), [126, 0, 5, 64]);
        assert_eq!(polled(1 << 127), [127]);
        assert_eq!(polled(u128::MAX).len(), 128);
    }

    #[test]
    fn a_wake_makes_one_due_and_wakes_the_task_once() {
        let due = Due::new(127);
        let count = Arc::new(Count(AtomicUsize::new(0)));
        for port in [0, 1, 63, 64, 126] {
            let wakes = || count.0.swap(0, Ordering::Relaxed);
            due.register(&Waker::from(Arc::clone(&count)));
            due.take();
            let waker = due.waker(port);
            waker.wake_by_ref();
            waker.wake_by_ref();
            assert_eq!(wakes(), 1);
            assert_eq!(due.take(), 1 << port);
            // A wake-up between `register` and `take` of one poll, and one after both.
            due.register(&Waker::from(Arc::clone(&count)));
            waker.wake_by_ref();
            assert_eq!((due.take(), wakes()), (1 << port, 1));
            due.register(&Waker::from(Arc::clone(&count)));
            waker.wake();
            assert_eq!(wakes(), 1);
        }
    }
}
