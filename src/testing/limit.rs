use std::{fmt, io, time::Duration};

use tokio::time::timeout;

/// How long a call may take, unless set: longer than the idle timeouts and time limits of
/// hours that a test with paused time waits for, and over in a moment there, with the 2,880
/// Pings that make up a day.
const DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// The bound on each call of a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimit(pub(super) Option<Duration>);

impl Default for CallLimit {
    fn default() -> Self {
        Self(Some(DEFAULT))
    }
}

impl CallLimit {
    /// Waits for a call. `missing` begins the sentence "... within 24h of tokio's time".
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

/// A call took too long.
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
            "{missing} within {limit:?} of tokio's time: if it may take longer, say so with \
             `testing::Connect::call_timeout`"
        )
    }
}

impl std::error::Error for Over {}
