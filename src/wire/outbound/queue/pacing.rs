//! The pacing of frames to a Go client, which stops reading if one of its streams is not read.
//!
//! What may be in flight is up to [`Pace`]. Here, every frame is counted when it is queued, PINGs are
//! queued behind data, and frames without a place in the client's queue are held until it has one.

use std::time::Duration;

use tokio::time::Instant;

use super::SendQueue;
use crate::{
    policy::after,
    spdy::{self, Pace, queue_of},
};

/// The time that a client has to answer the first PINGs. One that answers none is not paced until it
/// does: it may be none of Go's, and would wait for ever.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pacing of a session; see the module's documentation.
#[derive(Debug)]
pub(super) struct Pacing {
    pace: Pace,
    /// Frames that have no place in their queues. There are a few of them for each stream.
    held: Vec<u8>,
    /// The time of the first PING.
    since: Option<Instant>,
    /// Set until the driver knows of that time.
    began: bool,
}

impl Pacing {
    /// Notes that a PING is on its way.
    fn asked(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
            self.began = true;
        }
    }

    /// Counts a frame that is not data, if it has a place in its queue. Returns whether it has.
    fn takes_place(&mut self, frame: &[u8]) -> bool {
        if let Some(stream) = spdy::own_stream(frame) {
            let queue = queue_of(stream);
            let has_place = self.pace.has_place(queue);
            if has_place {
                self.pace.sent(queue);
            }
            return has_place;
        }
        if !spdy::is_ping(frame) {
            return true;
        }
        let may_answer = self.pace.may_answer();
        if may_answer {
            self.pace.answered_theirs();
        }
        may_answer
    }
}

impl SendQueue {
    /// Paces what is sent from now on.
    pub(in crate::wire::outbound) fn pace(&mut self) {
        self.pacing = Some(Box::new(Pacing {
            pace: Pace::new(),
            held: Vec::new(),
            since: None,
            began: false,
        }));
    }

    /// Returns whether a write that takes a frame of its own has to wait until the client has
    /// confirmed frames of this channel.
    #[inline]
    pub(in crate::wire::outbound) fn is_paced(&self, channel: u8) -> bool {
        let pacing = self.pacing.as_ref();
        pacing.is_some_and(|pacing| self.lacks_place(pacing, channel))
    }

    /// Returns whether a write of `len` bytes has to wait until the client has confirmed frames of
    /// this channel.
    #[inline]
    pub(in crate::wire::outbound) fn is_write_paced(&self, channel: u8, len: usize) -> bool {
        // A write that makes the queue large enough to leave still takes a frame of its own. There is
        // a place for that one.
        self.is_paced(channel) && !self.merges(channel, len)
    }

    // A function of its own, because most sessions are not paced.
    #[inline(never)]
    fn lacks_place(&self, pacing: &Pacing, channel: u8) -> bool {
        let stream = self.budget.stream(channel);
        stream.is_some_and(|stream| !pacing.pace.admits(queue_of(stream)))
    }

    /// Returns whether a reply on a stream would wait in the client behind data that is not confirmed,
    /// and perhaps not read.
    pub(in crate::wire::outbound) fn stands_still(&self, stream: u32) -> bool {
        let pacing = self.pacing.as_ref();
        pacing.is_some_and(|pacing| !pacing.pace.admits(queue_of(stream)))
    }

    /// Counts DATA frames of a stream, with a payload of `len` bytes in all.
    pub(super) fn count_data(&mut self, stream: u32, frames: usize, len: usize) {
        if let Some(pacing) = &mut self.pacing {
            pacing.pace.sent_data(queue_of(stream), frames, len);
        }
    }

    /// Returns the largest payload of the next DATA frame of this channel. Messages of channels that
    /// are no streams have no such bound.
    pub(in crate::wire::outbound) fn largest_data(&self, channel: u8) -> usize {
        let pacing = self.pacing.as_ref().zip(self.budget.stream(channel));
        pacing.map_or(spdy::LARGEST_DATA, |(pacing, stream)| {
            pacing.pace.largest(queue_of(stream))
        })
    }

    /// Queues the PINGs that data of a stream asks for.
    pub(super) fn ask(&mut self, stream: u32) {
        let queue = queue_of(stream);
        loop {
            let Some(pacing) = &mut self.pacing else {
                return;
            };
            if !pacing.pace.wants_ping(queue) {
                return;
            }
            let id = self.said.next_ping();
            let now = Instant::now();
            if !pacing.pace.ask(queue, id, now) {
                return;
            }
            pacing.asked(now);
            self.append_frame(|out| spdy::ping(out, id));
        }
    }

    /// Counts a PING of the keep-alive. Returns whether a reader that stands still may hold its answer
    /// back, or `None` if the client has no place for it.
    pub(super) fn beat(&mut self, id: u32) -> Option<bool> {
        let Some(pacing) = &mut self.pacing else {
            return Some(self.budget.accepted() > 0);
        };
        let now = Instant::now();
        let waits = pacing.pace.beat(id, now);
        // It takes a place in a queue as well, and a client that never answers leaves none in the end.
        pacing.asked(now);
        waits
    }

    /// Counts a frame for the queue in which the least waits, and returns that queue, if this session
    /// is paced.
    pub(super) fn nudge_queue(&mut self) -> Option<usize> {
        self.pacing.as_mut().map(|pacing| pacing.pace.nudge())
    }

    /// Queues the PINGs for data that has left on its way around the queue.
    pub(in crate::wire::outbound) fn ask_for(&mut self, channel: u8) {
        if self.pacing.is_some()
            && let Some(stream) = self.budget.stream(channel)
        {
            self.ask(stream);
        }
    }

    /// Queues frames that have a place in their queues, and holds the others.
    pub(super) fn push_paced(&mut self, frames: &[u8]) {
        let (mut from, mut to) = (0, 0);
        while let Some(pacing) = &mut self.pacing
            && to < frames.len()
        {
            let frame = spdy::first_own_frame(&frames[to..]);
            let has_place = pacing.takes_place(frame);
            if !has_place {
                pacing.held.extend_from_slice(frame);
            }
            // In the middle of many frames as well, or they would leave no place for a PING.
            let asks = pacing.pace.wants_pings();
            let end = to + frame.len();
            if has_place {
                to = end;
            }
            if asks || !has_place {
                self.append(&frames[from..to]);
                (from, to) = (end, end);
            }
            if asks {
                self.ask_for_all();
            }
        }
        self.append(&frames[from..]);
        self.ask_for_all();
    }

    fn ask_for_all(&mut self) {
        for queue in 0..spdy::QUEUES as u32 {
            self.ask(queue);
        }
    }

    /// Returns the number of bytes that are held.
    pub(super) fn held(&self) -> usize {
        self.pacing.as_ref().map_or(0, |pacing| pacing.held.len())
    }

    /// Notes the answer to a PING, and returns whether pacing has sent it. The writers that wait for
    /// one are woken at the end of the turn.
    pub(in crate::wire::outbound) fn answered(&mut self, ping: u32) -> bool {
        let Some(pacing) = &mut self.pacing else {
            return false;
        };
        let asked = pacing.pace.confirmed(ping, Instant::now());
        if asked {
            self.release_held();
        }
        asked
    }

    fn release_held(&mut self) {
        let Some(pacing) = &mut self.pacing else {
            return;
        };
        let held = std::mem::take(&mut pacing.held);
        self.push_paced(&held);
    }

    /// Stops or continues pacing while this end does not read.
    pub(in crate::wire::outbound) fn pause_pacing(&mut self, paused: bool) {
        let Some(pacing) = &mut self.pacing else {
            return;
        };
        let changed = match paused {
            true => {
                pacing.pace.pause();
                true
            }
            false => pacing.pace.resume(),
        };
        if changed {
            // What was asked before counts no more, and the pause is not the client's.
            pacing.since = None;
            self.release_held();
        }
    }

    /// Returns whether the first PING was queued since the last call, so that the driver has to set
    /// [a deadline](Self::pacing_due).
    pub(in crate::wire::outbound) fn take_began(&mut self) -> bool {
        let pacing = self.pacing.as_mut();
        pacing.is_some_and(|pacing| std::mem::take(&mut pacing.began))
    }

    /// Returns the instant at which pacing ends unless the client has answered, if it has not.
    pub(in crate::wire::outbound) fn pacing_due(&self) -> Option<Instant> {
        let pacing = self.pacing.as_ref()?;
        let since = pacing.since.filter(|_| pacing.pace.is_unanswered())?;
        Some(after(since, PATIENCE))
    }

    /// Stops pacing if the client has not answered in time.
    pub(in crate::wire::outbound) fn expire_pacing(&mut self, now: Instant) {
        if self.pacing_due().is_some_and(|due| due <= now)
            && let Some(pacing) = &mut self.pacing
        {
            pacing.pace.turn_off();
            self.release_held();
        }
    }
}
