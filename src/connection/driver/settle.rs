//! What is due at the end of a round, and when to look again.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::time::Instant;

use super::{Driver, Holding};
use crate::{
    connection::{
        closing::{Phase, STALL},
        consequences::{self, Urgency},
        service::ServiceState,
    },
    error::EndCause,
    policy::{Beat, Pause, after},
    wire::Progress,
};

impl Driver {
    /// A round is over: moves the phases on. `true` when the session is.
    pub(in crate::connection) fn settle(
        &mut self,
        progress: &Progress,
        service: &mut ServiceState,
    ) -> bool {
        if let Some(kind) = progress.broken {
            self.write_broke(kind);
        }
        // What the service asked for in the poll in which it returned comes first.
        if service.is_done() {
            self.obey();
        }
        match service.end_cause() {
            Some(EndCause::Completed)
                if self.ending.is_some() || self.wire.outbound.open_writers() > 0 => {}
            // A failure behind another cause makes its grace no longer.
            Some(cause) => self.end(cause),
            None => {}
        }
        // Noted in each round: the clock of the Pings looks only now and then.
        if (progress.waited || !progress.idle)
            && let Some(beats) = &mut self.beats
        {
            beats.excuse();
        }
        self.write_again = progress.throttled;
        // Nothing but messages: no clock is read until the timer has fired.
        // One that fires later, while the service runs for long, makes the driver
        // due: what lies unread until then is no silence.
        if self.is_quiet() && self.timer.is_current() && !self.fired {
            return false;
        }
        let now = Instant::now();
        self.settle_drain(now, service);
        self.settle_upgrade(now);
        self.settle_rate(now);
        self.settle_hold(now);
        self.settle_pause(now, progress);
        if self.fired {
            self.settle_limit(now);
            self.settle_idle(now);
            self.settle_beats(now, progress);
        }
        self.settle_service(now, service);
        self.settle_phase(now, progress);
        if matches!(self.phase, Phase::Closed) && service.is_done() {
            return true;
        }
        self.fired = false;
        self.timer.arm(self.deadline(service), &self.waker);
        false
    }

    /// Whether the only deadlines are those that data moves away.
    fn is_quiet(&self) -> bool {
        self.ending.is_none()
            && self.upgrading.is_none()
            && self.holding.is_none()
            && self.pause.is_none()
            && self.cut_at.is_none()
            && self.read_again.is_none()
            && self.write_again.is_none()
    }

    fn settle_upgrade(&mut self, now: Instant) {
        if self.upgrading.as_ref().is_some_and(|up| up.deadline <= now) {
            let kind = io::ErrorKind::TimedOut;
            self.end(EndCause::UpgradeFailed { kind });
        }
    }

    /// The server shuts down, and can wait until then.
    fn settle_drain(&mut self, now: Instant, service: &mut ServiceState) {
        let Some(cut_at) = self.cut_at else { return };
        if self.ending.is_none() {
            self.end(EndCause::Drained);
        }
        let gone = matches!(self.phase, Phase::Closed) && service.is_done();
        if cut_at > now || gone {
            return;
        }
        // Also where only the service is left, in its grace: the deadline stays the
        // next one until all is gone.
        self.session.set_cut();
        self.end(EndCause::Aborted);
        service.drop_future();
    }

    fn settle_limit(&mut self, now: Instant) {
        if self.ending.is_none() && self.limit.is_some_and(|at| at <= now) {
            self.end(EndCause::TimeLimit);
        }
    }

    /// There is something to read, or to write, and it may move again.
    fn settle_rate(&mut self, now: Instant) {
        for again in [&mut self.read_again, &mut self.write_again] {
            if again.is_some_and(|at| at <= now) {
                *again = None;
                self.wire.turn.wake_driver();
            }
        }
    }

    fn settle_hold(&mut self, now: Instant) {
        if let Some(Holding {
            until: Some(until), ..
        }) = self.holding
            && until <= now
        {
            self.holding = None;
            self.wire.outbound.set_held(false);
            self.wire.turn.wake_driver();
        }
    }

    fn settle_pause(&mut self, now: Instant, progress: &Progress) {
        let Some(pause) = &mut self.pause else { return };
        if !pause.is_due(now) {
            return;
        }
        if let Some(kind) = progress.broken {
            return self.lose(kind);
        }
        self.wire.outbound.pong(&[]);
        // Not from the start: most pauses are over sooner.
        self.reading.watch();
        self.lent = self.mux.extend();
        self.wire.turn.wake_driver();
    }

    fn settle_idle(&mut self, now: Instant) {
        let Some(idle) = &mut self.idle else { return };
        if self.ending.is_some() || idle.deadline() > now {
            return;
        }
        // Writers note the time themselves, and nobody has asked until now.
        if let Some(then) = self.wire.outbound.last_write() {
            idle.active(then);
        }
        if idle.deadline() <= now {
            self.end(EndCause::IdleTimeout);
        }
    }

    fn settle_beats(&mut self, now: Instant, progress: &Progress) {
        let Some(beats) = &mut self.beats else { return };
        if self.ending.is_some() {
            return;
        }
        let excused = !self.rest.is_empty() || !progress.idle;
        match beats.beat(
            now,
            excused,
            self.wire.outbound.sent(),
            &self.config.policy.limits,
        ) {
            Beat::Nothing => {}
            Beat::Ping => {
                self.wire.outbound.ping();
                self.wire.turn.wake_driver();
            }
            Beat::Dead => self.end(EndCause::PeerUnresponsive),
        }
    }

    fn settle_service(&mut self, now: Instant, service: &mut ServiceState) {
        let Some(ending) = &self.ending else { return };
        let over = ending.deadline <= now;
        if over {
            service.drop_future();
        }
        let done = service.is_done() && (over || self.wire.outbound.open_writers() == 0);
        let now = consequences::urgency(&ending.cause) == Urgency::CloseNow;
        if (done || now) && matches!(self.phase, Phase::Open) {
            self.say_last(service);
        }
    }

    /// Moves the end on, through as many phases as are over in this round.
    fn settle_phase(&mut self, now: Instant, drained: &Progress) {
        if let Phase::Closing { progress, until } = self.phase {
            if drained.idle && !self.wire.outbound.has_output() {
                self.phase = Phase::Awaiting {
                    since: now,
                    heard: now,
                };
            } else if self.holding.is_some() {
                // Not the peer's fault.
                self.phase = self.closing(now);
            } else if (drained.wrote || drained.throttled.is_some()) && until > now {
                // Nor is a rate of our own, for which it has time beside its own.
                let progress = now;
                self.phase = Phase::Closing { progress, until };
            } else if progress + STALL <= now || until <= now {
                self.end(EndCause::Stalled);
            }
        }
        if let Phase::Awaiting { since, heard } = self.phase {
            let silent = after(heard, self.config.close_timeout) <= now;
            let answered = self.peer_closed || self.eof || self.raw;
            if answered || silent || self.is_long_closed(since, now) {
                self.raw = true;
                self.phase = Phase::ShuttingDown { since, asked: now };
            }
        }
        if let Phase::ShuttingDown { since, asked } = self.phase {
            let cx = &mut Context::from_waker(&self.waker);
            match self.wire.outbound.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => {
                    self.phase = Phase::Lingering { since, heard: now };
                    self.wire.turn.wake_driver();
                }
                Poll::Ready(Err(_)) => self.close_transport(),
                Poll::Pending if asked + STALL <= now || self.is_long_closed(since, now) => {
                    self.end(EndCause::Stalled);
                }
                Poll::Pending => {}
            }
        }
        if let Phase::Lingering { since, heard } = self.phase {
            let silent = after(heard, self.config.close_timeout) <= now;
            if self.eof || silent || self.is_long_closed(since, now) {
                self.close_transport();
            }
        }
    }

    /// Returns whether our Close, sent at `since`, is past the limit for all that follows it.
    fn is_long_closed(&self, since: Instant, now: Instant) -> bool {
        after(since, self.config.close_limit) <= now
    }

    /// Returns `Closing` with its whole time ahead: the queue begins to leave now, or was
    /// held back by this side until now.
    pub(super) fn closing(&self, now: Instant) -> Phase {
        let queued = self.wire.outbound.queued();
        let granted = (self.config.policy.limits.time_to_read(queued))
            .saturating_add(self.config.policy.byte_rate.time_to_send(queued));
        Phase::Closing {
            progress: now,
            until: after(now, self.config.close_limit.saturating_add(granted)),
        }
    }

    /// The next instant at which something is due.
    fn deadline(&self, service: &ServiceState) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Open | Phase::Closed => None,
            Phase::Closing { progress, until } => Some(until.min(progress + STALL)),
            Phase::ShuttingDown { since, asked } => {
                Some((asked + STALL).min(after(since, self.config.close_limit)))
            }
            Phase::Awaiting { since, heard } | Phase::Lingering { since, heard } => {
                let limit = after(since, self.config.close_limit);
                Some(after(heard, self.config.close_timeout).min(limit))
            }
        };
        let active = self.ending.is_none();
        let waits = matches!(self.phase, Phase::Open) || !service.is_done();
        [
            phase,
            self.cut_at,
            self.read_again,
            self.write_again,
            active.then_some(self.limit).flatten(),
            self.upgrading.as_ref().map(|up| up.deadline),
            self.holding.as_ref().and_then(|holding| holding.until),
            self.pause.as_ref().map(Pause::deadline),
            active
                .then_some(self.idle)
                .flatten()
                .map(|idle| idle.deadline()),
            active
                .then_some(self.beats)
                .flatten()
                .map(|beats| beats.deadline()),
            self.ending
                .as_ref()
                .filter(|_| waits)
                .map(|ending| ending.deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
