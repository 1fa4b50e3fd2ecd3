use std::time::Duration;

use tokio::time::Instant;

use super::timers::after;

/// The idle timeout of the session that a request asks for; `None` for none.
///
/// Zero is an error, as on the layer: the request is answered with a 500 that says so.
///
/// A request extension: it goes before what the
/// [`WsStreamLayer`](crate::WsStreamLayer) has been given, and any layer, auth or
/// handler outside of that one may insert it. The last one counts, which is the
/// innermost. [`IdleTimeoutLayer`](crate::policy::IdleTimeoutLayer) does only that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_wsstream::policy::IdleTimeout;
///
/// let mut request = http::Request::new(());
/// // Administrators may leave a session alone for a day.
/// let day = Duration::from_secs(24 * 60 * 60);
/// request.extensions_mut().insert(IdleTimeout(Some(day)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimeout(pub Option<Duration>);

/// How long ago data went either way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Idle {
    timeout: Duration,
    last: Instant,
}

impl Idle {
    pub(crate) fn new(timeout: Duration, now: Instant) -> Self {
        Self { timeout, last: now }
    }

    /// Data was exchanged then. Earlier than what is known changes nothing.
    pub(crate) fn active(&mut self, then: Instant) {
        self.last = self.last.max(then);
    }

    /// When the session has been idle for too long.
    pub(crate) fn deadline(&self) -> Instant {
        after(self.last, self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_activity_counts() {
        let start = Instant::now();
        let secs = |n| start + Duration::from_secs(n);
        let mut idle = Idle::new(Duration::from_secs(10), start);
        assert_eq!(idle.deadline(), secs(10));
        idle.active(secs(7));
        idle.active(secs(3));
        assert_eq!(idle.deadline(), secs(17));
    }

    #[test]
    fn no_timeout_is_too_long() {
        let start = Instant::now();
        assert!(Idle::new(Duration::MAX, start).deadline() > start);
    }
}
