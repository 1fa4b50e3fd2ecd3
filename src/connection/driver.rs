//! One poll loop over reads, timers and the closing phases.
//!
//! A round of the session's task always runs in this order:
//!
//! 1. [`Driver::run`] handles commands of the service and the upgrade, then reads into the channels
//!    as much as there is room for;
//! 2. the service's future is polled, if it was woken;
//! 3. [`Driver::end_turn`] sends the output that was written to the channels;
//! 4. [`Driver::finish_round`] handles expired deadlines and the closing phases, and arms the one
//!    timer.
//!
//! Output is sent after the service was polled, so that it leaves in the same round. If a poll of
//! the task used up tokio's budget before any output could leave, the next round leaves out the
//! service. The rules live elsewhere: in `closing`, `consequences`, `policy`, `mux` and `frame`.

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
    inflow::{Carrier, Inflow},
    reading::Reading,
    service::ServiceState,
    timer::Timer,
    upgrade,
    watch::Half,
};
use crate::{
    error::EndCause,
    policy::{Beats, Deadline, Deadlines, after},
    protocol::Status,
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
    pub(crate) carrier: Carrier,
    /// Set if a clean Close from the peer may mean that only the client's input has ended.
    pub(crate) close_ends_input: bool,
    /// The time at which the credentials of the request expire.
    pub(crate) expiry: Option<Instant>,
    /// The selected subprotocol, for the summary.
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) peer: Option<Peer>,
}

/// Data for the [`SessionSummary`].
#[derive(Debug)]
pub(super) struct Story {
    subprotocol: Cow<'static, str>,
    peer: Option<Peer>,
    /// The time at which the upgrade was accepted, if it was.
    accepted_at: Option<Instant>,
    /// The code of our Close frame.
    pub(super) close_code: Option<u16>,
    /// The outcome that the last words told.
    pub(super) status: Option<Box<Status>>,
}

/// Drives the connection of a session; see the module.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(super) wire: Arc<Wire>,
    pub(super) session: Session,
    pub(super) config: Arc<SessionConfig>,
    pub(super) waker: Waker,
    /// The upgrade, until it has completed.
    pub(super) upgrading: Option<OnUpgrade>,
    pub(super) reading: Reading,
    pub(super) inflow: Inflow,
    pub(super) beats: Beats,
    /// Set while output is held back. Once there is a connection, [`Deadline::Hold`] ends the hold.
    pub(super) hold: Option<Hold>,
    pub(super) closing: Closing,
    pub(super) deadlines: Deadlines,
    pub(super) timer: Timer,
    /// Set if the timer had fired before this round's reads, so that they show whether the peer is
    /// silent.
    pub(super) fired: bool,
    /// An empty buffer that is kept for its capacity.
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
            carrier,
            close_ends_input,
            expiry,
            subprotocol,
            peer,
        } = parts;
        Self {
            waker: wire.turn.driver_waker(),
            upgrading: None,
            reading: Reading::new(),
            inflow: Inflow::new(carrier, &wire, &config.policy.limits),
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

    /// Starts to wait for the connection, because the upgrade was accepted.
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
    /// Runs everything that the driver may have been woken for.
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

    /// Carries out commands of the service and of a drain.
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

    /// Installs the connection, and starts the deadlines that count from it.
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
        // A session that is already ending is bounded by its closing deadlines.
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
        #[cfg(feature = "spdy")]
        self.end_round_of_streams();
        self.wire.outbound.end_turn(&mut self.woken)
    }

    /// Handles everything that is due after a round's writes. Returns whether the session is over.
    pub(super) fn finish_round(&mut self, progress: &Progress, service: &mut ServiceState) -> bool {
        if let Some(kind) = progress.broken {
            // A service that is over reads nothing more. It may have ended by this loss.
            let is_over = self.follows(service).is_some();
            self.write_broke(kind, is_over);
        }
        #[cfg(feature = "spdy")]
        {
            self.settle_service(service);
            self.resume_after_output();
        }
        // A command that the service gave in its last poll comes before its return.
        if service.is_done() {
            self.obey();
        }
        if let Some(cause) = self.follows(service) {
            self.end(cause);
        }
        // This happens in every round, because keep-alive is only checked when its deadline
        // expires.
        if progress.waited || !progress.idle {
            self.deadlines.clear(Deadline::Answer);
        }
        match progress.throttled {
            Some(at) => self.deadlines.set(Deadline::WriteRate, at),
            None => self.deadlines.clear(Deadline::WriteRate),
        }
        // While only messages move, no clock is read until the timer has fired. If it fires later
        // in this round, because the service runs for long, it makes the driver due again. The peer
        // counts as silent only after the data that arrived meanwhile was read.
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

    /// Returns the cause by which the session ends because its service is over.
    fn follows(&self, service: &ServiceState) -> Option<EndCause> {
        let cause = service.end_cause()?;
        let open_writers = self.wire.outbound.open_writers();
        (self.closing.follows_service(&cause, open_writers)).then_some(cause)
    }

    /// Returns whether the only deadlines are those that data postpones.
    fn is_quiet(&self) -> bool {
        self.closing.is_open()
            && !self.deadlines.is_set(Deadline::Cut)
            && !self.deadlines.is_set(Deadline::Upgrade)
            && !self.deadlines.is_set(Deadline::ReadRate)
            && !self.deadlines.is_set(Deadline::WriteRate)
            && !self.deadlines.is_set(Deadline::Hold)
            && !self.deadlines.is_set(Deadline::Pause)
    }

    /// Forgets that output is held back. The caller has to release it.
    pub(super) fn forget_hold(&mut self) {
        self.hold = None;
        self.deadlines.clear(Deadline::Hold);
    }
}

// The end of the task.
impl Driver {
    /// Logs the summary and passes it to `on_end`, once.
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
            ignored: self.inflow.ignored(),
        };
        summary.log();
        self.config.on_end.tell(&summary);
    }

    /// Ends a session whose task has completed, or was dropped before that. A second call does
    /// nothing.
    pub(super) fn finish(&mut self) {
        let unsaid = self.session.take_last_words();
        if !self.closing.is_closed() {
            self.session.set_cause(&EndCause::Aborted);
            self.advance(Event::TaskDropped, Instant::now());
        }
        // Dropped only now, because this drop runs the service's code.
        drop_quietly(unsaid, "the last words of a session");
        self.report();
        // The connection is closed, so what it held is free when the next session asks.
        self.session.release_kept();
    }
}

/// Tells the handles that the session has ended, even if it never got its task.
impl Drop for Driver {
    fn drop(&mut self) {
        self.finish();
    }
}
