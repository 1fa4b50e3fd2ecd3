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
}

impl TotalReserve {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicUsize::new(bytes),
        })
    }

    fn take(&self, bytes: usize) -> bool {
        take(&self.left, bytes)
    }

    fn give_back(&self, bytes: usize) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

fn take(left: &AtomicUsize, bytes: usize) -> bool {
    let less = |left: usize| left.checked_sub(bytes);
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

    /// Takes this many bytes, or none. Returns whether it took them.
    pub(crate) fn take(&self, bytes: usize) -> bool {
        if !take(&self.left, bytes) {
            return false;
        }
        let granted = self.total.take(bytes);
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
