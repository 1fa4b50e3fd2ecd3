//! Every deadline of a session, in one table.

use std::time::Duration;

use tokio::time::Instant;

use super::time::after;

/// The name of a deadline.
///
/// Deadlines that have expired are handled in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// A drain cuts the session off.
    Cut,
    /// The server must have handed over the connection.
    Upgrade,
    /// The byte rate allows reading again.
    ReadRate,
    /// The byte rate allows writing again.
    WriteRate,
    /// Output that was held back is released.
    Hold,
    /// Reading is paused, and the next Pong and loan are due.
    Pause,
    /// The session ends, even if it is active.
    TimeLimit,
    /// The session ends, because no data was exchanged for the idle timeout.
    Idle,
    /// The peer must have answered a Ping.
    Answer,
    /// The next Ping is sent.
    Ping,
    /// A stream of the session must have moved on.
    Streams,
    /// An ending session stops waiting for its service.
    Grace,
    /// The transport of a closing session must have made some progress.
    Stall,
    /// The queue of a closing session must have been sent.
    Flush,
    /// The session stops waiting for a peer that is silent after our Close frame.
    Silence,
    /// Everything after our Close frame must be over.
    CloseLimit,
}

impl Deadline {
    pub(crate) const ALL: [Self; 16] = [
        Self::Cut,
        Self::Upgrade,
        Self::ReadRate,
        Self::WriteRate,
        Self::Hold,
        Self::Pause,
        Self::TimeLimit,
        Self::Idle,
        Self::Answer,
        Self::Ping,
        Self::Streams,
        Self::Grace,
        Self::Stall,
        Self::Flush,
        Self::Silence,
        Self::CloseLimit,
    ];
}

/// A table with at most one instant for each [`Deadline`].
///
/// It is the only place that stores one. The policies and the closing state machine decide when a
/// deadline moves, and what follows once it has expired.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines {
    start: Instant,
    /// The deadlines, in nanoseconds after `start`: these take half the memory of an `Instant`.
    ticks: [u64; Deadline::ALL.len()],
}

/// The entry of a deadline that is not set.
const UNSET: u64 = u64::MAX;

impl Deadlines {
    /// Creates a table without any deadline.
    ///
    /// A deadline that is set to an instant before `start` expires at `start`.
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            start,
            ticks: [UNSET; Deadline::ALL.len()],
        }
    }

    /// Sets a deadline, wherever it was before.
    pub(crate) fn set(&mut self, name: Deadline, at: Instant) {
        self.ticks[name as usize] = self.ticks_of(at);
    }

    /// Sets a deadline to this instant, unless an earlier one is set.
    pub(crate) fn bring_forward(&mut self, name: Deadline, at: Instant) {
        let ticks = self.ticks_of(at);
        let slot = &mut self.ticks[name as usize];
        *slot = ticks.min(*slot);
    }

    /// Moves a deadline to this instant, if it is set and earlier.
    pub(crate) fn put_off(&mut self, name: Deadline, at: Instant) {
        if self.is_set(name) {
            let ticks = self.ticks_of(at);
            let slot = &mut self.ticks[name as usize];
            *slot = ticks.max(*slot);
        }
    }

    /// Extends a deadline by `by`, if it is set.
    pub(crate) fn extend(&mut self, name: Deadline, by: Duration) {
        if let Some(at) = self.get(name) {
            self.set(name, after(at, by));
        }
    }

    pub(crate) fn clear(&mut self, name: Deadline) {
        self.ticks[name as usize] = UNSET;
    }

    pub(crate) fn is_set(&self, name: Deadline) -> bool {
        self.ticks[name as usize] != UNSET
    }

    pub(crate) fn get(&self, name: Deadline) -> Option<Instant> {
        self.instant(self.ticks[name as usize])
    }

    /// Returns whether a deadline is set and has expired.
    pub(crate) fn is_expired(&self, name: Deadline, now: Instant) -> bool {
        self.ticks[name as usize] <= self.ticks_of(now)
    }

    /// Returns a view of the table at this moment.
    pub(crate) fn at(&mut self, now: Instant) -> Clock<'_> {
        Clock {
            now,
            deadlines: self,
        }
    }

    /// Returns the earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.instant(self.ticks.into_iter().min()?)
    }

    /// Converts an instant to an entry, which is never [`UNSET`]: an endless deadline is still
    /// set, five centuries after the start.
    fn ticks_of(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).map_or(UNSET - 1, |ticks| ticks.min(UNSET - 1))
    }

    fn instant(&self, ticks: u64) -> Option<Instant> {
        (ticks != UNSET).then(|| after(self.start, Duration::from_nanos(ticks)))
    }
}

/// A view of a session's deadlines at one moment.
///
/// Decisions that are made at that moment use it to set deadlines that count from it.
#[derive(Debug)]
pub(crate) struct Clock<'a> {
    now: Instant,
    deadlines: &'a mut Deadlines,
}

impl Clock<'_> {
    /// Sets a deadline to expire after this delay, which may be `Duration::MAX`.
    pub(crate) fn set(&mut self, name: Deadline, delay: Duration) {
        self.deadlines.set(name, after(self.now, delay));
    }

    /// Sets a deadline to expire after this delay, unless it expires earlier anyway.
    pub(crate) fn bring_forward(&mut self, name: Deadline, delay: Duration) {
        self.deadlines.bring_forward(name, after(self.now, delay));
    }

    pub(crate) fn clear<const N: usize>(&mut self, names: [Deadline; N]) {
        for name in names {
            self.deadlines.clear(name);
        }
    }

    /// Returns whether a deadline is set and has expired.
    pub(crate) fn is_over(&self, name: Deadline) -> bool {
        self.deadlines.is_expired(name, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn each_name_has_its_own_slot() {
        for (place, name) in Deadline::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, place, "{name:?}");
        }
        let start = Instant::now();
        for name in Deadline::ALL {
            let mut deadlines = Deadlines::new(start);
            deadlines.set(name, start + secs(7));
            for other in Deadline::ALL {
                assert_eq!(deadlines.is_set(other), other == name, "{name:?} {other:?}");
                assert_eq!(deadlines.is_expired(other, start + secs(8)), other == name);
            }
            assert_eq!(deadlines.next(), Some(start + secs(7)));
            deadlines.clear(name);
            assert_eq!((deadlines.get(name), deadlines.next()), (None, None));
        }
    }

    #[test]
    fn a_deadline_expires_at_its_instant() {
        let start = Instant::now();
        let at = start + secs(7) + Duration::from_nanos(1);
        let mut deadlines = Deadlines::new(start);
        deadlines.set(Deadline::Idle, at);
        assert_eq!(deadlines.get(Deadline::Idle), Some(at));
        assert!(!deadlines.is_expired(Deadline::Idle, start + secs(7)));
        assert!(deadlines.is_expired(Deadline::Idle, at));
    }

    #[test]
    fn the_next_deadline_is_the_earliest() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        assert_eq!(deadlines.next(), None);
        deadlines.set(Deadline::Idle, start + secs(3));
        deadlines.set(Deadline::Cut, start + secs(5));
        deadlines.set(Deadline::CloseLimit, start + secs(4));
        assert_eq!(deadlines.next(), Some(start + secs(3)));
        deadlines.clear(Deadline::Idle);
        assert_eq!(deadlines.next(), Some(start + secs(4)));
    }

    #[test]
    fn the_ways_to_move_a_deadline() {
        type Move = fn(&mut Deadlines, Deadline, Instant);
        let set: Move = Deadlines::set;
        let bring_forward: Move = Deadlines::bring_forward;
        let put_off: Move = Deadlines::put_off;
        for (mover, before, to, expected) in [
            (set, None, 5, Some(5)),
            (set, Some(9), 5, Some(5)),
            (set, Some(1), 5, Some(5)),
            (bring_forward, None, 5, Some(5)),
            (bring_forward, Some(9), 5, Some(5)),
            (bring_forward, Some(1), 5, Some(1)),
            (put_off, None, 5, None),
            (put_off, Some(9), 5, Some(9)),
            (put_off, Some(1), 5, Some(5)),
        ] {
            let start = Instant::now();
            let mut deadlines = Deadlines::new(start);
            if let Some(before) = before {
                deadlines.set(Deadline::Idle, start + secs(before));
            }
            mover(&mut deadlines, Deadline::Idle, start + secs(to));
            let expected = expected.map(|expected| start + secs(expected));
            assert_eq!(deadlines.get(Deadline::Idle), expected, "{before:?}");
        }
    }

    #[test]
    fn only_a_deadline_that_is_set_is_extended() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.extend(Deadline::Answer, secs(5));
        assert!(!deadlines.is_set(Deadline::Answer));
        deadlines.set(Deadline::Answer, start + secs(2));
        deadlines.extend(Deadline::Answer, secs(5));
        assert_eq!(deadlines.get(Deadline::Answer), Some(start + secs(7)));
    }

    #[test]
    fn an_instant_outside_of_the_table_is_clamped() {
        let start = Instant::now() + secs(1);
        let mut deadlines = Deadlines::new(start);
        deadlines.set(Deadline::TimeLimit, start - secs(1));
        assert!(deadlines.is_expired(Deadline::TimeLimit, start));
        let century = secs(100 * 365 * 24 * 60 * 60);
        deadlines.set(Deadline::TimeLimit, start + century * 90);
        assert!(deadlines.is_set(Deadline::TimeLimit));
        assert!(!deadlines.is_expired(Deadline::TimeLimit, start + century));
        assert!(deadlines.next() > Some(start + century));
    }
}
