//! A limit for the steps of a test.

use std::time::Duration;

use tokio::time::timeout;

/// Long enough for any machine.
pub(crate) const REAL: Duration = Duration::from_secs(30);

/// Longer than every wait of a test in paused time, where this is no wait at all.
pub(crate) const PAUSED: Duration = Duration::from_secs(24 * 3600);

/// Returns the output of a future. A test that hangs fails here.
pub(crate) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    timeout(limit, future).await.expect("it is done in time")
}
