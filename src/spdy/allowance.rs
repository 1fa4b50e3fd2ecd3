//! A budget for behaviour that costs this end something and moves no data.
//!
//! A little of it is normal, and a lot of it is an attack. The budget is a count that is refilled
//! with time. The clock is read only once the count is used up.

use std::time::Duration;

use tokio::time::Instant;

/// The budget; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    /// The most that is ever left.
    burst: u32,
    /// The amount that is added each second.
    rate: u32,
    /// The instant up to which the budget was refilled.
    filled: Instant,
}

impl Allowance {
    /// Creates a full budget. The rate is not 0.
    pub(crate) fn new(burst: u32, rate: u32, now: Instant) -> Self {
        Self {
            left: burst,
            burst,
            rate,
            filled: now,
        }
    }

    /// Takes one unit. Returns `false` if there is none.
    #[inline]
    pub(crate) fn spend(&mut self, now: impl FnOnce() -> Instant) -> bool {
        if self.left == 0 {
            self.refill(now());
        }
        let spent = self.left > 0;
        self.left -= u32::from(spent);
        spent
    }

    #[cold]
    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        // Whole units only: the rest of the time counts the next time.
        let units = passed.as_millis() * u128::from(self.rate) / 1000;
        if units >= u128::from(self.burst) {
            self.left = self.burst;
            self.filled = now;
            return;
        }
        // Smaller than the burst, which is a `u32`.
        self.left = units as u32;
        self.filled += Duration::from_secs(1) * self.left / self.rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns how many of `tries` units there are at this instant.
    fn spend(allowance: &mut Allowance, tries: u32, now: Instant) -> u32 {
        (0..tries).map(|_| u32::from(allowance.spend(|| now))).sum()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut allowance = Allowance::new(100, 20, start);
        assert_eq!(spend(&mut allowance, 101, start), 100);
        assert_eq!(spend(&mut allowance, 9, at(49)), 0);
        assert_eq!(spend(&mut allowance, 9, at(50)), 1);
        // The time of a unit that was not spent is not lost, in steps of any size.
        assert_eq!(spend(&mut allowance, 9, at(90)), 0);
        assert_eq!(spend(&mut allowance, 9, at(110)), 1);
        assert_eq!(spend(&mut allowance, 99, at(1_000)), 18);
    }

    #[test]
    fn a_long_pause_fills_it_and_no_more() {
        let start = Instant::now();
        let mut allowance = Allowance::new(100, 20, start);
        assert_eq!(spend(&mut allowance, 100, start), 100);
        let late = start + Duration::from_secs(3_600);
        assert_eq!(spend(&mut allowance, 1_000, late), 100);
    }

    #[test]
    fn the_clock_is_read_only_when_it_is_used_up() {
        let mut allowance = Allowance::new(2, 1, Instant::now());
        let no_clock = || -> Instant { unreachable!() };
        assert!(allowance.spend(no_clock) && allowance.spend(no_clock));
    }
}
