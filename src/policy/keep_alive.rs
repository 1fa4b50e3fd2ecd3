use std::time::Duration;

use tokio::time::Instant;

use super::{
    deadlines::{Deadline, Deadlines},
    limits::Limits,
    time::after,
};
use crate::protocol::ConfigError;

/// The Pings that keep a connection alive, and the timeout for a peer that does not answer.
///
/// Proxies and load balancers drop a connection on which nothing has moved for a while, usually
/// 60 s. The default is a Ping every 30 s and no timeout. Set it with
/// [`SessionConfig::keep_alive`](crate::SessionConfig::keep_alive), or for one session with a
/// request extension.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_wsstream::policy::KeepAlive;
///
/// // A host that has vanished is noticed within 30 s.
/// let keep_alive = KeepAlive::every(Duration::from_secs(20)).timeout(Duration::from_secs(10));
///
/// // For a test that counts frames.
/// let silent = KeepAlive::never();
/// # let _ = (keep_alive, silent);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Option<Duration>,
}

/// Half of the silence that load balancers commonly allow.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

impl Default for KeepAlive {
    fn default() -> Self {
        Self::every(DEFAULT_INTERVAL)
    }
}

impl KeepAlive {
    /// Sends a Ping in each interval, even while data moves, and sets no timeout.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            timeout: None,
        }
    }

    /// Sends no Pings. As a request extension it overrides the Pings of the layer.
    #[must_use]
    pub fn never() -> Self {
        Self::every(Duration::MAX)
    }

    /// Ends the session with
    /// [`EndCause::PeerUnresponsive`](crate::EndCause::PeerUnresponsive) if no byte arrives for
    /// this long after a Ping.
    ///
    /// Any byte is a sign of life. The timeout does not run while the session is not reading, or
    /// while output waits for the peer: a slow reader answers late, and TCP itself gives up on a
    /// peer that has vanished.
    ///
    /// The kernel may already hold output in front of the Ping, 4 MiB or more. The timeout is
    /// extended by the time that this output takes at
    /// [`Limits::min_read_rate`](crate::policy::Limits::min_read_rate), by 15 minutes at most. The
    /// Pongs tell how much of it the peer has read.
    ///
    /// Some clients answer only while their user reads.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

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

/// The time after which TCP itself gives up on a host that has vanished while data was on its
/// way to it. Linux retransmits for at least 924 s (`tcp_retries2`).
const TCP_GIVES_UP: Duration = Duration::from_secs(15 * 60);

/// The state of a session's Pings, and of its wait for a sign of life.
///
/// [`Deadline::Answer`] is set while a Ping is unanswered. It counts from the first Ping
/// since the last sign of life, because later Pings do not give the peer more time. Any byte
/// clears it, and so does a period in which the peer cannot be heard or cannot answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beats {
    /// The bytes of data that the peer is known to have read: those in front of the last Ping
    /// that it has answered.
    read: u64,
    /// The part of [`Deadline::Answer`] that is for reading the data in front of the Pings.
    to_read: Duration,
}

impl Beats {
    /// Sets the deadline of the first Ping.
    pub(crate) fn start(policy: &KeepAlive, now: Instant, deadlines: &mut Deadlines) {
        deadlines.set(Deadline::Ping, after(now, policy.interval));
    }

    /// Notes that the peer has answered the Ping behind this many bytes of data.
    pub(crate) fn answered(&mut self, read: u64) {
        self.read = self.read.max(read);
    }

    /// Notes a Ping behind `sent` bytes of data, and sets the deadlines of the next Ping and of
    /// the answer.
    ///
    /// `asks` is false for a Ping that has to wait for output in front of it: no answer is due
    /// yet.
    pub(crate) fn pinged(
        &mut self,
        policy: &KeepAlive,
        limits: &Limits,
        sent: u64,
        asks: bool,
        now: Instant,
        deadlines: &mut Deadlines,
    ) {
        deadlines.set(Deadline::Ping, after(now, policy.interval));
        let Some(timeout) = policy.timeout.filter(|_| asks) else {
            return;
        };
        if !deadlines.is_set(Deadline::Answer) {
            self.to_read = self.time_to_read(limits, sent);
            let timeout = timeout.saturating_add(self.to_read);
            deadlines.set(Deadline::Answer, after(now, timeout));
        }
    }

    /// Returns whether the peer is dead, now that [`Deadline::Answer`] has expired.
    ///
    /// First extends the deadline for the data that was sent since the Ping.
    pub(crate) fn is_dead(
        &mut self,
        limits: &Limits,
        sent: u64,
        now: Instant,
        deadlines: &mut Deadlines,
    ) -> bool {
        let to_read = self.time_to_read(limits, sent).max(self.to_read);
        deadlines.extend(Deadline::Answer, to_read - self.to_read);
        self.to_read = to_read;
        deadlines.is_expired(Deadline::Answer, now)
    }

    /// Returns how long the peer may take to read the rest of `sent` bytes.
    fn time_to_read(&self, limits: &Limits, sent: u64) -> Duration {
        let unread = sent.saturating_sub(self.read);
        limits.time_to_read(unread).min(TCP_GIVES_UP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Beat {
        Ping,
        Dead,
    }

    /// A session in which `sent` bytes have left, and at most one byte arrives a second.
    struct Session {
        policy: KeepAlive,
        limits: Limits,
        beats: Beats,
        deadlines: Deadlines,
        now: Instant,
        sent: u64,
    }

    impl Session {
        fn new(policy: KeepAlive, now: Instant) -> Self {
            let mut deadlines = Deadlines::new(now);
            Beats::start(&policy, now, &mut deadlines);
            Self {
                policy,
                limits: Limits::default().min_read_rate(1000),
                beats: Beats::default(),
                deadlines,
                now,
                sent: 0,
            }
        }

        /// Advances to the next deadline and handles it.
        fn next(&mut self) -> Option<Beat> {
            let Self { limits, sent, .. } = *self;
            let deadlines = &mut self.deadlines;
            self.now = deadlines.next().unwrap();
            if deadlines.is_expired(Deadline::Answer, self.now)
                && self.beats.is_dead(&limits, sent, self.now, deadlines)
            {
                return Some(Beat::Dead);
            }
            if !deadlines.is_expired(Deadline::Ping, self.now) {
                return None;
            }
            self.beats
                .pinged(&self.policy, &limits, sent, true, self.now, deadlines);
            Some(Beat::Ping)
        }
    }

    /// Returns what happens until a time, with a byte from the peer at each second in `hears`.
    fn run(policy: KeepAlive, until: u64, hears: &[u64]) -> Vec<(u64, Beat)> {
        let start = Instant::now();
        let mut session = Session::new(policy, start);
        let mut seen = Vec::new();
        let mut hears = hears.iter().copied().peekable();
        loop {
            let at = session.deadlines.next().unwrap();
            while hears.next_if(|&s| start + secs(s) <= at).is_some() {
                session.deadlines.clear(Deadline::Answer);
            }
            if session.deadlines.next().unwrap() > start + secs(until) {
                return seen;
            }
            let Some(beat) = session.next() else { continue };
            seen.push(((session.now - start).as_secs(), beat));
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
        // A byte that arrived before the Ping does not answer it.
        assert_eq!(run(policy, 1000, &[29]), [(30, Ping), (40, Dead)]);
    }

    #[test]
    fn a_timeout_may_be_longer_than_the_interval() {
        use Beat::{Dead, Ping};
        let policy = KeepAlive::every(secs(10)).timeout(secs(25));
        let seen = [(10, Ping), (20, Ping), (30, Ping), (35, Dead)];
        assert_eq!(run(policy, 1000, &[]), seen);
        let seen = run(policy, 1000, &[15]);
        // The timeout counts from the first Ping after that byte, which leaves at 20 s.
        assert_eq!(*seen.last().unwrap(), (45, Dead), "{seen:?}");
    }

    #[test]
    fn a_peer_has_time_for_the_output_in_front_of_the_ping() {
        let policy = KeepAlive::every(secs(30)).timeout(secs(10));
        for (sent, answered, extra) in [
            (0, 0, 0),
            (60_000, 0, 60),
            (60_000, 40_000, 20),
            (60_000, 60_000, 0),
            // A peer that claims to have read more than was sent only shortens its own time.
            (60_000, u64::MAX, 0),
            (u64::MAX, 0, 15 * 60),
        ] {
            for sent_before_the_ping in [0, sent] {
                let start = Instant::now();
                let mut session = Session::new(policy, start);
                session.beats.answered(answered);
                session.sent = sent_before_the_ping;
                assert_eq!(session.next(), Some(Beat::Ping));
                session.sent = sent;
                let mut later = std::iter::repeat_with(|| session.next()).take(100);
                assert!(later.any(|beat| beat == Some(Beat::Dead)), "it lives");
                let dead = start + secs(30 + 10 + extra);
                assert_eq!(
                    session.now, dead,
                    "{sent} {answered} {sent_before_the_ping}"
                );
            }
        }
    }

    #[test]
    fn a_ping_that_waits_does_not_ask() {
        let policy = KeepAlive::every(secs(30)).timeout(secs(10));
        let start = Instant::now();
        let mut session = Session::new(policy, start);
        let Session { limits, .. } = session;
        let deadlines = &mut session.deadlines;
        session
            .beats
            .pinged(&policy, &limits, 0, false, start, deadlines);
        assert!(!deadlines.is_set(Deadline::Answer));
        assert_eq!(deadlines.get(Deadline::Ping), Some(start + secs(30)));
    }
}
