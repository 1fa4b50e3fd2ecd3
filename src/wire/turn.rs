//! Who has to run, and whether they run already.
//!
//! One task drives a session: its driver, then the service's future. Both are
//! woken through a [`Turn`]. A wake that arrives while the task runs sets a
//! bit and wakes nothing, because the turn looks at the bits before it ends;
//! that saves a trip through the scheduler for every message that the service
//! answers.
//!
//! A `Turn` is an allocation of its own: wakers of the service lie in the
//! pipes and in the write queue, so if they owned those it would be a cycle.

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

/// The task is inside its turn.
const RUNNING: u8 = 1;
/// The driver has something to do: the socket, a timer, room, a command.
const DRIVER: u8 = 1 << 1;
/// The service's future was woken.
const SERVICE: u8 = 1 << 2;

/// Bits of who is due, and the task that runs them.
#[derive(Debug)]
pub(crate) struct Turn {
    bits: AtomicU8,
    task: AtomicWaker,
}

impl Turn {
    /// A turn in which both are due, as for anything not polled before.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            bits: AtomicU8::new(DRIVER | SERVICE),
            task: AtomicWaker::new(),
        })
    }

    /// Makes `waker` the task to wake. To be called at every poll, before
    /// [`Turn::begin`]: `AtomicWaker::wake` takes the waker out, so one that
    /// was registered once is woken once.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.register(waker);
    }

    /// Starts a round: from here to [`Turn::end`] wakes only set bits. Tells
    /// whether the driver is due.
    pub(crate) fn begin(&self) -> bool {
        // Acquire: what the waker wrote before it set the bit is visible to
        // this round. Release has nothing to publish here, but the bit is
        // read by wakers only to decide on waking, so AcqRel costs nothing.
        self.bits.fetch_or(RUNNING, Ordering::AcqRel);
        self.bits.fetch_and(!DRIVER, Ordering::AcqRel) & DRIVER != 0
    }

    /// Whether the service is due; from now on it is not, until woken again.
    pub(crate) fn take_service(&self) -> bool {
        self.bits.fetch_and(!SERVICE, Ordering::AcqRel) & SERVICE != 0
    }

    /// Ends the turn, unless somebody became due meanwhile.
    pub(crate) fn end(&self) -> bool {
        // Release: whoever sees the task as not running sees all that the
        // turn did. Acquire on failure: as in `begin`.
        self.bits
            .compare_exchange(RUNNING, 0, Ordering::Release, Ordering::Acquire)
            .is_ok()
    }

    /// Ends the turn whatever is due: the caller wakes its task itself.
    pub(crate) fn pass(&self) {
        self.bits.fetch_and(!RUNNING, Ordering::Release);
    }

    /// Makes the driver due, and wakes the task unless it runs.
    pub(crate) fn wake_driver(&self) {
        self.set(DRIVER);
    }

    /// Makes the service due.
    pub(crate) fn wake_service(&self) {
        self.set(SERVICE);
    }

    fn set(&self, bit: u8) {
        // Release: see `begin`. Acquire orders the waking after a turn that
        // has just ended.
        let before = self.bits.fetch_or(bit, Ordering::AcqRel);
        // With the bit set before, somebody woke the task already and it has
        // not begun since.
        if before & (RUNNING | bit) == 0 {
            self.task.wake();
        }
    }

    /// The waker for the socket, the timers and the upgrade.
    pub(crate) fn driver_waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(WakeDriver(Arc::clone(self))))
    }

    /// The waker for the service's future.
    pub(crate) fn service_waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::new(WakeService(Arc::clone(self))))
    }
}

struct WakeDriver(Arc<Turn>);

impl Wake for WakeDriver {
    fn wake(self: Arc<Self>) {
        self.0.set(DRIVER);
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.0.set(DRIVER);
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
