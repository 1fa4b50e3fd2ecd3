use std::time::Duration;

use tokio::time::Instant;

/// A delay that a clock cannot add is as good as this one.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The instant after a delay, which may be `Duration::MAX`.
pub(crate) fn after(start: Instant, delay: Duration) -> Instant {
    start.checked_add(delay).unwrap_or_else(|| start + FOREVER)
}
