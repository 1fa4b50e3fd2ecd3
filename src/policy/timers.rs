use std::time::Duration;

use tokio::time::Instant;

/// A delay that a clock cannot add is as good as this one.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns how long that many bytes take at a rate in bytes a second.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
}

/// The instant after a delay, which may be `Duration::MAX`.
pub(crate) fn after(start: Instant, delay: Duration) -> Instant {
    start.checked_add(delay).unwrap_or_else(|| start + FOREVER)
}
