use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

use super::{
    byte_rate::ByteRate,
    keep_alive::KeepAlive,
    limits::Limits,
    time::{IdleTimeout, TimeLimit, after},
};
use crate::protocol::ConfigError;

/// The policies of a session: the layer's, except those that the request's extensions override.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct SessionPolicy {
    pub(crate) limits: Limits,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) keep_alive: Option<KeepAlive>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) byte_rate: ByteRate,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            // None, as in Go: only an operator knows how long a silence is normal.
            idle_timeout: None,
            keep_alive: Some(KeepAlive::default()),
            time_limit: None,
            byte_rate: ByteRate::default(),
        }
    }
}

impl SessionPolicy {
    /// Returns the policies of a request with these extensions, which override the layer's.
    pub(crate) fn overridden_by(mut self, extensions: &Extensions) -> Self {
        if let Some(limits) = extensions.get() {
            self.limits = *limits;
        }
        if let Some(IdleTimeout(timeout)) = extensions.get() {
            self.idle_timeout = *timeout;
        }
        if let Some(keep_alive) = extensions.get() {
            self.keep_alive = Some(*keep_alive);
        }
        if let Some(TimeLimit(limit)) = extensions.get() {
            self.time_limit = *limit;
        }
        if let Some(rate) = extensions.get() {
            self.byte_rate = *rate;
        }
        self
    }

    /// Returns the instant at which a session that begins now has to end, if there is one.
    ///
    /// `expiry` is when its credentials expire, which a longer time limit does not change.
    pub(crate) fn ends_at(&self, now: Instant, expiry: Option<Instant>) -> Option<Instant> {
        let limit = self.time_limit.map(|limit| after(now, limit));
        limit.into_iter().chain(expiry).min()
    }

    /// Checks the policies, with the values from a request's extensions.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.idle_timeout == Some(Duration::ZERO) {
            return Err(ConfigError::new(
                "idle_timeout, and the extension IdleTimeout, must be above 0; use None for no timeout",
            ));
        }
        if self.time_limit == Some(Duration::ZERO) {
            return Err(ConfigError::new(
                "time_limit, and the extension TimeLimit, must be above 0; use None for no limit, and ValidUntil for a time that may be past",
            ));
        }
        self.limits.check()?;
        self.byte_rate.check()?;
        self.keep_alive.as_ref().map_or(Ok(()), KeepAlive::check)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::policy::ValidUntil;

    #[test]
    fn the_request_overrides_the_layer() {
        let layer = SessionPolicy {
            idle_timeout: Some(Duration::from_secs(1)),
            time_limit: Some(Duration::from_secs(2)),
            ..SessionPolicy::default()
        };
        let mut extensions = Extensions::new();
        let same = layer.overridden_by(&extensions);
        assert_eq!(same.idle_timeout, layer.idle_timeout);
        assert_eq!(same.time_limit, layer.time_limit);

        extensions.insert(IdleTimeout(None));
        extensions.insert(TimeLimit(Some(Duration::from_secs(9))));
        extensions.insert(KeepAlive::never());
        extensions.insert(ByteRate::default().inbound(7));
        extensions.insert(Limits::default().receive_window(1));
        let other = layer.overridden_by(&extensions);
        assert_eq!(other.idle_timeout, None);
        assert_eq!(other.time_limit, Some(Duration::from_secs(9)));
        assert_eq!(other.keep_alive, Some(KeepAlive::never()));
        assert_eq!(other.byte_rate, ByteRate::default().inbound(7));
        assert_eq!(other.limits, Limits::default().receive_window(1));
    }

    #[test]
    fn validity_only_shortens() {
        let begin = Instant::now();
        let limited = |limit, until| {
            let mut extensions = Extensions::new();
            extensions.insert(ValidUntil(until));
            let layer = SessionPolicy {
                time_limit: limit,
                ..SessionPolicy::default()
            };
            let expiry = ValidUntil::expiry(&extensions, begin);
            layer.ends_at(begin, expiry).unwrap() - begin
        };
        let hour = Duration::from_secs(60 * 60);
        let now = SystemTime::now();
        assert_eq!(limited(None, now - hour), Duration::ZERO, "over already");
        assert!(limited(None, now + hour) > hour / 2);
        assert_eq!(limited(Some(hour / 2), now + hour), hour / 2);
        assert_eq!(limited(Some(hour), now - hour), Duration::ZERO);
    }

    #[test]
    fn an_invalid_extension_is_an_error() {
        let check = |policy: SessionPolicy| policy.check();
        assert!(check(SessionPolicy::default()).is_ok());
        fn asking<T: Clone + Send + Sync + 'static>(policy: T) -> Extensions {
            let mut extensions = Extensions::new();
            extensions.insert(policy);
            extensions
        }
        for extensions in [
            asking(IdleTimeout(Some(Duration::ZERO))),
            asking(TimeLimit(Some(Duration::ZERO))),
            asking(KeepAlive::every(Duration::ZERO)),
            asking(ByteRate::default().outbound(0)),
            asking(Limits::default().max_frame(0)),
        ] {
            let policy = SessionPolicy::default().overridden_by(&extensions);
            assert!(check(policy).is_err(), "{policy:?}");
        }
    }
}
