//! The turns of a session's task: which part of it has to run, and whether it is running.
//!
//! One task drives a session: its driver, then the service's future. Both are woken
//! through a [`Turn`]. A wake-up that arrives during a turn sets a bit and wakes
//! nothing, because the turn looks at the bits before it ends. That saves a trip through
//! the scheduler for every message that the service answers.
//!
//! A `Turn` is an allocation of its own: the service's wakers lie in the pipes and in the
//! write queue, so it would be a cycle if they owned these.

#[cfg(all(test, wsstream_loom))]
mod tests;

#[cfg(not(all(test, wsstream_loom)))]
use std::sync::atomic::AtomicU8;
use std::{
    sync::{Arc, atomic::Ordering},
    task::{Wake, Waker},
};

use atomic_waker::AtomicWaker;
#[cfg(all(test, wsstream_loom))]
use loom::sync::atomic::AtomicU8;

/// The task's turn is running.
const RUNNING: u8 = 1;
/// The driver has something to do: the socket, a timer, room, a command.
const DRIVER: u8 = 1 << 1;
/// The service's future was woken.
const SERVICE: u8 = 1 << 2;

/// The parts of a session's task that are due, and the waker of the task.
///
/// As a [`Wake`] it makes the driver due: the waker for the socket, the timers and the
/// upgrade.
#[derive(Debug)]
pub(crate) struct Turn {
    bits: AtomicU8,
    task: AtomicWaker,
}

impl Turn {
    /// Returns a turn in which both are due, since neither was polled before.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            bits: AtomicU8::new(DRIVER | SERVICE),
            task: AtomicWaker::new(),
        })
    }

    /// Registers the task's waker. To be called at every poll, before [`Turn::begin`]:
    /// `AtomicWaker::wake` takes the waker out, so one that was registered once is woken
    /// once.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Begins a turn: until [`Turn::end`] a wake-up only sets bits. Returns whether the
    /// driver is due.
    pub(crate) fn begin(&self) -> bool {
        // Acquire: everything that a waker wrote before it set the bit is visible to this
        // turn. Release has nothing to publish here, but wakers read the bit only to
        // decide on waking, so AcqRel costs nothing.
        self.bits.fetch_or(RUNNING, Ordering::AcqRel);
        self.bits.fetch_and(!DRIVER, Ordering::AcqRel) & DRIVER != 0
    }

    /// Returns whether the service is due. It no longer is from here on, until it is woken
    /// again.
    pub(crate) fn take_service(&self) -> bool {
        self.bits.fetch_and(!SERVICE, Ordering::AcqRel) & SERVICE != 0
    }

    /// Ends the turn, unless a part of the task has become due meanwhile. Returns whether
    /// it has ended.
    pub(crate) fn end(&self) -> bool {
        // Release: a waker that sees the task as not running sees everything that the
        // turn did. Acquire on failure: as in `begin`.
        self.bits
            .compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Acquire)
            .is_ok()
    }

    /// Ends the turn whatever is due. The caller wakes its task itself.
    pub(crate) fn pass(&self) {
        self.bits.fetch_and(!RUNNING, Ordering::Release);
    }

    /// Makes the driver due, and wakes the task unless its turn is running.
    pub(crate) fn wake_driver(&self) {
        self.set(DRIVER);
    }

    /// Makes the service due, and wakes the task unless its turn is running.
    pub(crate) fn wake_service(&self) {
        self.set(SERVICE);
    }

    fn set(&self, bit: u8) {
        // Release: see `begin`. Acquire orders the waking after a turn that
        // has just ended.
        let before = self.bits.fetch_or(bit, Ordering::AcqRel);
        // If the bit was set before, the task was woken already and has not begun a turn
        // since.
        if before & (RUNNING | bit) == 0 {
            self.task.wake();
        }
    }

    /// Returns the waker for the socket, the timers and the upgrade.
    pub(crate) fn driver_waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Returns the waker for the service's future.
    pub(crate) fn service_waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(WakeService(Arc::clone(self))))
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.set(DRIVER);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.set(DRIVER);
    }
}

struct WakeService(Arc<Turn>);

impl Wake for WakeService {
    fn wake(self: Arc<Self>) {
        self.0.set(SERVICE);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.set(SERVICE);
    }
}
