//! The requests of this end: verdicts of the service, ends of writers, and deadlines.

use std::mem;

use tokio::time::Instant;

use super::{Exchange, Roles};
use crate::{
    error::EndCause,
    policy::after,
    spdy::{Event, Pair, ResetStatus},
    streams::{
        handoff::Verdict,
        roles::{ERROR, STDIN},
        streams::Due,
    },
};

impl Exchange {
    /// Collects the requests of a round, before its output is sent.
    pub(in crate::streams) fn end_round(&mut self) {
        self.carry_verdicts_out();
        let mut ended = mem::take(&mut self.ended);
        self.wire.outbound.take_ended(&mut ended);
        for slot in ended.drain(..) {
            self.end_output(slot);
        }
        self.ended = ended;
        self.end_unread_input();
        self.open_postponed();
        self.flush();
        // Last, because the answers of this round may have queued the first PING.
        self.pacing_due = self.wire.outbound.pacing_due();
    }

    fn carry_verdicts_out(&mut self) {
        let mut verdicts = mem::take(&mut self.verdicts);
        if let Roles::Ports { handoff, .. } = &self.roles {
            handoff.take_verdicts(&mut verdicts);
        }
        for (pair, verdict) in verdicts.drain(..) {
            self.decide(pair, verdict);
        }
        self.verdicts = verdicts;
    }

    /// Carries out a verdict. The streams may have been closed by the peer.
    pub(super) fn decide(&mut self, pair: Pair, verdict: Verdict) {
        let Pair { data, error, .. } = pair;
        match verdict {
            Verdict::Reply => {
                // The service has sent it, so that its data comes behind.
                let _ = self.streams.on(data, Event::Reply);
            }
            Verdict::Refuse => {
                self.fail(data, ResetStatus::RefusedStream, ResetStatus::Cancel);
                self.on(error, Event::OurFin);
            }
            Verdict::Reset => {
                self.on(error, Event::OurFin);
                self.on(data, Event::Reply);
                self.on(data, Event::OurReset(ResetStatus::Cancel));
            }
            Verdict::Finish => {
                self.on(error, Event::OurFin);
                self.on(data, Event::OurFin);
            }
        }
    }

    /// Resets a stream: with the status `refused` in the place of the reply, or with `reset` behind it.
    /// The client must get the former before it gives up its wait for the reply.
    fn fail(&mut self, stream: u32, refused: ResetStatus, reset: ResetStatus) {
        let now = self.now();
        let may_come_late = self.wire.outbound.stands_still(stream);
        if may_come_late || self.streams.is_late(stream, now) {
            self.on(stream, Event::Reply);
        }
        let status = match self.is_answered(stream) {
            true => reset,
            false => refused,
        };
        self.on(stream, Event::OurReset(status));
    }

    fn is_answered(&self, stream: u32) -> bool {
        let stream = self.streams.get(stream);
        stream.is_none_or(|stream| !stream.state.is_opened())
    }

    /// Ends this end's direction of a stream whose writer has ended.
    fn end_output(&mut self, slot: u8) {
        let Some(stream) = self.streams.of_slot(slot) else {
            return;
        };
        match &self.roles {
            // The outcome of the command comes last, behind the end of its writer.
            Roles::Command(_) if slot == ERROR => {}
            Roles::Command(_) => self.on(stream, Event::OurFin),
            Roles::Ports { .. } => self.end_connection(stream, slot),
        }
    }

    /// Ends this end's direction of a connection, once its upload is quiet. It does not wait
    /// for an upload without a reader.
    fn end_connection(&mut self, stream: u32, slot: u8) {
        let now = self.now();
        if self.amid == Some(stream) {
            self.streams.heard(stream, now);
        }
        let is_read = !self.wire.inbound.is_free(slot);
        if !is_read || !self.streams.wait_for_quiet(stream, now) {
            self.on(stream, Event::OurFin);
        }
    }

    /// Tells the client to stop sending input that a command does not read.
    fn end_unread_input(&mut self) {
        if let Roles::Command(_) = self.roles
            && let Some(stream) = self.streams.of_slot(STDIN)
            && self.wire.inbound.is_free(STDIN)
        {
            self.on(stream, Event::OurFin);
        }
    }

    /// Notes that the data of a channel goes beyond its window, so that some of it has to be read
    /// before the deadline.
    pub(super) fn note_stall(&mut self, slot: u8) {
        let Roles::Ports { stall, .. } = self.roles else {
            return;
        };
        let Some(stall) = stall.filter(|_| self.stalls.iter().all(|&(other, _)| other != slot))
        else {
            return;
        };
        self.stalls.push((slot, after(Instant::now(), stall)));
    }

    /// Returns whether data of a stream is arriving that no reader will get any more.
    pub(in crate::streams) fn is_amid_a_closed_stream(&self) -> bool {
        let amid = self.amid.and_then(|stream| self.streams.get(stream));
        amid.is_none_or(|stream| !stream.state.receives())
    }

    /// Resets connections that have kept a part of the reserve, or reading paused, for as long as they
    /// may, and of which nothing was read meanwhile.
    fn reset_stalled(&mut self, now: Instant) {
        let Roles::Ports {
            stall: Some(stall), ..
        } = self.roles
        else {
            return;
        };
        let mut stalls = mem::take(&mut self.stalls);
        stalls.retain_mut(|(slot, at)| {
            if *at > now {
                return true;
            }
            let pipe = self.wire.inbound.pipe(*slot);
            let Some(pipe) = pipe.filter(|pipe| pipe.is_stalled()) else {
                return false;
            };
            let later = pipe.stands_since().map(|since| after(since, stall));
            match later.filter(|later| *later > now) {
                Some(later) => {
                    *at = later;
                    true
                }
                None => {
                    self.reset_unread(*slot);
                    false
                }
            }
        });
        self.stalls = stalls;
    }

    /// Resets the connection of a channel. The peer may have closed its stream already.
    fn reset_unread(&mut self, slot: u8) {
        if let Some(stream) = self.streams.of_slot(slot) {
            tracing::debug!(stream, "a connection is reset: its data was not read");
            self.fail(stream, ResetStatus::Cancel, ResetStatus::Cancel);
        }
        // The service may wait for its target for long, and others need the reserve.
        self.wire.inbound.cut(slot);
    }

    /// Returns the earliest deadline of a stream, or of the streams of a command.
    pub(in crate::streams) fn next_due(&self) -> Option<Instant> {
        let missing = self.missing.into_iter();
        let stalls = self.stalls.iter().map(|&(_, at)| at);
        let dues = missing.chain(stalls).chain(self.pacing_due);
        dues.chain(self.streams.next_due()).min()
    }

    /// Handles the deadlines that have expired. Returns a cause if one ends the session.
    pub(in crate::streams) fn expire(&mut self, now: Instant) -> Option<EndCause> {
        while let Some((stream, due)) = self.streams.expire(now) {
            match due {
                Due::Half => self.give_up_half(stream),
                // The service learns of it, and ends the error stream.
                Due::Answer => self.fail(stream, ResetStatus::Cancel, ResetStatus::Cancel),
                Due::Fin => {
                    let slot = self.streams.get(stream).and_then(|stream| stream.slot);
                    if let Some(slot) = slot {
                        self.end_connection(stream, slot);
                    }
                }
            }
        }
        if self.pacing_due.take_if(|at| *at <= now).is_some() {
            self.wire.outbound.expire_pacing(now);
        }
        self.reset_stalled(now);
        self.flush();
        let missing = self.missing.take_if(|at| *at <= now);
        missing.map(|_| EndCause::StreamsMissing)
    }

    /// Ends this end's direction of all streams, in front of the end of the session. After a failure,
    /// they are reset.
    pub(in crate::streams) fn end_streams(&mut self, failed: bool) {
        self.accept_no_more();
        // A service that was dropped at the end of its grace has failed all of its connections.
        self.carry_verdicts_out();
        // The error stream of a command was the first, and ends last.
        for stream in self.streams.latest_first() {
            if failed {
                self.fail(
                    stream,
                    ResetStatus::InternalError,
                    ResetStatus::InternalError,
                );
            } else if self.is_answered(stream) {
                self.on(stream, Event::OurFin);
            } else {
                self.fail(stream, ResetStatus::RefusedStream, ResetStatus::Cancel);
            }
        }
        self.flush();
    }
}
