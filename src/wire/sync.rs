//! The locks and atomics whose interleavings loom tests, in builds with `--cfg wsstream_loom`.

#[cfg(not(all(test, wsstream_loom)))]
pub(super) use std::sync::{Mutex, MutexGuard, atomic::AtomicU8};

#[cfg(all(test, wsstream_loom))]
pub(super) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU8};
