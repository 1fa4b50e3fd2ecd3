//! The memory that stalled channels may use beyond their windows, so that the session can continue to
//! read. Each session has a share, out of a total for all sessions.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The total reserve, which many sessions share on a first come, first served basis.
///
/// All accesses are Relaxed, because the counters guard no other memory.
#[derive(Debug)]
pub(crate) struct TotalReserve {
    left: AtomicUsize,
    /// The part that is not lent [at once](StallReserve::take_at_once).
    #[cfg(feature = "spdy")]
    kept: usize,
}

impl TotalReserve {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
            #[cfg(feature = "spdy")]
            kept: bytes / 2,
        })
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

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
        self.take_and_leave(bytes, 0)
    }

    /// Takes this many bytes, or none, so that reading does not pause. Returns whether it took them.
    ///
    /// Half of the total is left to channels whose clients give up in a pause. Otherwise, a few slow
    /// uploads could keep all of it in use.
    #[cfg(feature = "spdy")]
    pub(crate) fn take_at_once(&self, bytes: usize) -> bool {
        self.take_and_leave(bytes, self.total.kept)
    }

    fn take_and_leave(&self, bytes: usize, kept: usize) -> bool {
        if !take(&self.left, bytes, 0) {
            return false;
        }
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
mod tests {
    use super::*;

    #[test]
    fn a_session_takes_its_share_and_all_of_them_the_total() {
        let total = TotalReserve::new(100);
        let (one, other) = (StallReserve::new(60, &total), StallReserve::new(60, &total));
        assert!(one.take(60));
        assert!(!one.take(1), "its share is taken");
        assert!(!other.take(60), "the total is");
        assert!(other.take(40));
        one.give_back(20);
        assert!(other.take(20));
        assert!(!other.take(1));
    }

    #[cfg(feature = "spdy")]
    #[test]
    fn half_of_the_total_is_not_lent_at_once() {
        let total = TotalReserve::new(100);
        let (one, other) = (
            StallReserve::new(100, &total),
            StallReserve::new(60, &total),
        );
        assert!(!one.take_at_once(51));
        assert!(one.take_at_once(50));
        assert!(!other.take_at_once(1));
        assert!(other.take(50));
        one.give_back(50);
        assert!(!one.take_at_once(1), "the other half is in use");
        drop(other);
        assert!(one.take_at_once(50) && !one.take_at_once(1));
    }

    #[test]
    fn what_a_session_had_goes_back_with_it() {
        let total = TotalReserve::new(100);
        let one = StallReserve::new(100, &total);
        assert!(one.take(70));
        one.give_back(30);
        drop(one);
        assert!(StallReserve::new(100, &total).take(100));
    }

    #[test]
    fn none_is_none() {
        assert!(!StallReserve::new(0, &TotalReserve::new(100)).take(1));
        assert!(!StallReserve::new(100, &TotalReserve::new(0)).take(1));
    }
}
