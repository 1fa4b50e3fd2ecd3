//! The durations that an operator sets for a session: how long it may be idle, and how long it
//! may last.

use std::time::{Duration, SystemTime};

use http::Extensions;
use tokio::time::Instant;

/// The idle timeout of the session that a request asks for, or `None` for no timeout.
///
/// Zero is an error, as on the layer: the request is answered with a 500 that says so.
///
/// Over SPDY, the PINGs of a client count as data. kubectl sends them all the time, so this ends
/// neither a live kubectl nor an attacker that sends PINGs: a [`TimeLimit`] does.
///
/// This is a request extension, which overrides
/// [`SessionConfig::idle_timeout`](crate::SessionConfig::idle_timeout). Any middleware outside of
/// [`WsStreamLayer`](crate::WsStreamLayer) may insert it, and the innermost one counts.
/// [`IdleTimeoutLayer`](crate::policy::IdleTimeoutLayer) does this for a route.
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

/// The longest time that the session of a request may last, even if it is active, or `None` for no
/// limit.
///
/// Zero is an error, as on the layer: the request is answered with a 500 that says so. For a
/// time that may be past when the request arrives, use [`ValidUntil`].
///
/// This is a request extension, which overrides
/// [`SessionConfig::time_limit`](crate::SessionConfig::time_limit). Any middleware outside of
/// [`WsStreamLayer`](crate::WsStreamLayer) may insert it, and the innermost one counts.
/// [`PolicyLayer`](crate::policy::PolicyLayer) does this for a route.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_wsstream::policy::TimeLimit;
///
/// let mut request = http::Request::new(());
/// let hour = Duration::from_secs(60 * 60);
/// request.extensions_mut().insert(TimeLimit(Some(hour)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimit(pub Option<Duration>);

/// The time at which the credentials of a session expire, usually those of a token.
///
/// This is a request extension for an auth layer to insert. At that time the session ends with
/// [`EndCause::TimeLimit`](crate::EndCause::TimeLimit), unless a time limit ends it earlier. If the
/// time is already past, the session ends as soon as it begins.
///
/// The time is compared with the system's clock once, when the request arrives. The time that the
/// service takes to become ready and to accept counts.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_wsstream::policy::ValidUntil;
///
/// // The `exp` claim of a token, in seconds since 1970.
/// let exp = 1_900_000_000;
/// let mut request = http::Request::new(());
/// let until = SystemTime::UNIX_EPOCH + Duration::from_secs(exp);
/// request.extensions_mut().insert(ValidUntil(until));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidUntil(pub SystemTime);

impl ValidUntil {
    /// Returns the instant at which the credentials of a request that arrives now expire.
    ///
    /// This is an instant and not a duration, because time also passes while the service gets
    /// ready.
    pub(crate) fn expiry(extensions: &Extensions, now: Instant) -> Option<Instant> {
        let Self(until) = extensions.get()?;
        let left = until.duration_since(SystemTime::now());
        Some(after(now, left.unwrap_or(Duration::ZERO)))
    }
}

/// The substitute for a delay that is too long for the clock to add.
const FOREVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Returns the instant after a delay, which may be `Duration::MAX`.
pub(crate) fn after(start: Instant, delay: Duration) -> Instant {
    start.checked_add(delay).unwrap_or_else(|| start + FOREVER)
}

/// Returns the time that this many bytes take at a rate in bytes a second.
pub(super) fn time_for(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_delay_is_too_long() {
        let now = Instant::now();
        assert!(after(now, Duration::MAX) > now);
        assert_eq!(
            after(now, Duration::from_secs(7)),
            now + Duration::from_secs(7)
        );
    }
}
