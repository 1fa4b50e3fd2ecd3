use std::time::{Duration, SystemTime};

use http::Extensions;
use tokio::time::Instant;

use super::timers::after;

/// How long the session that a request asks for may last, data or not; `None` for
/// any time.
///
/// Zero is an error, as on the layer: the request is answered with a 500 that says so. For a
/// time that may be over when the request comes, use [`ValidUntil`].
///
/// A request extension: it goes before
/// [`SessionConfig::time_limit`](crate::SessionConfig::time_limit), and any layer, auth
/// or handler outside of that one may insert it. The innermost counts.
/// [`PolicyLayer`](crate::policy::PolicyLayer) does only that.
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

/// When what let a session in is valid no more: the expiry of a token, as a rule.
///
/// A request extension for an auth layer to insert. The session ends then with
/// [`EndCause::TimeLimit`](crate::EndCause::TimeLimit), or earlier where a time limit
/// says so; one that is over already ends the session as soon as it begins. Read
/// against the system's clock once, when the request comes: the time in which the
/// service gets ready and accepts counts.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use tower_wsstream::policy::ValidUntil;
///
/// // The claim `exp` of a token, in seconds since 1970.
/// let exp = 1_900_000_000;
/// let mut request = http::Request::new(());
/// let until = SystemTime::UNIX_EPOCH + Duration::from_secs(exp);
/// request.extensions_mut().insert(ValidUntil(until));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValidUntil(pub SystemTime);

impl ValidUntil {
    /// Returns when that is over, for a request that came now. An instant, not a limit:
    /// credentials expire also while the service gets ready.
    pub(crate) fn expiry(extensions: &Extensions, now: Instant) -> Option<Instant> {
        let Self(until) = extensions.get()?;
        let left = until.duration_since(SystemTime::now());
        Some(after(now, left.unwrap_or(Duration::ZERO)))
    }
}
