use std::time::Duration;

use tokio::time::Instant;

use super::time::{after, time_for};
use crate::protocol::ConfigError;

/// The number of bytes a second that a session may move, separately for each direction.
///
/// This corresponds to kube-apiserver's `--max-connection-bytes-per-sec`. Set it with
/// [`SessionConfig::byte_rate`](crate::SessionConfig::byte_rate). A request extension replaces
/// both directions: one that the extension leaves out is unlimited, even if the layer limits
/// it. The bytes on the wire count, frame headers included, except those of outbound Pings
/// and Pongs. Unlimited by default.
///
/// Outbound data waits in the session's queue. Once the queue is full, the service's writes
/// wait. Control frames overtake data between two frames and do not count, so Pings are
/// answered at once, and a flood of Pings does not delay data.
///
/// Inbound data is limited by reading the socket more slowly. Everything that the peer sends,
/// control frames included, waits in the kernel in the order in which it was sent. This
/// applies while the session is open. Input that arrives after our Close frame is discarded
/// at full speed, because the peer's own Close comes behind it.
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
    /// Limits incoming data, in bytes a second.
    #[must_use]
    pub fn inbound(mut self, bytes: u64) -> Self {
        self.inbound = Some(bytes);
        self
    }

    /// Limits outgoing data, in bytes a second.
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

    /// Creates the bucket for inbound data, which starts empty.
    pub(crate) fn inbound_bucket(&self, now: Instant) -> Option<Bucket> {
        self.inbound.map(|rate| Bucket::new(rate, now))
    }

    /// Returns the time that this many bytes take to leave at the outbound rate.
    pub(crate) fn time_to_send(&self, bytes: u64) -> Duration {
        self.outbound
            .map_or(Duration::ZERO, |rate| time_for(bytes, rate))
    }

    /// Creates the bucket for outbound data, which starts empty.
    pub(crate) fn outbound_bucket(&self, now: Instant) -> Option<Bucket> {
        self.outbound.map(|rate| Bucket::new(rate, now))
    }
}

/// The amount of data that may move at once after a pause, as the time that it takes at the
/// rate. This is long compared with a timer's resolution of a millisecond, and too short to be
/// noticed.
const BURST: Duration = Duration::from_millis(50);

/// A token bucket that may be overdrawn: a frame that has been started is finished, and its
/// bytes are paid for afterwards.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bucket {
    rate: u64,
    /// The instant at which the bucket was empty, or at which its debt will be paid.
    empty: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let mut bucket = Self { rate, empty: now };
        bucket.fill(now);
        bucket
    }

    /// Returns the time that one byte takes, rounded up.
    fn byte(&self) -> Duration {
        Duration::from_nanos(1_000_000_000_u64.div_ceil(self.rate))
    }

    /// Caps the balance at one burst, or at one byte if that takes longer.
    fn fill(&mut self, now: Instant) {
        if let Some(full) = now.checked_sub(BURST.max(self.byte())) {
            self.empty = self.empty.max(full);
        }
    }

    /// Returns how many bytes move in this time.
    fn bytes_in(&self, time: Duration) -> usize {
        let bytes = time.as_nanos() * u128::from(self.rate) / 1_000_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Returns how many bytes may move now.
    pub(crate) fn available(&mut self, now: Instant) -> usize {
        self.fill(now);
        self.bytes_in(now.saturating_duration_since(self.empty))
    }

    /// Returns how many bytes have moved that are not paid for.
    pub(crate) fn owed(&self, now: Instant) -> u64 {
        self.bytes_in(self.empty.saturating_duration_since(now)) as u64
    }

    /// Returns how many bytes may move now, or 0 if they are not worth a system call.
    ///
    /// They are not if they are fewer than `enough`, and fewer than will be available at
    /// [`Bucket::ready_at`], as are the few that accumulated while the last bytes moved.
    pub(crate) fn worthwhile(&mut self, now: Instant, enough: usize) -> usize {
        let available = self.available(now);
        let least = self.bytes_in(self.pause()).min(enough);
        if available < least { 0 } else { available }
    }

    /// Returns the time between two moves: half a burst, or one byte if that takes longer.
    fn pause(&self) -> Duration {
        self.byte().max(BURST / 2)
    }

    /// Withdraws bytes that have moved.
    pub(crate) fn take(&mut self, bytes: usize) {
        // Rounded up: if a byte cost nothing, the bucket would never run out.
        let nanoseconds = (bytes as u128 * 1_000_000_000).div_ceil(u128::from(self.rate));
        let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        self.empty = after(self.empty, time);
    }

    /// Returns the instant at which moving more bytes becomes worthwhile.
    pub(crate) fn ready_at(&self) -> Instant {
        after(self.empty, self.pause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_second_moves_as_many_bytes_as_the_rate() {
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
        assert_eq!(bucket.owed(start), 1000);
        assert_eq!(bucket.available(start + Duration::from_millis(900)), 0);
        assert_eq!(bucket.owed(start + Duration::from_millis(1000)), 0);
        assert!(bucket.available(start + Duration::from_millis(1010)) > 0);
    }

    #[test]
    fn bytes_become_worthwhile_at_the_announced_instant() {
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
