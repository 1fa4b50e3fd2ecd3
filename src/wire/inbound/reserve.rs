//! The memory that stalled channels may use beyond their windows, so that the session can continue to
//! read. Each session has a share, out of a total for all sessions.
//!
//! A loan cannot be taken back, because no byte is dropped. So no session gets more than an eighth
//! of what the others have left: however many sessions take as much as they can, and in whatever order,
//! seven eighths of what was left stay after each. With `n` sessions that have something, at least
//! `(7/8)ⁿ` of the total is left, and a session that has nothing can have an eighth of that.
//!
//! The proof takes the sessions by the time of their last loan. When session `j` took its last, `7 h(j)`
//! were left, where `h(j)` is what it then had. The sessions before it have no more now than they had
//! then. So `7 h(j)` is at most the total without what these and `j` have now, which says that `j` took at
//! most an eighth of what the sessions before it had left.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The total reserve, which many sessions share.
///
/// All accesses are Relaxed, because the counters guard no other memory.
#[derive(Debug)]
pub(crate) struct TotalReserve {
    left: AtomicUsize,
    /// The number of bytes that there are while none are lent.
    #[cfg(feature = "spdy")]
    whole: usize,
}

impl TotalReserve {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
            #[cfg(feature = "spdy")]
            whole: bytes,
        })
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The part of what the other sessions have left that one session may have: an eighth.
const PART: usize = 8;

/// Takes this many bytes, if `kept` are left after that.
fn take(left: &AtomicUsize, bytes: usize, kept: usize) -> bool {
    let less = |left: usize| left.checked_sub(bytes).filter(|&left| left >= kept);
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
        .is_ok()
}

/// The share of one session. Dropping it gives back everything that the session still has.
#[derive(Debug)]
pub(crate) struct StallReserve {
    share: usize,
    left: AtomicUsize,
    total: Arc<TotalReserve>,
}

impl StallReserve {
    pub(crate) fn new(share: usize, total: &Arc<TotalReserve>) -> Self {
        Self {
            share,
            left: AtomicUsize::new(share),
            total: Arc::clone(total),
        }
    }

    /// Takes this many bytes, or none, for a channel at which reading has paused for a while. Returns
    /// whether it took them.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        self.take_above(0, bytes)
    }

    /// Does what [`take`](Self::take) does for a connection to a port, of which one client may have many.
    ///
    /// A quarter of the total is never lent to connections. It is left to channels, whose clients
    /// give up in a pause.
    #[cfg(feature = "spdy")]
    pub(crate) fn take_for_connection(&self, bytes: usize) -> bool {
        self.take_above(self.total.whole / 4, bytes)
    }

    /// Takes this many bytes, or none, so that reading does not pause at a connection to a port. Returns
    /// whether it took them.
    ///
    /// This leaves half of the total to pauses.
    #[cfg(feature = "spdy")]
    pub(crate) fn take_at_once(&self, bytes: usize) -> bool {
        self.take_above(self.total.whole / 2, bytes)
    }

    /// Takes this many bytes, or none, if this session then has at most [an eighth](PART) of what the
    /// others have left above `floor`.
    fn take_above(&self, floor: usize, bytes: usize) -> bool {
        if !take(&self.left, bytes, 0) {
            return false;
        }
        let lent = self.share - self.left.load(Ordering::Relaxed);
        let kept = floor.saturating_add(lent.saturating_mul(PART - 1));
        let granted = take(&self.total.left, bytes, kept);
        if !granted {
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
        granted
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
        self.total.give_back(bytes);
    }
}

impl Drop for StallReserve {
    fn drop(&mut self) {
        self.total.give_back(self.share - *self.left.get_mut());
    }
}

#[cfg(test)]
mod tests;
