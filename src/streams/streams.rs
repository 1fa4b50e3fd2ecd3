//! The table of a session's streams: the state of each, its channel, and its deadline.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    protocol::MAX_PAIRS,
    spdy::{Act, Event, State},
};

/// The most streams that are open at once: those of all pairs. This bounds what a client can make
/// this end keep, and every search of the table.
pub(super) const MAX_STREAMS: usize = 2 * MAX_PAIRS;

/// The time that a half of a pair has to wait for the other one. kubectl opens it as soon as it has
/// the reply to the first, and Go's servers wait for 30 seconds.
const HALF: Duration = Duration::from_secs(10);

/// The time after which a stream that was not answered is given up. kubectl gives it up after 30
/// seconds. After that, a reset instead of a reply, or data, blocks the worker of the client that
/// serves a fifth of its streams. Only a reset after a reply is safe.
pub(super) const LATE: Duration = Duration::from_secs(25);

/// The time for which an upload has to be quiet before this end sends a FIN in the other direction.
/// kubectl takes that FIN for the end of the connection, and drops the rest of the upload. It is short,
/// because it delays the end of every connection whose target answers and closes at once.
pub(super) const QUIET: Duration = Duration::from_millis(50);

/// A deadline of a stream. A stream has one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The other half of the pair has not come.
    Half,
    /// The service has not answered.
    Answer,
    /// This end ends its direction.
    Fin,
}

/// A stream that is not closed.
#[derive(Debug)]
pub(super) struct Stream {
    id: u32,
    /// The channel that the stream stands for. Data of a stream without one is discarded.
    pub(super) slot: Option<u8>,
    pub(super) state: State,
    due: Option<(Instant, Due)>,
    opened: Instant,
    /// The time of the last data from the peer.
    heard: Option<Instant>,
}

/// The table; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The streams in the order of their numbers.
    live: Vec<Stream>,
}

impl Streams {
    /// Adds a stream. Its number is above all others, unless it was postponed.
    pub(super) fn open(&mut self, id: u32, fin: bool, slot: Option<u8>, now: Instant) {
        let stream = Stream {
            id,
            slot,
            state: State::opened(fin),
            due: None,
            opened: now,
            heard: None,
        };
        let at = self.live.partition_point(|stream| stream.id < id);
        self.live.insert(at, stream);
    }

    /// Returns whether there is room for another stream.
    pub(super) fn are_full(&self) -> bool {
        self.live.len() >= MAX_STREAMS
    }

    /// Returns a stream that is not closed.
    pub(super) fn get(&self, id: u32) -> Option<&Stream> {
        self.live.get(self.position(id)?)
    }

    fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.position(id)?;
        self.live.get_mut(at)
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.live.binary_search_by_key(&id, |stream| stream.id).ok()
    }

    /// Returns the number of the stream that stands for a channel.
    pub(super) fn of_slot(&self, slot: u8) -> Option<u32> {
        let stream = self.live.iter().find(|stream| stream.slot == Some(slot));
        stream.map(|stream| stream.id)
    }

    /// Returns the numbers of all streams, from the last to the first.
    pub(super) fn latest_first(&self) -> Vec<u32> {
        self.live.iter().rev().map(|stream| stream.id).collect()
    }

    /// Returns the lowest pair of channels that no stream stands for, and that is free.
    pub(super) fn free_pair(&self, is_free: impl Fn(u8) -> bool) -> Option<u8> {
        let slots = self.live.iter().filter_map(|stream| stream.slot);
        let used = slots.fold(0_u128, |used, slot| used | 1 << (slot / 2));
        (0..MAX_PAIRS as u8)
            .filter(|pair| used >> pair & 1 == 0)
            .map(|pair| 2 * pair)
            .find(|&slot| is_free(slot))
    }

    /// Moves a stream on, and returns its channel and the consequence. A stream that is closed by
    /// this is forgotten. Returns `None` for a stream that was closed before, or never opened.
    pub(super) fn on(&mut self, id: u32, event: Event) -> Option<(Option<u8>, Act)> {
        let at = self.position(id)?;
        let stream = &mut self.live[at];
        let (next, act) = stream.state.on(event);
        // An answer is due no longer, and nothing at all is if the stream is closed.
        if stream.state.is_opened() && !next.is_opened() {
            stream.due = stream.due.filter(|&(_, due)| due != Due::Answer);
        }
        stream.state = next;
        let slot = stream.slot;
        if next.is_closed() {
            self.live.remove(at);
        }
        Some((slot, act))
    }

    /// Returns whether the peer may have given up its wait for the reply to a stream.
    pub(super) fn is_late(&self, id: u32, now: Instant) -> bool {
        self.get(id)
            .is_some_and(|stream| stream.state.is_opened() && now >= stream.opened + LATE)
    }

    /// Notes that data of a stream has arrived.
    pub(super) fn heard(&mut self, id: u32, now: Instant) {
        if let Some(stream) = self.get_mut(id) {
            stream.heard = Some(now);
        }
    }
}

/// The deadlines.
impl Streams {
    /// Waits for the other half of a pair.
    pub(super) fn wait_for_half(&mut self, id: u32, now: Instant) {
        self.set(id, Some((now + HALF, Due::Half)));
    }

    /// Waits for the service to answer a stream. Returns the instant at which it
    /// [is late](Self::is_late).
    pub(super) fn wait_for_answer(&mut self, id: u32, now: Instant) -> Instant {
        let late = now + LATE;
        self.set(id, Some((late, Due::Answer)));
        late
    }

    /// Waits for a while before this end ends its direction.
    pub(super) fn wait_to_end(&mut self, id: u32, now: Instant) {
        self.set(id, Some((now + QUIET, Due::Fin)));
    }

    /// Stops waiting.
    pub(super) fn wait_no_longer(&mut self, id: u32) {
        self.set(id, None);
    }

    fn set(&mut self, id: u32, due: Option<(Instant, Due)>) {
        if let Some(stream) = self.get_mut(id) {
            stream.due = due;
        }
    }

    /// Waits until the upload of a stream is quiet. Returns whether it waits.
    pub(super) fn wait_for_quiet(&mut self, id: u32, now: Instant) -> bool {
        let Some(stream) = self.get_mut(id).filter(|stream| stream.state.receives()) else {
            return false;
        };
        let recent = |heard: &Instant| now.saturating_duration_since(*heard) < QUIET;
        let Some(heard) = stream.heard.filter(recent) else {
            return false;
        };
        stream.due = Some((heard + QUIET, Due::Fin));
        true
    }

    /// Returns the earliest deadline.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let dues = self.live.iter().filter_map(|stream| stream.due);
        dues.map(|(at, _)| at).min()
    }

    /// Takes a deadline that has expired, and returns its stream.
    pub(super) fn expire(&mut self, now: Instant) -> Option<(u32, Due)> {
        self.live.iter_mut().find_map(|stream| {
            let (_, due) = stream.due.filter(|&(at, _)| at <= now)?;
            stream.due = None;
            Some((stream.id, due))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::ResetStatus;

    fn after(start: Instant, millis: u64) -> Instant {
        start + Duration::from_millis(millis)
    }

    #[test]
    fn a_stream_is_forgotten_once_it_is_closed() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        streams.open(1, false, Some(1), now);
        streams.open(3, false, Some(0), now);
        assert_eq!((streams.of_slot(1), streams.of_slot(0)), (Some(1), Some(3)));
        assert_eq!(streams.latest_first(), [3, 1]);
        let fin = streams.on(1, Event::OurFin).unwrap();
        assert_eq!(fin, (Some(1), Act::SendFin { reply: true }));
        assert_eq!(
            streams.on(1, Event::TheirFin),
            Some((Some(1), Act::EndInput))
        );
        assert_eq!(streams.on(1, Event::Data), None);
        assert_eq!(streams.of_slot(1), None);
        assert!(streams.get(3).is_some());
    }

    #[test]
    fn the_lowest_free_pair_is_taken() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        assert_eq!(streams.free_pair(|_| true), Some(0));
        for (id, slot) in [(1, 1), (3, 0), (5, 3)] {
            streams.open(id, false, Some(slot), now);
        }
        assert_eq!(streams.free_pair(|_| true), Some(4));
        assert_eq!(
            streams.free_pair(|slot| slot > 4),
            Some(6),
            "a handle exists"
        );
        let _ = streams.on(1, Event::TheirReset);
        assert_eq!(streams.free_pair(|_| true), Some(4), "half of it is in use");
        let _ = streams.on(3, Event::TheirReset);
        assert_eq!(streams.free_pair(|_| true), Some(0));
        assert_eq!(streams.free_pair(|_| false), None);
    }

    #[test]
    fn as_many_streams_as_there_may_be() {
        let (mut streams, now) = (Streams::default(), Instant::now());
        for n in 0..MAX_STREAMS as u32 {
            assert!(!streams.are_full());
            streams.open(2 * n + 1, false, Some(n as u8), now);
        }
        assert!(streams.are_full());
        assert_eq!(streams.free_pair(|_| true), None);
        let _ = streams.on(99, Event::OurReset(ResetStatus::Cancel));
        assert!(!streams.are_full());
    }

    #[test]
    fn an_answer_is_due_until_it_is_there() {
        let (mut streams, start) = (Streams::default(), Instant::now());
        for id in [1, 3] {
            streams.open(id, false, None, start);
            assert_eq!(streams.wait_for_answer(id, start), start + LATE);
        }
        let _ = streams.on(1, Event::Reply);
        assert_eq!(streams.next_due(), Some(start + LATE));
        assert_eq!(streams.expire(after(start, 24_999)), None);
        assert!(!streams.is_late(3, after(start, 24_999)));
        assert!(streams.is_late(3, after(start, 25_000)));
        assert!(!streams.is_late(1, after(start, 25_000)), "it was answered");
        assert_eq!(streams.expire(after(start, 25_000)), Some((3, Due::Answer)));
        assert_eq!(streams.next_due(), None);
    }

    #[test]
    fn a_fin_waits_while_an_upload_is_in_flight() {
        let (mut streams, start) = (Streams::default(), Instant::now());
        streams.open(1, false, None, start);
        let _ = streams.on(1, Event::Reply);
        assert!(!streams.wait_for_quiet(1, start), "no data has come");
        streams.heard(1, start);
        assert!(!streams.wait_for_quiet(1, after(start, 50)));
        assert!(streams.wait_for_quiet(1, after(start, 49)));
        assert_eq!(streams.next_due(), Some(after(start, 50)));
        streams.heard(1, after(start, 30));
        assert_eq!(streams.expire(after(start, 50)), Some((1, Due::Fin)));
        assert!(streams.wait_for_quiet(1, after(start, 50)));
        assert_eq!(streams.next_due(), Some(after(start, 80)));
        assert_eq!(streams.expire(after(start, 80)), Some((1, Due::Fin)));
        assert!(!streams.wait_for_quiet(1, after(start, 80)));
        // The upload is over.
        streams.heard(1, after(start, 80));
        let _ = streams.on(1, Event::TheirFin);
        assert!(!streams.wait_for_quiet(1, after(start, 80)));
    }
}
