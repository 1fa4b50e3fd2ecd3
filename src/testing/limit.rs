use std::{fmt, io, time::Duration};

use tokio::time::timeout;

/// The default limit of a call. It is longer than the idle timeouts and time limits of hours that a
/// test with paused time waits for. With paused time it expires after a moment, because a day has
/// only 2,880 Pings.
const DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// The limit of each call of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimit(pub(super) Option<Duration>);

impl Default for CallLimit {
    fn default() -> Self {
        Self(Some(DEFAULT))
    }
}

impl CallLimit {
    /// Waits for a call, or fails after the limit. `missing` is the beginning of the error's text:
    /// "... within 24h of tokio's time".
    pub(super) async fn of<F>(self, call: F, missing: &'static str) -> io::Result<F::Output>
    where
        F: Future,
    {
        let Some(limit) = self.0 else {
            return Ok(call.await);
        };
        let over = |_| io::Error::new(io::ErrorKind::TimedOut, Over { limit, missing });
        timeout(limit, call).await.map_err(over)
    }
}

/// The error of a call that took too long.
#[derive(Debug)]
struct Over {
    limit: Duration,
    missing: &'static str,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, missing } = self;
        write!(
            f,
            "{missing} within {limit:?} of tokio's time: if it may take longer, set \
             `testing::Connect::call_timeout`"
        )
    }
}

impl std::error::Error for Over {}
