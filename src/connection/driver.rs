//! One poll loop over reads, timers and the phases of the end.
//!
//! A round of the session's task runs in this order, always:
//!
//! 1. [`Driver::run`]: commands of the service, the upgrade, then reads into the
//!    channels, as much as there is room for;
//! 2. the service's future, if it was woken;
//! 3. [`Driver::end_turn`]: writes what was written to the channels;
//! 4. [`Driver::finish_round`]: expired deadlines, the phases of the end, and the one timer.
//!
//! Writing comes after the service so that its output leaves in the same
//! round. After a poll of the task that used up tokio's budget before any output could
//! leave, one round goes without the service. The rules live elsewhere: in `closing`,
//! `consequences`, `policy`, `mux` and `frame`.

use std::{
    borrow::Cow,
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use super::{
    closing::{Closing, Event},
    reading::Reading,
    service::ServiceState,
    timer::Timer,
    upgrade,
    watch::Half,
};
use crate::{
    error::EndCause,
    frame::{Decoder, Role},
    mux::Mux,
    policy::{Beats, Deadline, Deadlines, after},
    protocol::{Format, Status},
    session::{ChannelSummary, Hold, Peer, Session, SessionConfig, SessionSummary},
    unwind::drop_quietly,
    wire::{Progress, Transport, Wire},
};

/// The parts of a [`Driver`].
#[derive(Debug)]
pub(crate) struct DriverParts {
    pub(crate) wire: Arc<Wire>,
    pub(crate) session: Session,
    pub(crate) config: Arc<SessionConfig>,
    pub(crate) format: Format,
    pub(crate) half_close: bool,
    /// A clean Close of the peer may mean only that its input is finished.
    pub(crate) close_ends_input: bool,
    /// When the credentials of the request expire.
    pub(crate) expiry: Option<Instant>,
    /// For the summary.
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) peer: Option<Peer>,
}

/// Data for the [`SessionSummary`].
#[derive(Debug)]
pub(super) struct Story {
    subprotocol: Cow<'static, str>,
    peer: Option<Peer>,
    /// When the upgrade was accepted, if it was.
    accepted_at: Option<Instant>,
    /// The code of our Close frame.
    pub(super) close_code: Option<u16>,
    /// The outcome that the last words told.
    pub(super) status: Option<Box<Status>>,
}

/// Drives one session's connection. See the module.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) wire: Arc<Wire>,
    pub(super) session: Session,
    pub(super) config: Arc<SessionConfig>,
    pub(super) waker: Waker,
    /// The connection is still to come.
    pub(super) upgrading: Option<OnUpgrade>,
    pub(super) reading: Reading,
    pub(super) decoder: Decoder,
    pub(super) mux: Mux,
    pub(super) beats: Beats,
    /// Output is held back, until [`Deadline::Hold`] once there is a connection.
    pub(super) hold: Option<Hold>,
    pub(super) closing: Closing,
    pub(super) deadlines: Deadlines,
    timer: Timer,
    /// The timer had fired before this round read: silence can be judged.
    pub(super) fired: bool,
    /// Kept for its capacity.
    woken: Vec<Waker>,
    expiry: Option<Instant>,
    pub(super) story: Story,
}

impl Driver {
    pub(crate) fn new(parts: DriverParts) -> Self {
        let DriverParts {
            wire,
            session,
            config,
            format,
            half_close,
            close_ends_input,
            expiry,
            subprotocol,
            peer,
        } = parts;
        let limits = &config.policy.limits;
        Self {
            waker: wire.turn.driver_waker(),
            upgrading: None,
            reading: Reading::new(),
            decoder: Decoder::new(Role::Server, limits.max_frame, limits.max_message),
            mux: Mux::new(Arc::clone(&wire), format, half_close),
            beats: Beats::default(),
            hold: None,
            closing: Closing::new(Arc::clone(&config), close_ends_input),
            deadlines: Deadlines::new(Instant::now()),
            timer: Timer::default(),
            fired: false,
            woken: Vec::new(),
            expiry,
            story: Story {
                subprotocol,
                peer,
                accepted_at: None,
                close_code: None,
                status: None,
            },
            wire,
            session,
            config,
        }
    }

    /// Waits for the connection from now on: the answer is on its way.
    pub(crate) fn expect(&mut self, on: OnUpgrade) {
        let now = Instant::now();
        self.story.accepted_at = Some(now);
        self.upgrading = Some(on);
        let deadline = after(now, self.config.upgrade_timeout);
        self.deadlines.set(Deadline::Upgrade, deadline);
    }

    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }
}

// A round.
impl Driver {
    /// Runs whatever the driver was woken for.
    pub(super) fn run(&mut self) {
        self.fired = self.timer.has_fired();
        self.obey();
        self.poll_upgrade();
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(kind) = self.reading.half.poll_broken(cx) {
            return self.lose(kind);
        }
        self.read(cx);
    }

    /// Carries out the commands of the service, and of a drain.
    fn obey(&mut self) {
        let Some(commands) = self.session.take_commands() else {
            return;
        };
        if let Some(hold) = commands.hold {
            self.wire.outbound.ping();
            self.hold = Some(hold);
            if self.reading.half.is_connected() {
                let at_most = after(Instant::now(), hold.at_most);
                self.deadlines.set(Deadline::Hold, at_most);
            }
        }
        if let Some((code, frame)) = commands.close {
            self.advance(Event::CloseRequested { code, frame }, Instant::now());
        }
        if let Some(deadline) = commands.drain {
            // The end of the round ends the session, after its reads.
            self.deadlines.bring_forward(Deadline::Cut, deadline);
        }
    }

    fn poll_upgrade(&mut self) {
        let Some(on) = &mut self.upgrading else {
            return;
        };
        let cx = &mut Context::from_waker(&self.waker);
        let Poll::Ready(upgraded) = upgrade::poll(on, cx) else {
            return;
        };
        self.upgrading = None;
        self.deadlines.clear(Deadline::Upgrade);
        match upgraded {
            Ok((transport, early)) => self.connect(transport, early),
            Err(error) => {
                tracing::debug!(%error, "the server did not hand the connection over");
                let kind = io::ErrorKind::NotConnected;
                self.end(EndCause::UpgradeFailed { kind });
            }
        }
    }

    /// Begins with the connection, and with the clocks that count from it.
    fn connect(&mut self, transport: Transport, early: Bytes) {
        self.reading.half = Half::Connected(transport.read);
        self.reading.undecoded = early;
        self.wire.outbound.install(transport.write);
        let now = Instant::now();
        let policy = &self.config.policy;
        self.reading.rate = policy.byte_rate.inbound_bucket(now);
        self.wire
            .outbound
            .limit_rate(policy.byte_rate.outbound_bucket(now));
        if let Some(hold) = &self.hold {
            self.deadlines.set(Deadline::Hold, after(now, hold.at_most));
        }
        // A session that ends already has no other bounds than those of its end.
        if self.closing.is_open() {
            if let Some(timeout) = policy.idle_timeout {
                self.deadlines.set(Deadline::Idle, after(now, timeout));
            }
            if let Some(keep_alive) = &policy.keep_alive {
                Beats::start(keep_alive, now, &mut self.deadlines);
            }
            if let Some(at) = policy.ends_at(now, self.expiry) {
                self.deadlines.set(Deadline::TimeLimit, at);
            }
        }
        self.timer.reconsider();
    }

    pub(super) fn end_turn(&mut self) -> Progress {
        self.wire.outbound.end_turn(&mut self.woken)
    }

    /// Does what is due after a round's writes. Returns whether the session is over.
    pub(super) fn finish_round(&mut self, progress: &Progress, service: &mut ServiceState) -> bool {
        if let Some(kind) = progress.broken {
            self.write_broke(kind);
        }
        // Commands from the poll in which the service returned come before its return.
        if service.is_done() {
            self.obey();
        }
        if let Some(cause) = service.end_cause()
            && (self.closing).follows_service(&cause, self.wire.outbound.open_writers())
        {
            self.end(cause);
        }
        // In each round, because keep-alive is checked only when its deadline expires.
        if progress.waited || !progress.idle {
            self.deadlines.clear(Deadline::Answer);
        }
        match progress.throttled {
            Some(at) => self.deadlines.set(Deadline::WriteRate, at),
            None => self.deadlines.clear(Deadline::WriteRate),
        }
        // With messages alone, no clock is read until the timer has fired. If it fires later
        // in this round, while the service runs for long, it makes the driver due again:
        // until data that arrived meanwhile was read, there is no silence.
        if self.is_quiet() && self.timer.is_current() && !self.fired {
            return false;
        }
        let now = Instant::now();
        if self.closing.is_open() && self.deadlines.is_set(Deadline::Cut) {
            self.end(EndCause::Drained);
        }
        self.run_due(now, progress, service);
        if !self.closing.is_open() {
            self.advance_end(now, progress, service);
        }
        if self.closing.is_closed() && service.is_done() {
            return true;
        }
        self.fired = false;
        self.timer.arm(self.deadlines.next(), &self.waker);
        false
    }

    /// Returns whether all deadlines are of the kind that data moves away.
    fn is_quiet(&self) -> bool {
        self.closing.is_open()
            && !self.deadlines.is_set(Deadline::Cut)
            && !self.deadlines.is_set(Deadline::Upgrade)
            && !self.deadlines.is_set(Deadline::ReadRate)
            && !self.deadlines.is_set(Deadline::WriteRate)
            && !self.deadlines.is_set(Deadline::Hold)
            && !self.deadlines.is_set(Deadline::Pause)
    }

    /// Forgets that output is held back. Letting go of it is up to the caller.
    pub(super) fn forget_hold(&mut self) {
        self.hold = None;
        self.deadlines.clear(Deadline::Hold);
    }
}

// The end of the task.
impl Driver {
    /// Logs the summary and passes it on, once.
    fn report(&mut self) {
        let Some(accepted_at) = self.story.accepted_at.take() else {
            return;
        };
        let channel = |(received, sent)| ChannelSummary { received, sent };
        let summary = SessionSummary {
            id: self.session.id(),
            subprotocol: std::mem::take(&mut self.story.subprotocol),
            peer: self.story.peer.take(),
            duration: accepted_at.elapsed(),
            cause: self.closing.cause().cloned().unwrap_or(EndCause::Aborted),
            close_code: self.story.close_code,
            status: self.story.status.take().map(|status| *status),
            channels: self.session.traffic().into_iter().map(channel).collect(),
            ignored: self.mux.ignored,
        };
        summary.log();
        self.config.on_end.tell(&summary);
    }

    /// Ends a session whose task is over, or dropped in the middle of it. A second call does
    /// nothing.
    pub(super) fn finish(&mut self) {
        let unsaid = self.session.take_last_words();
        if !self.closing.is_closed() {
            self.session.set_cause(&EndCause::Aborted);
            self.advance(Event::TaskDropped, Instant::now());
        }
        // Last, because dropping them runs the service's code.
        drop_quietly(unsaid, "the last words of a session");
        self.report();
    }
}

/// Tells the handles, also of a session that never got its task.
impl Drop for Driver {
    fn drop(&mut self) {
        self.finish();
    }
}
