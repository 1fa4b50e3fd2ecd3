use std::time::Duration;

use tokio::time::Instant;

use super::timers::{after, time_for};
use crate::protocol::ConfigError;

/// How many bytes a second a session may move, for each direction of its own.
///
/// What kube-apiserver has as `--max-connection-bytes-per-sec`. For
/// [`SessionConfig::byte_rate`](crate::SessionConfig::byte_rate), and as a request
/// extension that goes before it, as a whole: a direction that it does not name has no
/// limit, whatever the layer says. Bytes on the wire count, heads included; outbound
/// those of Pings and Pongs do not. Default: no limit.
///
/// Outbound, data waits in the session's queue, and so in the end the service's writes
/// do; control frames of ours go ahead of it between two frames, so that Pings are
/// answered at once, and cost it nothing, so that a flood of Pings holds no data up.
/// Inbound, the socket is read no faster: what the peer sends waits
/// in its own kernel in the order in which it was sent, its control frames too. That holds
/// while the session is open: input behind our Close is discarded as it comes, because the
/// peer's own Close lies behind it.
///
/// # Examples
///
/// ```
/// use tower_wsstream::policy::ByteRate;
///
/// let rate = ByteRate::default().inbound(1024 * 1024).outbound(8 * 1024 * 1024);
/// # let _ = rate;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByteRate {
    inbound: Option<u64>,
    outbound: Option<u64>,
}

impl ByteRate {
    /// What may come, in bytes a second.
    #[must_use]
    pub fn inbound(mut self, bytes: u64) -> Self {
        self.inbound = Some(bytes);
        self
    }

    /// What may go, in bytes a second.
    #[must_use]
    pub fn outbound(mut self, bytes: u64) -> Self {
        self.outbound = Some(bytes);
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.inbound == Some(0) || self.outbound == Some(0) {
            return Err(ConfigError::new(
                "the rates of ByteRate must be above 0; leave one out for no limit",
            ));
        }
        Ok(())
    }

    /// Returns the bucket for inbound data, full at first.
    pub(crate) fn inbound_bucket(&self, now: Instant) -> Option<Bucket> {
        self.inbound.map(|rate| Bucket::new(rate, now))
    }

    /// Returns how long that many bytes take to leave at the outbound rate.
    pub(crate) fn time_to_send(&self, bytes: u64) -> Duration {
        self.outbound
            .map_or(Duration::ZERO, |rate| time_for(bytes, rate))
    }

    /// Returns the bucket for outbound data, full at first.
    pub(crate) fn outbound_bucket(&self, now: Instant) -> Option<Bucket> {
        self.outbound.map(|rate| Bucket::new(rate, now))
    }
}

/// What may move at once after a silence, as a part of a second's worth: long enough
/// that a timer's millisecond is nothing, too short for anybody to notice.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket that may be overdrawn: a frame that has begun is finished, and paid
/// for afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    /// When it was, or will be, empty and in no debt.
    empty: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let mut bucket = Self { rate, empty: now };
        bucket.fill(now);
        bucket
    }

    /// What one byte takes, rounded up.
    fn byte(&self) -> Duration {
        Duration::from_nanos(1_000_000_000_u64.div_ceil(self.rate))
    }

    /// No more than a burst is saved up, or one byte where that takes longer.
    fn fill(&mut self, now: Instant) {
        if let Some(full) = now.checked_sub(BURST.max(self.byte())) {
            self.empty = self.empty.max(full);
        }
    }

    /// What so much time is worth.
    fn bytes_in(&self, time: Duration) -> usize {
        let bytes = time.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Bytes that may move now.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        self.fill(now);
        self.bytes_in(now.saturating_duration_since(self.empty))
    }

    /// The same, and 0 where that is less than `enough` and than what there is at
    /// [`Bucket::ready_at`]: what has been saved up while the last bytes moved is not
    /// worth a system call of its own.
    pub(crate) fn worthwhile(&mut self, now: Instant, enough: usize) -> usize {
        let available = self.available(now);
        let least = self.bytes_in(self.pause()).min(enough);
        if available < least { 0 } else { available }
    }

    /// Half a burst, or one byte where that is longer.
    fn pause(&self) -> Duration {
        self.byte().max(BURST / 2)
    }

    /// So many have moved.
    pub(crate) fn take(&mut self, bytes: usize) {
        // Rounded up: a bucket that loses nothing never runs out.
        let nanoseconds = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.rate));
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.empty = after(self.empty, time);
    }

    /// When it will be worth while to move on.
    pub(crate) fn ready_at(&self) -> Instant {
        after(self.empty, self.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_second_moves_what_the_rate_says() {
        for rate in [1, 100, 1000, MIB, 1 << 40] {
            let start = Instant::now();
            let mut bucket = Bucket::new(rate, start);
            let (mut now, mut moved) = (start, 0_u64);
            let end = start + Duration::from_secs(100);
            while now < end {
                let n = bucket.available(now).min(60 * 1024 * 1024 * 1024);
                bucket.take(n);
                moved += n as u64;
                now = bucket.ready_at().max(now);
            }
            let share = moved as f64 / (100.0 * rate as f64);
            assert!((0.95..1.05).contains(&share), "{rate}: {share}");
        }
    }

    #[test]
    fn a_debt_is_paid_before_anything_moves() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        bucket.available(start);
        bucket.take(1000);
        assert_eq!(bucket.available(start + Duration::from_millis(900)), 0);
        assert!(bucket.available(start + Duration::from_millis(1010)) > 0);
    }

    #[test]
    fn what_is_not_worth_while_is_so_when_it_says() {
        for rate in [1, 39, 100, 1000, MIB, 1 << 40, u64::MAX] {
            let mut bucket = Bucket::new(rate, Instant::now());
            let now = bucket.empty;
            assert_eq!(bucket.worthwhile(now, usize::MAX), 0, "{rate}");
            let early = bucket.empty + bucket.pause() / 2;
            assert_eq!(bucket.worthwhile(early, usize::MAX), 0, "{rate}");
            let ready = bucket.ready_at();
            assert!(bucket.worthwhile(ready, usize::MAX) > 0, "{rate}");
        }
        let mut bucket = Bucket::new(MIB, Instant::now());
        let soon = bucket.empty + Duration::from_millis(2);
        assert_eq!(bucket.worthwhile(soon, 16 * 1024), 0);
        assert!(bucket.worthwhile(soon, 2000) >= 2000);
    }

    #[test]
    fn silence_saves_a_burst_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.available(start + Duration::from_secs(3600)), 50);
    }
}
