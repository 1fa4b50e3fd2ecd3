//! Expired deadlines, which are handled at the end of a round.

use std::io;

use tokio::time::Instant;

use super::{driver::Driver, service::ServiceState};
use crate::{
    error::EndCause,
    policy::{Deadline, INTERVALS_PER_PONG, PAUSE_INTERVAL, after},
    wire::Progress,
};

impl Driver {
    /// Handles each deadline that has expired.
    pub(super) fn run_due(
        &mut self,
        now: Instant,
        progress: &Progress,
        service: &mut ServiceState,
    ) {
        for deadline in Deadline::ALL {
            // Checked only now, because the handling of an earlier deadline may have moved or
            // cleared this one.
            if !self.deadlines.is_expired(deadline, now) {
                continue;
            }
            match deadline {
                Deadline::Cut => self.cut(service),
                Deadline::Upgrade => {
                    let kind = io::ErrorKind::TimedOut;
                    self.end(EndCause::UpgradeFailed { kind });
                }
                // The byte rate lets data move again.
                Deadline::ReadRate | Deadline::WriteRate => {
                    self.deadlines.clear(deadline);
                    self.wire.turn.wake_driver();
                }
                Deadline::Hold => {
                    self.forget_hold();
                    self.wire.outbound.set_held(false);
                    self.wire.turn.wake_driver();
                }
                Deadline::Pause => self.trickle(now, progress),
                // If the timer fired after this round's reads, data may be unread, and these are
                // left to the next round.
                Deadline::TimeLimit | Deadline::Idle | Deadline::Answer | Deadline::Ping
                    if !self.fired => {}
                Deadline::TimeLimit => self.end(EndCause::TimeLimit),
                Deadline::Idle => self.check_idle(now),
                Deadline::Answer => self.check_answer(now, progress),
                Deadline::Ping => self.ping(now, progress),
                #[cfg(feature = "spdy")]
                Deadline::Streams => self.expire_streams(now),
                #[cfg(not(feature = "spdy"))]
                Deadline::Streams => {}
                Deadline::Grace => service.drop_future(),
                // The closing state machine checks these at the end of the round.
                Deadline::Stall | Deadline::Flush | Deadline::Silence | Deadline::CloseLimit => {}
            }
        }
    }

    /// Cuts the session at the deadline of a drain, and drops the service, which may be all that is
    /// left of the session.
    fn cut(&mut self, service: &mut ServiceState) {
        self.deadlines.clear(Deadline::Cut);
        if self.closing.is_closed() && service.is_done() {
            return;
        }
        self.session.set_cut();
        self.end(EndCause::Aborted);
        service.drop_future();
    }

    /// Shows the client of a paused session that the session is alive, and accepts a little of its
    /// data.
    fn trickle(&mut self, now: Instant, progress: &Progress) {
        self.deadlines
            .set(Deadline::Pause, after(now, PAUSE_INTERVAL));
        if let Some(kind) = progress.broken {
            return self.lose(kind);
        }
        self.reading.since_pong += 1;
        if self.reading.since_pong >= INTERVALS_PER_PONG {
            self.reading.since_pong = 0;
            self.wire.outbound.pong_unasked();
        }
        // The watch does not begin with the pause, because most pauses are shorter than this.
        self.reading.half.watch();
        self.reading.lent = self.inflow.extend();
        self.wire.turn.wake_driver();
    }

    fn check_idle(&mut self, now: Instant) {
        // Writers note the time of a write themselves, and it is only looked at here.
        if let (Some(then), Some(timeout)) = (
            self.wire.outbound.last_write(),
            self.config.policy.idle_timeout,
        ) {
            self.deadlines.put_off(Deadline::Idle, after(then, timeout));
        }
        if self.deadlines.is_expired(Deadline::Idle, now) {
            self.end(EndCause::IdleTimeout);
        }
    }

    fn check_answer(&mut self, now: Instant, progress: &Progress) {
        if self.is_peer_excused(progress) {
            return self.deadlines.clear(Deadline::Answer);
        }
        let limits = &self.config.policy.limits;
        let sent = self.wire.outbound.sent();
        let deadlines = &mut self.deadlines;
        if self.beats.is_dead(limits, sent, now, deadlines) {
            self.end(EndCause::PeerUnresponsive);
        }
    }

    fn ping(&mut self, now: Instant, progress: &Progress) {
        let policy = &self.config.policy;
        let Some(keep_alive) = &policy.keep_alive else {
            return self.deadlines.clear(Deadline::Ping);
        };
        let mut excused = self.is_peer_excused(progress);
        let sent = self.wire.outbound.sent();
        // A Go client holds the lock of its writer while its upload waits for this end to read, and
        // its streams wait behind the answer to a PING of SPDY.
        if !(excused && self.inflow.is_bare_spdy()) {
            excused |= !self.wire.outbound.ping();
            self.wire.turn.wake_driver();
        }
        if excused {
            self.deadlines.clear(Deadline::Answer);
        }
        let deadlines = &mut self.deadlines;
        self.beats
            .pinged(keep_alive, &policy.limits, sent, !excused, now, deadlines);
    }

    /// Returns whether the peer's answer may be among unread data, or our Ping among unsent output.
    fn is_peer_excused(&self, progress: &Progress) -> bool {
        !self.reading.undecoded.is_empty() || !progress.idle
    }
}
