//! The frames that are in flight to each queue of the peer, and the PINGs that confirm them.
//!
//! A Go client puts the frames of a stream into one of five queues, by the stream's number, of 50
//! frames each. One goroutine serves each queue, and waits while a local reader stands still. When
//! one queue is full, the client reads *nothing* any more, for any stream. It sends no window
//! updates, but it answers PINGs: the first that it receives behind queue 0, the next behind queue 1,
//! and so on. An answer therefore says that everything in that queue up to the PING was delivered.
//! Frames count, whatever their length. How large they are is [adapted](Queue::adapt) to how quickly a
//! queue is read.
//!
//! ```text
//!   we send      D3 D3 P D1 P D3 P P P        (D: data of a stream, P: a PING)
//!   their queue   3  3 0  1 1  3 2 3 4
//! ```
//!
//! This end sends no more than [`CAP`] frames to a queue that are not confirmed, so that a queue
//! which stands still is never full. Each PING takes a place in its queue as well, an answer to a
//! PING of the client's included. While a queue stands still, the others need PINGs too, and every
//! fifth of them ends up in that queue. [`SLOTS`] bounds those. Once they are used up, there are no
//! more PINGs, and this end is *blind*: it paces the queues that owe an answer, and no others.
//!
//! The streams of the other queues are promised this:
//!
//! | local readers that stand still | the other queues |
//! |---|---|
//! | one | go on for good |
//! | several, if each of them stopped before this end was blind | go on for good |
//! | one more, which stops while this end is blind | stop once its queue is full, until it reads on |
//!
//! This end becomes blind once another queue has taken about 14 times [`ASK`] frames since the first
//! reader stopped, which are 8 MiB of a download in frames of 32 KiB. It is earlier if either end sends
//! PINGs for its keep-alive: every fifth takes a place in that queue. This end sees again as soon as that
//! reader reads.
//!
//! While this end does not read, it sees no answers, and the client may be unable to write them
//! until this end reads again. So nothing is paced then, or two ends that both write would wait for
//! each other. The counts begin anew afterwards, and a queue that stood still before may be filled.
//!
//! Neither is anything paced for a client that does not answer the first PINGs in time: it may be none of
//! Go's, and this end would wait for its answers for ever. If one comes later, its reader was slow, and
//! the counts begin anew as well.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// The number of the queues of spdystream (`FRAME_WORKERS`).
pub(crate) const QUEUES: usize = 5;

/// The most frames in a queue that are not confirmed. Its size is 50 (`QUEUE_SIZE`).
const CAP: u32 = 36;

/// The most frames of any kind in a queue. What is above [`CAP`] is for replies, FINs, resets and
/// PINGs. With one more in the hands of the goroutine, spdystream stops at the 52nd.
const SLOTS: u32 = 50;

/// The number of frames that asks for a PING behind them: half of [`CAP`], so that the other half
/// keeps the connection busy for the round trip that the answer takes.
const ASK: u32 = 18;

/// The largest payloads of a DATA frame: the least, the first, and the most.
///
/// A client pays for each frame, and kubectl takes half as much again in frames of 256 KiB as in those
/// of 32 KiB (`benches/kubectl/run`). But everything else in a queue waits for what is in front of it,
/// and a client gives up a reply after 30 seconds. So the frames grow while answers come quickly, and
/// shrink while they do not: [`CAP`] of the least take 10 seconds at 30 KiB/s.
pub(crate) const LEAST_DATA: usize = 8 * 1024;
const FIRST: usize = 32 * 1024;
pub(crate) const LARGEST_DATA: usize = 256 * 1024;

/// Frames grow while answers take less than this, which is more than the round trip to another
/// continent.
const QUICK: Duration = Duration::from_millis(500);

/// The data that has to be read quickly before frames grow: more than the buffers of a local connection
/// take, 4 and 6 MiB with the defaults of Linux, whose reader may be slow.
const MUCH: u64 = 16 * 1024 * 1024;

/// Frames shrink if an answer takes more than this.
const SLOW: Duration = Duration::from_secs(1);

/// The queue of a stream.
pub(crate) fn queue_of(stream: u32) -> usize {
    stream as usize % QUEUES
}

/// Counts of one queue, which only grow, and wrap.
#[derive(Clone, Copy, Debug)]
struct Queue {
    /// Everything that was sent to it.
    sent: u32,
    /// The part of that which was confirmed.
    confirmed: u32,
    /// The part of it that has a PING behind it.
    asked: u32,
    /// The payload of the DATA frames among what was sent, and of those that were confirmed.
    data: u64,
    confirmed_data: u64,
    /// The part of that data which was read quickly, since the size of frames has changed.
    quick: u64,
    /// The largest payload of a DATA frame.
    largest: usize,
    /// Set if frames that were not counted may still be in it.
    uncounted: bool,
}

impl Queue {
    const NEW: Self = Self {
        sent: 0,
        confirmed: 0,
        asked: 0,
        data: 0,
        confirmed_data: 0,
        quick: 0,
        largest: FIRST,
        uncounted: false,
    };

    /// Adapts the size of frames to the time that an answer took, which confirms this much data.
    fn adapt(&mut self, data: u64, took: Duration) {
        if took > SLOW {
            self.largest = (self.largest / 2).max(LEAST_DATA);
            self.quick = 0;
        } else if took < QUICK {
            self.quick += data;
            if self.quick >= MUCH {
                self.largest = (2 * self.largest).min(LARGEST_DATA);
                self.quick = 0;
            }
        }
    }

    /// Returns whether the client may still have frames in it that its reader has not taken.
    fn may_wait(&self) -> bool {
        self.uncounted || self.unconfirmed() > 0
    }

    fn unconfirmed(&self) -> u32 {
        self.sent.wrapping_sub(self.confirmed)
    }

    /// Returns whether the answer to a PING is still to come.
    fn owes_answer(&self) -> bool {
        self.asked != self.confirmed
    }
}

/// A PING that was not answered yet.
#[derive(Clone, Copy, Debug)]
struct Asked {
    id: u32,
    queue: usize,
    /// The count of the queue that the answer confirms.
    sent: u32,
    /// The data of the queue that the answer confirms.
    data: u64,
    at: Instant,
}

/// The pace of one connection; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Pace {
    queues: [Queue; QUEUES],
    /// The queue of the next PING.
    phase: usize,
    asked: VecDeque<Asked>,
    /// Set while a queue that stands still leaves no place for PINGs.
    blind: bool,
    /// This end does not read at the moment.
    paused: bool,
    /// The client has answered a PING.
    answered: bool,
    /// The number of PINGs whose answers are still to come, but tell nothing any more.
    forgotten: u32,
    /// The client does not answer PINGs, or not like spdystream.
    off: bool,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self {
            queues: [Queue::NEW; QUEUES],
            phase: 0,
            asked: VecDeque::new(),
            blind: false,
            paused: false,
            answered: false,
            forgotten: 0,
            off: false,
        }
    }

    /// Returns whether a frame for this queue may be sent now. If not, an answer to a PING changes
    /// this, and only that.
    #[inline]
    pub(crate) fn admits(&self, queue: usize) -> bool {
        self.queues[queue].unconfirmed() < CAP || self.is_free(queue)
    }

    /// Returns the largest payload of a DATA frame for this queue.
    #[inline]
    pub(crate) fn largest(&self, queue: usize) -> usize {
        match self.off {
            true => FIRST,
            false => self.queues[queue].largest,
        }
    }

    /// Notes that DATA frames with this payload are in front of everything that follows.
    #[inline]
    pub(crate) fn sent_data(&mut self, queue: usize, frames: usize, len: usize) {
        for _ in 0..frames {
            self.sent(queue);
        }
        if !self.is_free(queue) {
            self.queues[queue].data += len as u64;
        }
    }

    /// Returns whether a frame other than data has a place in this queue.
    pub(crate) fn has_place(&self, queue: usize) -> bool {
        self.queues[queue].unconfirmed() < SLOTS || self.is_free(queue)
    }

    /// Returns whether this queue is not paced.
    fn is_free(&self, queue: usize) -> bool {
        self.is_off() || (self.blind && !self.queues[queue].owes_answer())
    }

    /// Returns whether nothing is paced.
    fn is_off(&self) -> bool {
        self.off || self.paused
    }

    /// Notes that a frame for this queue is in front of everything that follows.
    #[inline]
    pub(crate) fn sent(&mut self, queue: usize) {
        // Frames that are not paced are not counted: no PING would ever confirm them.
        let is_free = self.is_free(queue);
        let queue = &mut self.queues[queue];
        match is_free {
            true => queue.uncounted = true,
            false => queue.sent = queue.sent.wrapping_add(1),
        }
    }

    /// Returns whether a PING of the client's may be answered now. The answer goes into the queue
    /// whose turn it is, and must not fill it. A client waits for it without a limit.
    pub(crate) fn may_answer(&self) -> bool {
        self.has_place(self.phase)
    }

    /// Notes that a PING of the client's is answered.
    pub(crate) fn answered_theirs(&mut self) {
        self.sent(self.phase);
        self.phase = (self.phase + 1) % QUEUES;
    }

    /// Returns whether a queue has enough frames behind its last PING to ask for another one.
    #[inline]
    pub(crate) fn wants_ping(&self, queue: usize) -> bool {
        let queue = &self.queues[queue];
        !self.is_off() && queue.sent.wrapping_sub(queue.asked) >= ASK
    }

    /// Returns whether any queue has enough frames to ask for a PING.
    pub(crate) fn wants_pings(&self) -> bool {
        (0..QUEUES).any(|queue| self.wants_ping(queue))
    }

    /// Counts the next PING, with the number `id`, on the way to one that lands in `queue`. Returns
    /// whether it has to be sent. Call it until it does not.
    ///
    /// It does not have to at once if a PING would take the last place of another queue.
    pub(crate) fn ask(&mut self, queue: usize, id: u32, now: Instant) -> bool {
        if !self.wants_ping(queue) {
            return false;
        }
        let way = (queue + QUEUES - self.phase) % QUEUES;
        for step in 0..=way {
            let passed = &self.queues[(self.phase + step) % QUEUES];
            if passed.unconfirmed() >= SLOTS {
                // A PING is among them, because each `ASK` frames ask for one.
                self.blind = true;
                return false;
            }
        }
        self.put(id, now);
        true
    }

    /// Counts a PING of the keep-alive. Returns whether a reader that stands still may hold its answer
    /// back, or `None` if it has no place, because a full queue has to go on first.
    pub(crate) fn beat(&mut self, id: u32, now: Instant) -> Option<bool> {
        if !self.may_answer() {
            return None;
        }
        let waits = self.queues[self.phase].may_wait();
        self.put(id, now);
        Some(waits && !self.off)
    }

    /// Counts a frame for the queue in which the least waits, and returns that queue.
    pub(crate) fn nudge(&mut self) -> usize {
        let waiting = |queue: &usize| {
            let queue = &self.queues[*queue];
            (queue.uncounted, queue.unconfirmed())
        };
        let queue = (0..QUEUES).min_by_key(waiting).unwrap_or_default();
        // The client takes it out of an empty queue at once. If all are full, the client has stopped
        // reading, and it waits on the way.
        if self.queues[queue].may_wait() && self.has_place(queue) {
            self.sent(queue);
        }
        queue
    }

    /// Counts a PING for the queue whose turn it is.
    fn put(&mut self, id: u32, now: Instant) {
        let at = self.phase;
        self.answered_theirs();
        if self.is_free(at) {
            // It was not counted.
            return;
        }
        let queue = &mut self.queues[at];
        queue.asked = queue.sent;
        self.asked.push_back(Asked {
            id,
            queue: at,
            sent: queue.sent,
            data: queue.data,
            at: now,
        });
    }

    /// Notes the answer to a PING of ours, after which each queue may [ask](Pace::ask) again. Returns
    /// whether there was such a PING.
    pub(crate) fn confirmed(&mut self, id: u32, now: Instant) -> bool {
        let Some(asked) = self.asked.iter().find(|asked| asked.id == id).copied() else {
            let is_late = self.forgotten > 0;
            self.forgotten = self.forgotten.saturating_sub(1);
            self.answered |= is_late;
            if is_late && self.off {
                self.off = false;
                self.begin_anew();
            }
            return is_late;
        };
        self.answered = true;
        // Answers of one queue come in order. One that did not come tells nothing new any more.
        let is_newer = |other: &Asked| other.sent.wrapping_sub(asked.sent) as i32 > 0;
        self.asked
            .retain(|other| other.queue != asked.queue || is_newer(other));
        let queue = &mut self.queues[asked.queue];
        let took = now.saturating_duration_since(asked.at);
        queue.adapt(asked.data.saturating_sub(queue.confirmed_data), took);
        queue.uncounted = false;
        // Wrapping comparison: the answer may be older than one that has come already.
        if asked.sent.wrapping_sub(queue.confirmed) <= queue.unconfirmed() {
            queue.confirmed = asked.sent;
            queue.confirmed_data = asked.data;
        }
        let is_full = |queue: &Queue| queue.unconfirmed() >= SLOTS;
        self.blind = self.blind && self.queues.iter().any(is_full);
        true
    }

    /// Notes that this end does not read for a while.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Notes that this end reads again. Frames that were sent without being paced count no longer,
    /// because too few PINGs are behind them. Returns whether they did.
    pub(crate) fn resume(&mut self) -> bool {
        let was_paused = self.paused;
        if was_paused {
            self.paused = false;
            self.begin_anew();
        }
        was_paused
    }

    /// Begins the counts anew, after a time in which nothing was paced.
    fn begin_anew(&mut self) {
        let kept = |queue: &Queue| Queue {
            largest: queue.largest,
            uncounted: queue.may_wait(),
            ..Queue::NEW
        };
        *self = Self {
            queues: self.queues.each_ref().map(kept),
            phase: self.phase,
            paused: self.paused,
            answered: self.answered,
            off: self.off,
            forgotten: self.forgotten.saturating_add(self.asked.len() as u32),
            ..Self::new()
        };
    }

    /// Returns whether the client has answered none of our PINGs, although there were some.
    pub(crate) fn is_unanswered(&self) -> bool {
        !self.answered && !self.asked.is_empty() && !self.is_off()
    }

    /// Stops pacing, because the client has not answered. An answer that comes later begins it anew.
    pub(crate) fn turn_off(&mut self) {
        self.off = true;
        self.forgotten = self.forgotten.saturating_add(self.asked.len() as u32);
        self.asked = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Instant {
        Instant::now()
    }

    /// spdystream's client, with the length of each of its queues.
    struct Client {
        queues: [VecDeque<Option<u32>>; QUEUES],
        phase: usize,
        stalled: Vec<usize>,
        next: u32,
    }

    impl Client {
        fn new(stalled: Option<usize>) -> Self {
            Self {
                queues: Default::default(),
                phase: 0,
                stalled: stalled.into_iter().collect(),
                next: 2,
            }
        }

        fn data(&mut self, queue: usize) {
            self.queues[queue].push_back(None);
        }

        fn ping(&mut self, id: u32) {
            self.queues[self.phase].push_back(Some(id));
            self.phase = (self.phase + 1) % QUEUES;
        }

        /// Serves every queue but the stalled ones, and returns the PINGs that it answers.
        fn serve(&mut self) -> Vec<u32> {
            let stalled = &self.stalled;
            let queues = self.queues.iter_mut().enumerate();
            let served = queues.filter(|(queue, _)| !stalled.contains(queue));
            served
                .flat_map(|(_, queue)| queue.drain(..).flatten())
                .collect()
        }

        fn longest(&self) -> usize {
            self.queues.iter().map(VecDeque::len).max().unwrap_or(0)
        }
    }

    fn send(pace: &mut Pace, client: &mut Client, queue: usize) -> bool {
        if !pace.admits(queue) {
            return false;
        }
        pace.sent_data(queue, 1, pace.largest(queue));
        client.data(queue);
        while pace.ask(queue, client.next, now()) {
            client.ping(client.next);
            client.next += 2;
        }
        true
    }

    #[test]
    fn a_reader_that_reads_is_never_held_up() {
        let (mut pace, mut client) = (Pace::new(), Client::new(None));
        for n in 0..10_000 {
            assert!(send(&mut pace, &mut client, n % 3), "{n}");
            if n % 10 == 0 {
                for id in client.serve() {
                    pace.confirmed(id, now());
                }
            }
        }
        assert!(client.longest() < 50);
    }

    #[test]
    fn a_reader_that_stands_still_fills_no_queue() {
        for stalled in 0..QUEUES {
            let (mut pace, mut client) = (Pace::new(), Client::new(Some(stalled)));
            let mut held = 0;
            for n in 0..1_000 {
                let queue = n % QUEUES;
                if !send(&mut pace, &mut client, queue) {
                    held += 1;
                    assert_eq!(queue, stalled, "at {n}");
                }
                for id in client.serve() {
                    pace.confirmed(id, now());
                }
                assert!(client.longest() <= SLOTS as usize, "{stalled} at {n}");
            }
            assert!(held > 0);
        }
    }

    fn serve(pace: &mut Pace, client: &mut Client) {
        for id in client.serve() {
            pace.confirmed(id, now());
        }
    }

    /// Stalls the reader of one queue, and that of another one once that queue has taken `between`
    /// frames. Returns whether the other three queues go on for good.
    fn others_go_on(first: usize, second: usize, between: u32) -> bool {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(first)));
        while send(&mut pace, &mut client, first) {
            serve(&mut pace, &mut client);
        }
        for _ in 0..between {
            assert!(send(&mut pace, &mut client, second));
            serve(&mut pace, &mut client);
        }
        client.stalled.push(second);
        for n in 0..2_000 {
            let queue = n % QUEUES;
            let sent = send(&mut pace, &mut client, queue);
            assert!(sent || client.stalled.contains(&queue), "{queue} at {n}");
            serve(&mut pace, &mut client);
            if client.longest() > SLOTS as usize {
                return false;
            }
        }
        true
    }

    #[test]
    fn two_readers_that_stall_one_after_the_other_leave_the_others_running() {
        let queues = (0..QUEUES).flat_map(|first| (0..QUEUES).map(move |second| (first, second)));
        for (first, second) in queues.filter(|(first, second)| first != second) {
            // The last PING that has a place is for the second reader.
            let last = (SLOTS - CAP - 1) * ASK;
            for between in (0..=last).step_by(13) {
                let on = others_go_on(first, second, between);
                assert!(on, "{first}, then {second} after {between}");
            }
        }
    }

    #[test]
    fn a_second_reader_that_stalls_may_go_on_before_the_first() {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(1)));
        while send(&mut pace, &mut client, 1) {
            serve(&mut pace, &mut client);
        }
        client.stalled.push(3);
        for n in 0..2_000 {
            send(&mut pace, &mut client, n % QUEUES);
            serve(&mut pace, &mut client);
        }
        assert!(pace.blind && !pace.admits(1) && !pace.admits(3));
        client.stalled.retain(|queue| *queue == 1);
        serve(&mut pace, &mut client);
        for n in 0..1_000 {
            assert!(send(&mut pace, &mut client, 3), "{n}");
            serve(&mut pace, &mut client);
        }
        assert!(pace.blind && !pace.admits(1));
    }

    #[test]
    fn a_queue_that_stood_still_for_long_opens_again() {
        for stalled in 0..QUEUES {
            let (mut pace, mut client) = (Pace::new(), Client::new(Some(stalled)));
            for n in 0..1_000 {
                send(&mut pace, &mut client, n % QUEUES);
                for id in client.serve() {
                    pace.confirmed(id, now());
                }
            }
            client.stalled.clear();
            for n in 0..1_000 {
                for id in client.serve() {
                    pace.confirmed(id, now());
                }
                let queue = (stalled + n) % QUEUES;
                assert!(
                    send(&mut pace, &mut client, queue),
                    "{stalled}: {queue} at {n}"
                );
                assert!(client.longest() <= SLOTS as usize);
            }
        }
    }

    #[test]
    fn a_full_queue_opens_again_at_the_answer() {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(1)));
        while send(&mut pace, &mut client, 1) {}
        assert!(!pace.admits(1) && pace.admits(0));
        client.stalled.clear();
        for id in client.serve() {
            assert!(pace.confirmed(id, now()) && !pace.confirmed(id, now()));
        }
        assert!(pace.admits(1));
        assert!(pace.asked.is_empty());
    }

    #[test]
    fn an_answer_to_a_ping_of_theirs_moves_the_phase() {
        let (mut pace, mut client) = (Pace::new(), Client::new(None));
        assert!(pace.may_answer());
        pace.answered_theirs();
        client.ping(1);
        for _ in 0..ASK {
            send(&mut pace, &mut client, 1);
        }
        // One PING was enough to reach queue 1, whose turn it was.
        assert_eq!(client.queues[1].back(), Some(&Some(2)));
        assert!(!pace.confirmed(1, now()), "not one of ours");
    }

    #[test]
    fn few_pings_wait_for_answers_whatever_is_answered() {
        let (mut pace, mut client) = (Pace::new(), Client::new(None));
        for n in 0..50_000 {
            send(&mut pace, &mut client, 3);
            // The queue of the data alone, and now and then one of the others.
            for (queue, served) in client.queues.iter_mut().enumerate() {
                for id in served.drain(..).flatten() {
                    if queue == 3 || n % 45 == 0 {
                        pace.confirmed(id, now());
                    }
                }
            }
            assert!(pace.asked.len() <= QUEUES * SLOTS as usize, "{n}");
        }
    }

    #[test]
    fn without_answers_it_can_be_turned_off() {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(3)));
        while send(&mut pace, &mut client, 3) {}
        assert!(!pace.has_place(3) || pace.is_unanswered());
        pace.turn_off();
        assert!(pace.admits(3) && !pace.is_unanswered() && !pace.ask(3, 2, now()));
    }

    #[test]
    fn a_late_answer_turns_it_on_again() {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(0)));
        while send(&mut pace, &mut client, 0) {}
        pace.turn_off();
        for _ in 0..100 {
            assert!(send(&mut pace, &mut client, 0), "nothing is paced");
        }
        // Its reader reads on.
        client.stalled.clear();
        serve(&mut pace, &mut client);
        client.stalled.push(0);
        while send(&mut pace, &mut client, 0) {}
        assert!(client.longest() <= SLOTS as usize, "it is paced again");
        client.stalled.clear();
        serve(&mut pace, &mut client);
        // The client answers, so pacing waits for it from now on.
        assert!(pace.admits(0) && !pace.is_unanswered());
        for _ in 0..100 {
            answer_after(&mut pace, &mut client, 0, QUICK / 2);
        }
        assert_eq!(pace.largest(0), LARGEST_DATA);
    }

    #[test]
    fn nothing_is_paced_while_this_end_does_not_read() {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(3)));
        while send(&mut pace, &mut client, 3) {}
        pace.pause();
        assert!(pace.admits(3) && pace.may_answer() && !pace.is_unanswered());
        for _ in 0..100 {
            assert!(send(&mut pace, &mut client, 3));
        }
        let phase = pace.phase;
        assert!(pace.resume() && !pace.resume());
        assert_eq!(pace.phase, phase, "the client counts on");
        client.stalled.clear();
        for id in client.serve() {
            assert!(
                pace.confirmed(id, now()) || id > 100,
                "they were asked, and count no more"
            );
        }
        while send(&mut pace, &mut client, 3) {}
        assert_eq!(client.queues[3].len(), CAP as usize);
    }

    /// Fills a queue, and has every PING answered after this time.
    fn answer_after(pace: &mut Pace, client: &mut Client, queue: usize, took: Duration) {
        while send(pace, client, queue) {}
        for id in client.serve() {
            pace.confirmed(id, now() + took);
        }
    }

    #[test]
    fn frames_are_as_large_as_the_reader_is_fast() {
        let (mut pace, mut client) = (Pace::new(), Client::new(None));
        assert_eq!(pace.largest(3), FIRST);
        for (took, expected) in [(QUICK / 2, LARGEST_DATA), (2 * SLOW, LEAST_DATA)] {
            for _ in 0..100 {
                answer_after(&mut pace, &mut client, 3, took);
            }
            assert_eq!(pace.largest(3), expected, "{took:?}");
            if took < QUICK {
                assert_eq!(pace.largest(1), FIRST, "of another reader");
            }
        }
    }

    #[test]
    fn a_size_stays_while_answers_are_neither_quick_nor_slow() {
        let mut queue = Queue::NEW;
        let moment = Duration::from_nanos(1);
        for (data, took, expected) in [
            (MUCH, QUICK, FIRST),
            (MUCH, SLOW, FIRST),
            (MUCH - 1, QUICK - moment, FIRST),
            (1, QUICK - moment, 2 * FIRST),
            (MUCH - 1, QUICK - moment, 2 * FIRST),
            (1, SLOW + moment, FIRST),
            (MUCH - 1, QUICK - moment, FIRST),
        ] {
            queue.adapt(data, took);
            assert_eq!(queue.largest, expected, "{data} in {took:?}");
        }
    }

    #[test]
    fn a_pause_of_this_end_keeps_the_size_of_frames() {
        let (mut pace, mut client) = (Pace::new(), Client::new(None));
        for _ in 0..10 {
            answer_after(&mut pace, &mut client, 3, 2 * SLOW);
        }
        pace.pause();
        pace.resume();
        assert_eq!(pace.largest(3), LEAST_DATA);
    }

    #[test]
    fn frames_of_a_client_that_answers_late_do_not_grow() {
        let mut pace = Pace::new();
        pace.turn_off();
        assert_eq!(pace.largest(2), FIRST);
    }

    #[test]
    fn a_queue_may_hold_what_was_not_counted() {
        let (mut pace, mut client) = (Pace::new(), Client::new(Some(3)));
        while send(&mut pace, &mut client, 3) {}
        pace.pause();
        pace.resume();
        let (mut waits, mut ids) = (Vec::new(), Vec::new());
        for id in (1002..).step_by(2).take(QUEUES) {
            waits.push((pace.phase, pace.beat(id, now()).unwrap()));
            ids.push(id);
        }
        assert!(waits.contains(&(3, true)), "{waits:?}");
        assert!(waits.iter().any(|(_, waits)| !waits), "{waits:?}");
        for id in ids {
            assert!(pace.confirmed(id, now()));
        }
        assert!(pace.queues.iter().all(|queue| !queue.may_wait()));
    }

    #[test]
    fn a_nudge_goes_where_the_least_waits() {
        let (mut pace, mut client) = (Pace::new(), Client::new(None));
        while send(&mut pace, &mut client, 3) {}
        for _ in 0..1000 {
            assert_ne!(pace.nudge(), 3);
        }
        assert!((0..QUEUES).all(|queue| pace.has_place(queue)));
    }
}
