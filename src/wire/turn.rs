//! The turns of a session's task: the parts of it that have to run, and whether it is running.
//!
//! One task polls the session's driver, and then the service's future. Both are woken through a
//! [`Turn`]. A wake-up that arrives during a turn only sets a bit, because the turn checks the bits
//! before it ends. This saves a trip through the scheduler for every message that the service
//! answers.
//!
//! A `Turn` is an allocation of its own. The pipes and the write queue store the service's wakers,
//! so there would be a reference cycle if these wakers owned the pipes and the queue.

#[cfg(all(test, wsstream_loom))]
mod tests;

use std::{
    sync::{Arc, atomic::Ordering},
    task::{Wake, Waker},
};

use atomic_waker::AtomicWaker;

use super::sync::AtomicU8;

/// Set while the task's turn is running.
const RUNNING: u8 = 1;
/// Set if the driver is due: because of the socket, a timer, room, or a command.
const DRIVER: u8 = 1 << 1;
/// Set if the service's future was woken.
const SERVICE: u8 = 1 << 2;

/// The parts of a session's task that are due, and the waker of the task.
///
/// Its own [`Wake`] makes the driver due, for the socket, the timers and the upgrade.
#[derive(Debug)]
pub(crate) struct Turn {
    bits: AtomicU8,
    task: AtomicWaker,
}

impl Turn {
    /// Creates a turn in which both parts are due, because neither has been polled yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            bits: AtomicU8::new(DRIVER | SERVICE),
            task: AtomicWaker::new(),
        })
    }

    /// Registers the task's waker.
    ///
    /// Call this in every poll, before [`Turn::begin`]: `AtomicWaker::wake` takes the waker out, so
    /// that each registration is good for one wake-up.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Begins a turn, and returns whether the driver is due. Until [`Turn::end`], wake-ups only set
    /// bits.
    pub(crate) fn begin(&self) -> bool {
        // Acquire: everything that was written before a wake-up set the bit is visible to this
        // turn. There is nothing to publish with Release here, but wake-ups only check the bit to
        // decide whether to wake, so AcqRel costs nothing.
        self.bits.fetch_or(RUNNING, Ordering::AcqRel);
        self.bits.fetch_and(!DRIVER, Ordering::AcqRel) & DRIVER != 0
    }

    /// Returns whether the service is due, and clears this until it is woken again.
    pub(crate) fn take_service(&self) -> bool {
        self.bits.fetch_and(!SERVICE, Ordering::AcqRel) & SERVICE != 0
    }

    /// Ends the turn, unless a part of the task has become due in the meantime. Returns whether the
    /// turn has ended.
    pub(crate) fn end(&self) -> bool {
        // Release: a wake-up that finds the task not running sees everything that the turn did.
        // Acquire on failure: as in `begin`.
        self.bits
            .compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Acquire)
            .is_ok()
    }

    /// Ends the turn, even if a part of the task is due. The caller has to wake the task itself.
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
        // Release: see `begin`. Acquire orders the wake-up after a turn that has just ended.
        let before = self.bits.fetch_or(bit, Ordering::AcqRel);
        // If the bit was already set, the task was woken before and has not begun a turn since.
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
