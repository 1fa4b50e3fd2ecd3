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
        self.take_and_leave(bytes, |_| 0)
    }

    /// Does what [`take`](Self::take) does for a connection to a port, of which one client may have many.
    ///
    /// A quarter of the total is never lent to connections. It is left to channels, whose clients
    /// give up in a pause.
    #[cfg(feature = "spdy")]
    pub(crate) fn take_for_connection(&self, bytes: usize) -> bool {
        self.take_and_leave(bytes, |_| self.total.whole / 4)
    }

    /// Takes this many bytes, or none, so that reading does not pause at a connection to a port. Returns
    /// whether it took them.
    ///
    /// This leaves half of the total to pauses. Of the other half, a session gets an eighth of what
    /// the other sessions have left, so that a few of them cannot keep all of it in use.
    #[cfg(feature = "spdy")]
    pub(crate) fn take_at_once(&self, bytes: usize) -> bool {
        self.take_and_leave(bytes, |lent| {
            (self.total.whole / 2).saturating_add(lent.saturating_mul(7))
        })
    }

    /// Takes this many bytes, or none, if the total has as much left after that as `kept` says for
    /// the number of bytes that this session then has.
    fn take_and_leave(&self, bytes: usize, kept: impl FnOnce(usize) -> usize) -> bool {
        if !take(&self.left, bytes, 0) {
            return false;
        }
        let lent = self.share - self.left.load(Ordering::Relaxed);
        let granted = take(&self.total.left, bytes, kept(lent));
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
    fn a_session_gets_an_eighth_of_what_is_left_of_half_at_once() {
        let total = TotalReserve::new(2 * 800);
        let sessions: Vec<_> = (0..50).map(|_| StallReserve::new(1600, &total)).collect();
        let most = |session: &StallReserve| (0..).take_while(|_| session.take_at_once(1)).count();
        assert_eq!(most(&sessions[0]), 100);
        assert_eq!(most(&sessions[1]), 700 / 8);
        let all: usize = sessions[2..].iter().map(most).sum();
        assert!((600..800).contains(&(187 + all)), "{all}");
        assert_eq!(most(&sessions[0]), 0, "it has more than the others");
        sessions[0].give_back(100);
        assert!(
            (13..100).contains(&most(&sessions[0])),
            "it gets some again"
        );
        drop(sessions);
        assert!(StallReserve::new(1600, &total).take(1600), "all is back");
    }

    #[cfg(feature = "spdy")]
    #[test]
    fn a_quarter_of_the_total_is_not_lent_to_connections() {
        let total = TotalReserve::new(100);
        let (one, other) = (
            StallReserve::new(100, &total),
            StallReserve::new(100, &total),
        );
        assert!(one.take_for_connection(75) && !one.take_for_connection(1));
        assert!(!other.take_for_connection(1) && !other.take_at_once(1));
        assert!(other.take(25));
        one.give_back(20);
        assert!(!one.take_for_connection(1), "the quarter is in use");
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
