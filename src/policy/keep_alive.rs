use std::time::Duration;

use tokio::time::Instant;

use super::{limits::Limits, timers::after};
use crate::protocol::ConfigError;

/// Pings that keep a connection alive, and what no answer to them means.
///
/// Proxies and load balancers drop connections on which nothing has moved for a
/// while, 60 s as a rule. The default is a Ping every 30 s and no timeout, for
/// [`SessionConfig::keep_alive`](crate::SessionConfig::keep_alive); as an extension of a
/// request it goes before that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_wsstream::policy::KeepAlive;
///
/// // A host that vanished is noticed within 30 s.
/// let keep_alive = KeepAlive::every(Duration::from_secs(20)).timeout(Duration::from_secs(10));
/// # let _ = keep_alive;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Option<Duration>,
}

/// Half of what load balancers commonly allow.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

impl Default for KeepAlive {
    fn default() -> Self {
        Self::every(DEFAULT_INTERVAL)
    }
}

impl KeepAlive {
    /// A Ping in each interval, whatever else moves. No timeout.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            timeout: None,
        }
    }

    /// No Pings at all: for a request extension, which overrides those of the layer.
    #[must_use]
    pub fn never() -> Self {
        Self::every(Duration::MAX)
    }

    /// Ends the session where not a byte comes for so long after a Ping, with
    /// [`EndCause::PeerUnresponsive`](crate::EndCause::PeerUnresponsive).
    ///
    /// Any byte is a sign of life. Time in which the session does not read does
    /// not count, and neither does time in which output waits for the peer: a
    /// slow reader answers late, and TCP itself gives up on one that has
    /// vanished. Output that the kernel has already taken, 4 MiB and more, is in front of the
    /// Ping: the timeout is extended by the time that it takes at
    /// [`Limits::min_read_rate`](crate::policy::Limits::min_read_rate), by 15 minutes at most. The Pongs
    /// tell how much of it the peer has read. Some clients answer only while their user reads.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl KeepAlive {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self { interval, timeout } = *self;
        if interval.is_zero() || timeout == Some(Duration::ZERO) {
            return Err(ConfigError::new(
                "the interval and the timeout of KeepAlive must be above 0; KeepAlive::never() is for no Pings",
            ));
        }
        Ok(())
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Nothing,
    Ping,
    /// The peer has not answered in time.
    Dead,
}

/// The time in which TCP itself gives up on a host that has vanished with data on the way
/// to it: Linux retransmits for 924 s at least (`tcp_retries2`).
const TCP_GIVES_UP: Duration = Duration::from_secs(15 * 60);

/// A session's Pings, and the wait for a sign of life.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beats {
    policy: KeepAlive,
    next_ping: Instant,
    /// The first Ping since the last sign of life: the later ones ask the same.
    unanswered: Option<Instant>,
    /// Bytes of data that the peer is known to have read: those in front of a Ping that it
    /// has answered.
    read: u64,
    /// How long the peer may take to read the data in front of the Pings.
    to_read: Duration,
}

impl Beats {
    pub(crate) fn new(policy: KeepAlive, now: Instant) -> Self {
        Self {
            policy,
            next_ping: after(now, policy.interval),
            unanswered: None,
            read: 0,
            to_read: Duration::ZERO,
        }
    }

    /// Notes that the peer has answered the Ping behind that many bytes of data.
    pub(crate) fn answered(&mut self, read: u64) {
        self.read = self.read.max(read);
    }

    /// A byte came; or the peer could not be heard, or could not answer.
    pub(crate) fn excuse(&mut self) {
        self.unanswered = None;
    }

    /// What is to be done now; `excused` where the peer cannot be heard, or cannot
    /// answer, at this moment. `sent` bytes of data have left so far.
    pub(crate) fn beat(&mut self, now: Instant, excused: bool, sent: u64, limits: &Limits) -> Beat {
        if excused {
            self.excuse();
        }
        let unread = sent.saturating_sub(self.read);
        self.to_read = limits.time_to_read(unread).min(TCP_GIVES_UP);
        if self.dead_at().is_some_and(|at| at <= now) {
            return Beat::Dead;
        }
        if self.next_ping > now {
            return Beat::Nothing;
        }
        self.next_ping = after(now, self.policy.interval);
        // A Ping that waits itself is no question yet.
        if !excused {
            self.unanswered.get_or_insert(now);
        }
        Beat::Ping
    }

    /// Until when something has to come.
    fn dead_at(&self) -> Option<Instant> {
        let timeout = self.policy.timeout?.saturating_add(self.to_read);
        Some(after(self.unanswered?, timeout))
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.dead_at()
            .map_or(self.next_ping, |at| at.min(self.next_ping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What happens at each deadline within a time; `hears` says when a byte comes.
    fn run(policy: KeepAlive, until: u64, hears: &[u64]) -> Vec<(u64, Beat)> {
        let start = Instant::now();
        let mut beats = Beats::new(policy, start);
        let mut seen = Vec::new();
        let mut hears = hears.iter().copied().peekable();
        loop {
            let at = beats.deadline();
            while hears.next_if(|&s| start + secs(s) <= at).is_some() {
                beats.excuse();
            }
            if at > start + secs(until) {
                return seen;
            }
            let beat = beats.beat(at, false, 0, &Limits::default());
            if beat != Beat::Nothing {
                seen.push(((at - start).as_secs(), beat));
            }
            if beat == Beat::Dead {
                return seen;
            }
        }
    }

    #[test]
    fn pings_go_out_in_every_interval() {
        use Beat::Ping;
        let seen = run(KeepAlive::every(secs(30)), 100, &[]);
        assert_eq!(seen, [(30, Ping), (60, Ping), (90, Ping)]);
    }

    #[test]
    fn silence_after_a_ping_is_death() {
        use Beat::{Dead, Ping};
        let policy = KeepAlive::every(secs(30)).timeout(secs(10));
        assert_eq!(run(policy, 1000, &[]), [(30, Ping), (40, Dead)]);
        let heard = run(policy, 1000, &[35, 61, 62]);
        let expected = [(30, Ping), (60, Ping), (90, Ping), (100, Dead)];
        assert_eq!(heard, expected);
        // What came before the Ping is no answer to it.
        assert_eq!(run(policy, 1000, &[29]), [(30, Ping), (40, Dead)]);
    }

    #[test]
    fn a_timeout_may_be_longer_than_the_interval() {
        use Beat::{Dead, Ping};
        let policy = KeepAlive::every(secs(10)).timeout(secs(25));
        let seen = [(10, Ping), (20, Ping), (30, Ping), (35, Dead)];
        assert_eq!(run(policy, 1000, &[]), seen);
        let seen = run(policy, 1000, &[15]);
        // From the first Ping behind it: the Ping at 20 s.
        assert_eq!(*seen.last().unwrap(), (45, Dead), "{seen:?}");
    }

    #[test]
    fn a_peer_has_time_for_the_output_in_front_of_the_ping() {
        let policy = KeepAlive::every(secs(30)).timeout(secs(10));
        let limits = Limits::default().min_read_rate(1000);
        for (sent, answered, extra) in [
            (0, 0, 0),
            (60_000, 0, 60),
            (60_000, 40_000, 20),
            (60_000, 60_000, 0),
            // A peer that claims to have read more than was sent only shortens its own time.
            (60_000, u64::MAX, 0),
            (u64::MAX, 0, 15 * 60),
        ] {
            let start = Instant::now();
            let mut beats = Beats::new(policy, start);
            beats.answered(answered);
            let mut now = start + secs(30);
            assert_eq!(beats.beat(now, false, sent, &limits), Beat::Ping);
            while beats.beat(now, false, sent, &limits) != Beat::Dead {
                now = beats.deadline();
            }
            assert_eq!(now, start + secs(30 + 10 + extra), "{sent} {answered}");
        }
    }
}
