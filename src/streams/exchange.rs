//! The exchange of frames: what each frame of the peer does, and what this end says.
//!
//! This is the only place that changes the state of a stream. The requests of handles and the service are
//! collected at the end of each round of the session's task: first the verdicts on connections, then
//! the ends of writers. A service that fails drops its writer as well, and must not send a FIN.
//!
//! Frames that answer the peer are collected, and leave together at the end of the read or of the
//! round.

mod opening;
mod rounds;

use std::{sync::Arc, task::Poll};

use tokio::time::Instant;

use self::opening::Postponed;
use super::{handoff::Decided, roles::Roles, streams::Streams};
use crate::{
    error::EndCause,
    mux::Heard,
    spdy::{self, Act, Allowance, Control, Event, Fault, Ids, Inflater},
    wire::{End, Wire},
};

/// The number of bytes of answers that have not left at which no more frames are read that ask for
/// some. A client that does not read its answers stops being read.
const MAX_ANSWERS: usize = 16 * 1024;

/// The number of frames that a peer may send without moving data, and how many each second adds.
/// kubectl sends a PING every ten seconds.
const IDLE_FRAMES: (u32, u32) = (10_000, 200);

/// The number of streams that a peer may reset while the service still works for them, and how many
/// each second adds. An end of kubectl resets up to 254 at once.
const RESETS: (u32, u32) = (1_000, 50);

/// The capacity of the buffer for answers that an idle session keeps.
const KEPT: usize = 64;

/// The exchange; see the module's documentation.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) wire: Arc<Wire>,
    inflater: Inflater,
    ids: Ids,
    streams: Streams,
    roles: Roles,
    /// Set while new streams are accepted.
    accepts: bool,
    postponed: Vec<Postponed>,
    /// Frames that leave at the end of the read or of the round.
    answers: Vec<u8>,
    /// The number of bytes of answers that are in the queue, since the last look.
    unsent: usize,
    idle_frames: Allowance,
    resets: Allowance,
    /// The instant at which the streams of a command have to be open, unless they are.
    missing: Option<Instant>,
    /// The instant at which pacing ends unless the client answers a PING, as of the last round.
    pacing_due: Option<Instant>,
    /// The stream whose DATA frame has not arrived in full.
    amid: Option<u32>,
    /// The channels whose data has gone beyond the window, and the instant at which each is reset
    /// unless it was read meanwhile.
    stalls: Vec<(u8, Instant)>,
    /// The time of this read or round, once something has asked for it.
    now: Option<Instant>,
    /// The number of frames with data that has no reader.
    pub(super) ignored: u64,
    pub(super) heard: Heard,
    /// Empty buffers that are kept for their capacity.
    verdicts: Vec<Decided>,
    ended: Vec<u8>,
}

impl Exchange {
    pub(super) fn new(wire: Arc<Wire>, roles: Roles, now: Instant) -> Self {
        let allowance = |(burst, rate)| Allowance::new(burst, rate, now);
        let missing = match &roles {
            Roles::Command(command) => command.due(now),
            Roles::Ports { .. } => {
                // A client has readers of its own for each connection, and one that stands still
                // must not stop the others. A command has one reader.
                wire.outbound.pace();
                None
            }
        };
        Self {
            wire,
            inflater: Inflater::default(),
            ids: Ids::default(),
            streams: Streams::default(),
            roles,
            accepts: true,
            postponed: Vec::new(),
            answers: Vec::new(),
            unsent: 0,
            idle_frames: allowance(IDLE_FRAMES),
            resets: allowance(RESETS),
            missing,
            pacing_due: None,
            amid: None,
            stalls: Vec::new(),
            now: None,
            ignored: 0,
            heard: Heard::default(),
            verdicts: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Returns whether all streams of a command are open. Connections have none to wait for.
    pub(super) fn is_complete(&self) -> bool {
        match &self.roles {
            Roles::Command(command) => command.is_complete(),
            Roles::Ports { .. } => true,
        }
    }

    /// Returns whether the stream of a channel is open, and this end has not ended it.
    pub(super) fn sends(&self, slot: u8) -> bool {
        let stream = self.streams.of_slot(slot);
        let stream = stream.and_then(|stream| self.streams.get(stream));
        stream.is_some_and(|stream| stream.state.sends())
    }

    /// Returns whether frames that ask for answers have to wait until answers have left.
    pub(super) fn is_congested(&self) -> bool {
        self.unsent + self.answers.len() > MAX_ANSWERS
    }

    /// Returns whether a frame of the peer gets its answer. While the session ends, frames are read
    /// even if their answers do not leave, and then they get none.
    fn has_room_for_answer(&mut self) -> bool {
        if self.is_congested() {
            self.check_congestion();
        }
        !self.is_congested()
    }
}

/// The frames of the peer.
impl Exchange {
    /// Begins a DATA frame, and returns the channel for its payload, if it has a reader.
    pub(super) fn begin_data(&mut self, stream: u32) -> Result<Option<u8>, Fault> {
        let slot = match self.streams.on(stream, Event::Data) {
            Some((slot, Act::Deliver)) => slot,
            _ => None,
        };
        let slot = slot.filter(|&slot| self.wire.inbound.pipe(slot).is_some());
        if slot.is_none() {
            self.ignored += 1;
            self.refuse_postponed(stream);
            // The input of a command flows on when nothing reads it any more. client-go sends it
            // even behind its own FIN, and so for as long as the command runs.
            if stream > self.ids.last() {
                self.count_idle_frame()?;
            }
            return Ok(None);
        }
        self.amid = Some(stream);
        self.note_data(stream);
        Ok(slot)
    }

    /// Ends a DATA frame, which had a payload unless it is `empty`.
    pub(super) fn end_data(&mut self, stream: u32, fin: bool, empty: bool) -> Result<(), Fault> {
        if self.amid.take().is_some() {
            self.note_data(stream);
        }
        let state = self.streams.get(stream).map(|stream| stream.state);
        if fin && state.is_some_and(|state| state.receives()) {
            self.on(stream, Event::TheirFin);
        } else if empty {
            self.refuse_postponed(stream);
            self.count_idle_frame()?;
        }
        Ok(())
    }

    /// Waits for room for data of a channel.
    ///
    /// A connection that is not read must not stop the others, so it gets the reserve at once. All
    /// data of a command is for one service. It gets the reserve only in a pause, because it would
    /// keep a fast upload in memory otherwise.
    pub(super) fn poll_room(&mut self, slot: u8) -> Poll<()> {
        let pipe = self.wire.inbound.pipe(slot);
        let room = pipe.map_or(Poll::Ready(()), |pipe| pipe.poll_room(1));
        match self.roles {
            Roles::Ports { .. } if room.is_pending() => {
                self.note_stall(slot);
                self.wire.inbound.poll_room_or_borrow(slot)
            }
            _ => room,
        }
    }

    /// Extends the window of a channel in a pause. Returns whether there is room now.
    pub(super) fn extend(&self, slot: u8) -> bool {
        match self.roles {
            Roles::Ports { .. } => self.wire.inbound.extend_connection(slot),
            Roles::Command(_) => self.wire.inbound.extend(slot),
        }
    }

    /// Notes that data of a stream has arrived, where it matters.
    fn note_data(&mut self, stream: u32) {
        if let Roles::Ports { .. } = self.roles {
            let now = self.now();
            self.streams.heard(stream, now);
        }
    }

    /// Handles a frame without data.
    pub(super) fn control(&mut self, control: Control<'_>) -> Result<(), Fault> {
        match control {
            Control::SynStream {
                stream,
                fin,
                unidirectional,
                block,
            } => return self.open(stream, fin, unidirectional, block),
            Control::Block { block } => {
                self.inflater.block(block)?;
                self.count_idle_frame()?;
            }
            Control::RstStream { stream } => return self.reset_by_them(stream),
            Control::Ping { id } if id.is_multiple_of(2) => {
                let Some(mark) = self.wire.outbound.answered(id) else {
                    return self.count_idle_frame();
                };
                self.heard.pong = self.heard.pong.max(Some(mark));
            }
            Control::Ping { id } => {
                if self.has_room_for_answer() {
                    spdy::ping(&mut self.answers, id);
                }
                self.count_idle_frame()?;
            }
            Control::GoAway => {
                self.accept_no_more();
                self.heard.close.get_or_insert(EndCause::PeerClosed {
                    code: None,
                    reason: "".into(),
                });
            }
        }
        Ok(())
    }

    /// Handles a frame that is skipped.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        self.count_idle_frame()
    }

    fn count_idle_frame(&mut self) -> Result<(), Fault> {
        match self.idle_frames.spend(Instant::now) {
            true => Ok(()),
            false => Err(Fault::new("too many frames that move no data")),
        }
    }

    fn reset_by_them(&mut self, stream: u32) -> Result<(), Fault> {
        let Some(state) = self.streams.get(stream).map(|stream| stream.state) else {
            self.forget_postponed(stream);
            return self.count_idle_frame();
        };
        // A reset behind our own end is how kubectl closes a connection.
        if state.sends() && !self.resets.spend(Instant::now) {
            return Err(Fault::new("too many streams that are reset"));
        }
        let slot = self.streams.get(stream).and_then(|stream| stream.slot);
        let half = self.forget_half(stream);
        self.on(stream, Event::TheirReset);
        if let (Some(_), Some(slot)) = (half, slot) {
            self.abandon(slot);
        }
        Ok(())
    }
}

/// The consequences for handles, and the answers.
impl Exchange {
    /// Moves a stream on, and carries out the consequence.
    fn on(&mut self, stream: u32, event: Event) {
        let Some((slot, act)) = self.streams.on(stream, event) else {
            return;
        };
        match act {
            Act::Nothing | Act::Deliver | Act::Discard => {}
            Act::EndInput => self.end_input(slot),
            Act::Fail => self.fail_handles(slot),
            Act::SendReply => self.reply(stream),
            Act::SendFin { reply } => {
                if reply {
                    self.reply(stream);
                }
                if let Some(slot) = slot {
                    // First, so that no other task writes behind the FIN.
                    self.wire.outbound.finish(slot);
                }
                spdy::fin(&mut self.answers, stream);
            }
            Act::SendReset(status) => {
                self.fail_handles(slot);
                spdy::rst_stream(&mut self.answers, stream, status);
            }
        }
        self.follow(stream, slot);
        if let Act::Fail | Act::SendReset(_) = act {
            self.withdraw(stream);
        }
    }

    /// Ends the error stream of a connection whose data stream has ended. kubectl waits for this
    /// before it closes the local connection, and the service may run on for long.
    fn follow(&mut self, stream: u32, slot: Option<u8>) {
        let Some(slot) = slot.filter(|slot| slot.is_multiple_of(2)) else {
            return;
        };
        let Roles::Ports { .. } = self.roles else {
            return;
        };
        let Some(error) = self.streams.of_slot(slot + 1) else {
            return;
        };
        match self.streams.get(stream) {
            Some(data) if data.state.sends() => {}
            // kubectl ends its own direction only once both streams have ended. Up to 1.31, it does
            // not even reset the data stream.
            Some(_) => self.on(error, Event::OurFin),
            // An error of the service may still follow.
            None => {
                let now = self.now();
                self.streams.wait_to_end(error, now);
            }
        }
    }

    fn end_input(&self, slot: Option<u8>) {
        if let Some(pipe) = slot.and_then(|slot| self.wire.inbound.pipe(slot)) {
            pipe.end(End::Eof);
        }
    }

    fn fail_handles(&self, slot: Option<u8>) {
        let Some(slot) = slot else { return };
        if let Some(pipe) = self.wire.inbound.pipe(slot) {
            pipe.end(End::Reset);
        }
        self.wire.outbound.reset(slot);
    }

    fn reply(&mut self, stream: u32) {
        self.flush();
        self.unsent = self.wire.outbound.reply(stream);
    }

    /// Queues the answers that have come together.
    pub(super) fn flush(&mut self) {
        self.now = None;
        if !self.answers.is_empty() {
            self.unsent = self.wire.outbound.push_frames(&self.answers);
            self.answers.clear();
            // An idle session keeps no room for them.
            self.answers.shrink_to(KEPT);
        }
    }

    /// Looks at the answers that have not left.
    pub(super) fn check_congestion(&mut self) {
        self.unsent = self.wire.outbound.queued_frames();
    }

    /// Accepts no more streams, and lets the service end once it is done with those that it has.
    pub(super) fn accept_no_more(&mut self) {
        self.accepts = false;
        if let Roles::Ports { handoff, .. } = &self.roles {
            handoff.end();
        }
    }
}
