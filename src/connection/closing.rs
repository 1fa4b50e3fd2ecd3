//! The end of a session, as a state machine without I/O.
//!
//! ```text
//!        a cause           service done, writers gone,         the queue is
//!                          or grace over, or at once           out
//!   Open -------> Ending ----------------------------> Flushing -----------> Awaiting
//!                                                                               |
//!                   the peer's Close or FIN came, before or now; or silence;    |
//!                   at once if the peer broke the protocol                      |
//!                                                                               v
//!   Closed <---------------- Lingering <------------------------------- ShuttingDown
//!           its FIN came,               our sending side is shut down
//!           or silence
//! ```
//!
//! - Each name is a [`Phase`], and the label of an arrow is what has to happen for the next phase.
//! - "grace" is [`Deadline::Grace`], and "at once" a cause that does not wait for the service.
//! - "the queue is out": all output has left, with the Close frame at its end.
//! - "FIN" is the end of the peer's sending side, and "silence" an expired [`Deadline::Silence`] or
//!   [`Deadline::CloseLimit`].
//!
//! Every phase goes straight to `Closed` when the connection is lost, when the phase's deadlines
//! expire, and when a drain cuts the session. [`Deadline::Grace`] is independent of the phases: it
//! bounds how long the service may continue after a cause.
//!
//! | phase | its deadlines |
//! |---|---|
//! | `Flushing` | `Stall`, `Flush` |
//! | `Awaiting`, `Lingering` | `Silence`, `CloseLimit` |
//! | `ShuttingDown` | `Stall`, `CloseLimit` |
//!
//! The driver reports each [`Event`], carries out the [`Step`] that is returned, and reports its
//! result. The consequences of each cause are in `consequences`.

mod event;
#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::Duration};

pub(super) use self::event::{Event, Output, Shutdown, Step};
use super::consequences::{self, Urgency};
use crate::{
    error::EndCause,
    frame::ClosePayload,
    policy::{Clock, Deadline},
    session::SessionConfig,
    wire::Due,
};

/// The longest time for which a transport may accept nothing while the session closes. A live
/// kubectl that writes gives up by itself after 60 s.
const STALL: Duration = Duration::from_secs(90);

/// The phases of a session, from open to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is no cause to end yet, and messages go both ways.
    Open,
    /// There is a cause, and the service may still write.
    Ending,
    /// The queue is written out, with the Close frame at its end. Incoming data is read and
    /// discarded. Otherwise a client that writes before it reads would wait for us while we wait
    /// for it.
    Flushing,
    /// Our Close has left, and the peer's is awaited (RFC 6455, 7.1.1). Some proxies close both of
    /// their connections at the first end of file. A FIN right after our Close would make them drop
    /// the output that the peer has not read yet.
    Awaiting,
    /// The transport is shutting down its sending side. Over TLS, a close_notify has to leave
    /// first.
    ShuttingDown,
    /// Our sending side is shut down. Reading continues until the peer's FIN, because closing a
    /// socket with unread bytes resets it, and a reset destroys data that the client has not read
    /// yet.
    Lingering,
    /// The transport is gone.
    Closed,
}

/// The state of a session's end; see the module.
#[derive(Debug)]
pub(super) struct Closing {
    config: Arc<SessionConfig>,
    /// Set if a clean Close from the peer may mean that only the client's input has ended.
    close_ends_input: bool,
    phase: Phase,
    /// The first cause. It is `None` while the phase is `Open`, and only then.
    cause: Option<EndCause>,
    /// The first Close frame that the service asked for.
    requested: Option<Box<ClosePayload>>,
    /// The peer has sent a Close.
    peer_closed: bool,
    /// Nothing more can be read.
    read_ended: bool,
    /// Incoming data is no longer even decoded.
    deaf: bool,
}

impl Closing {
    pub(super) fn new(config: Arc<SessionConfig>, close_ends_input: bool) -> Self {
        Self {
            config,
            close_ends_input,
            phase: Phase::Open,
            cause: None,
            requested: None,
            peer_closed: false,
            read_ended: false,
            deaf: false,
        }
    }

    /// Returns the cause of the session's end, if there is one.
    pub(super) fn cause(&self) -> Option<&EndCause> {
        self.cause.as_ref()
    }

    /// Returns whether the session has no cause to end yet.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns whether incoming data still counts, because our Close is not queued yet.
    pub(super) fn is_receiving(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Ending)
    }

    /// Returns whether a deadline for the peer's silence runs.
    pub(super) fn waits_for_peer(&self) -> bool {
        matches!(self.phase, Phase::Awaiting | Phase::Lingering)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.phase == Phase::Closed
    }

    pub(super) fn is_deaf(&self) -> bool {
        self.deaf
    }

    pub(super) fn has_read_ended(&self) -> bool {
        self.read_ended
    }

    /// Returns whether the end of the service, which is `cause`, should be reported now.
    ///
    /// A service that has returned waits for its writers, and adds nothing to an earlier cause. One
    /// that has failed shortens the grace of an earlier cause.
    pub(super) fn follows_service(&self, cause: &EndCause, open_writers: usize) -> bool {
        *cause != EndCause::Completed || (self.is_open() && open_writers == 0)
    }

    /// Returns whether it is time for the last words.
    ///
    /// It is when the service is done and its writers are gone or out of grace, or when the cause
    /// waits for neither.
    pub(super) fn may_say_last(
        &self,
        service_done: bool,
        open_writers: usize,
        grace_over: bool,
    ) -> bool {
        let at_once = self
            .cause
            .as_ref()
            .is_some_and(|cause| consequences::urgency(cause) == Urgency::CloseNow);
        let done = service_done && (open_writers == 0 || grace_over);
        self.phase == Phase::Ending && (at_once || done)
    }

    /// Handles an event, and returns the step to take.
    pub(super) fn on(&mut self, event: Event, clock: &mut Clock<'_>) -> Step {
        match event {
            Event::Cause(cause) => self.end(cause, clock),
            Event::CloseRequested { code, frame } => {
                self.requested.get_or_insert_with(|| Box::new(frame));
                self.end(EndCause::Closed { code }, clock)
            }
            Event::Told => match self.cause.clone() {
                Some(cause) if self.phase == Phase::Ending => self.act_on(cause, clock),
                _ => Step::Wait,
            },
            Event::LastWordsSaid { told } => self.close(told),
            Event::CloseQueued(due) => {
                if self.phase == Phase::Ending {
                    self.flush(due, clock);
                }
                Step::Wait
            }
            Event::RoundOver {
                service_done,
                output,
            } => {
                // The grace bounds a running service, and its writers until the Close is queued.
                if service_done && self.phase != Phase::Ending {
                    clock.clear([Deadline::Grace]);
                }
                self.move_on(output, clock)
            }
            Event::ShutDown(shutdown) => self.shut_down(shutdown, clock),
            Event::ReadEnded(kind) => self.end_reading(kind, clock),
            Event::Heard => {
                if self.waits_for_peer() {
                    self.await_peer(clock);
                }
                Step::Wait
            }
            Event::TaskDropped => match self.phase {
                Phase::Closed => Step::Wait,
                _ => {
                    self.cause.get_or_insert(EndCause::Aborted);
                    self.abandon(EndCause::Aborted, clock)
                }
            },
        }
    }

    fn end(&mut self, cause: EndCause, clock: &mut Clock<'_>) -> Step {
        let urgency = consequences::urgency(&cause);
        self.peer_closed |= matches!(cause, EndCause::PeerClosed { .. });
        // After a fault of the peer, its data cannot be understood.
        self.deaf |= urgency == Urgency::CloseOnly;
        let first = match self.phase {
            Phase::Open => true,
            Phase::Ending => false,
            Phase::Flushing | Phase::Awaiting | Phase::ShuttingDown | Phase::Lingering => {
                if urgency != Urgency::Gone {
                    return Step::Wait;
                }
                false
            }
            Phase::Closed => return Step::Wait,
        };
        // A later cause never extends the grace, be it a failure after another cause or the peer's
        // Close after a failure.
        let grace = consequences::grace(&cause, self.close_ends_input, &self.config);
        clock.bring_forward(Deadline::Grace, grace);
        if !first {
            return self.act_on(cause, clock);
        }
        // These deadlines apply only while the session is open.
        clock.clear([
            Deadline::TimeLimit,
            Deadline::Idle,
            Deadline::Answer,
            Deadline::Ping,
        ]);
        let readers = consequences::ends_readers(&cause);
        self.phase = Phase::Ending;
        self.cause = Some(cause);
        Step::Tell { readers }
    }

    /// Returns the step that a cause requires at once.
    fn act_on(&mut self, cause: EndCause, clock: &mut Clock<'_>) -> Step {
        match consequences::urgency(&cause) {
            // `may_say_last` says when to close.
            Urgency::WaitForService | Urgency::CloseNow => Step::Wait,
            Urgency::CloseOnly => Step::Close {
                frame: consequences::close_frame(&cause, false),
                discard: true,
            },
            Urgency::Gone => self.abandon(cause, clock),
        }
    }

    /// Closes with the frame for the first cause.
    fn close(&mut self, told: bool) -> Step {
        let frame = match (self.phase, &self.cause, &self.requested) {
            (Phase::Ending, Some(EndCause::Closed { .. }), Some(frame)) => **frame,
            (Phase::Ending, Some(cause), _) => consequences::close_frame(cause, told),
            _ => return Step::Wait,
        };
        Step::Close {
            frame,
            discard: false,
        }
    }

    /// Enters `Flushing`, or starts it again: its deadlines count from now, because the queue begins
    /// to leave now, or this side held it back until now. No step follows: the queue leaves at the
    /// end of each round.
    fn flush(&mut self, due: Due, clock: &mut Clock<'_>) {
        let Due { queued, owed } = due;
        let policy = &self.config.policy;
        let granted = (policy.limits.time_to_read(queued))
            .saturating_add(policy.byte_rate.time_to_send(queued.saturating_add(owed)));
        let limit = self.config.close_limit.saturating_add(granted);
        clock.set(Deadline::Stall, STALL);
        clock.set(Deadline::Flush, limit);
        self.phase = Phase::Flushing;
    }

    /// Leaves each phase that is over, and returns the step that the next phase begins with.
    ///
    /// Returns [`Step::Wait`] if the phase continues. `ShuttingDown` is the exception: the transport
    /// is asked again in each round, by [`Step::ShutDown`].
    fn move_on(&mut self, output: Output, clock: &mut Clock<'_>) -> Step {
        match self.phase {
            Phase::Open | Phase::Ending | Phase::Closed => Step::Wait,
            Phase::Flushing => match output {
                Output::Gone => {
                    clock.clear([Deadline::Stall, Deadline::Flush]);
                    clock.set(Deadline::CloseLimit, self.config.close_limit);
                    self.await_peer(clock);
                    self.phase = Phase::Awaiting;
                    self.stop_awaiting(clock)
                }
                // The peer is not to blame for output that this side holds back.
                Output::Held(due) => {
                    self.flush(due, clock);
                    Step::Wait
                }
                // It is not to blame for our own byte rate either, but `Flush` already allows for
                // that.
                Output::Moving if !clock.is_over(Deadline::Flush) => {
                    clock.set(Deadline::Stall, STALL);
                    Step::Wait
                }
                Output::Moving | Output::Waiting => {
                    self.give_up_at([Deadline::Stall, Deadline::Flush], clock)
                }
            },
            Phase::Awaiting => self.stop_awaiting(clock),
            Phase::ShuttingDown => Step::ShutDown,
            Phase::Lingering => self.stop_lingering(clock),
        }
    }

    fn await_peer(&mut self, clock: &mut Clock<'_>) {
        clock.set(Deadline::Silence, self.config.close_timeout);
    }

    /// Leaves `Awaiting` with [`Step::ShutDown`] if the peer has answered, will not be heard, or is
    /// late. Otherwise returns [`Step::Wait`].
    fn stop_awaiting(&mut self, clock: &mut Clock<'_>) -> Step {
        let answered = self.peer_closed || self.read_ended || self.deaf;
        if !answered && !Self::is_peer_late(clock) {
            return Step::Wait;
        }
        self.deaf = true;
        clock.clear([Deadline::Silence]);
        clock.set(Deadline::Stall, STALL);
        self.phase = Phase::ShuttingDown;
        Step::ShutDown
    }

    fn shut_down(&mut self, shutdown: Shutdown, clock: &mut Clock<'_>) -> Step {
        match (self.phase, shutdown) {
            (Phase::ShuttingDown, Shutdown::Done) => {
                clock.clear([Deadline::Stall]);
                self.await_peer(clock);
                self.phase = Phase::Lingering;
                self.stop_lingering(clock)
            }
            (Phase::ShuttingDown, Shutdown::Pending) => {
                self.give_up_at([Deadline::Stall, Deadline::CloseLimit], clock)
            }
            (Phase::ShuttingDown, Shutdown::Failed) => {
                self.enter_closed(clock);
                Step::Release
            }
            _ => Step::Wait,
        }
    }

    /// Leaves `Lingering` with [`Step::Release`] if nothing more can be read, or the peer is late.
    /// Otherwise returns [`Step::Wait`].
    fn stop_lingering(&mut self, clock: &mut Clock<'_>) -> Step {
        if !self.read_ended && !Self::is_peer_late(clock) {
            return Step::Wait;
        }
        self.enter_closed(clock);
        Step::Release
    }

    fn is_peer_late(clock: &Clock<'_>) -> bool {
        clock.is_over(Deadline::Silence) || clock.is_over(Deadline::CloseLimit)
    }

    /// Abandons the transport if one of the deadlines has expired.
    fn give_up_at(&mut self, at: [Deadline; 2], clock: &mut Clock<'_>) -> Step {
        if at.iter().any(|&name| clock.is_over(name)) {
            self.end(EndCause::Stalled, clock)
        } else {
            Step::Wait
        }
    }

    fn end_reading(&mut self, kind: io::ErrorKind, clock: &mut Clock<'_>) -> Step {
        self.read_ended = true;
        let fin = kind == io::ErrorKind::UnexpectedEof;
        match self.phase {
            // The peer has sent its Close, and it is unknown whether it still reads.
            Phase::Ending if self.peer_closed && fin => {
                clock.bring_forward(Deadline::Grace, self.config.grace);
                Step::Wait
            }
            // The peer may have shut down only its sending side. A write finds out.
            Phase::Flushing | Phase::Awaiting | Phase::ShuttingDown | Phase::Lingering if fin => {
                Step::Wait
            }
            Phase::Open
            | Phase::Ending
            | Phase::Flushing
            | Phase::Awaiting
            | Phase::ShuttingDown
            | Phase::Lingering => self.end(EndCause::ConnectionLost { kind }, clock),
            Phase::Closed => Step::Wait,
        }
    }

    fn abandon(&mut self, cause: EndCause, clock: &mut Clock<'_>) -> Step {
        self.enter_closed(clock);
        Step::Abandon(cause)
    }

    fn enter_closed(&mut self, clock: &mut Clock<'_>) {
        clock.clear([
            Deadline::Stall,
            Deadline::Flush,
            Deadline::Silence,
            Deadline::CloseLimit,
        ]);
        self.phase = Phase::Closed;
    }
}
