//! One poll loop over reads, timers and the phases of the end.
//!
//! A round of the session's task runs in this order, always:
//!
//! 1. [`Driver::run`]: commands of the service, the upgrade, then reads into the
//!    channels, as much as there is room for;
//! 2. the service's future, if it was woken;
//! 3. a drain of what was written, by [`Wire::end_turn`];
//! 4. [`Driver::settle`]: the phases, their deadlines, and the one timer.
//!
//! Writes come after the service so that what it has written leaves in the same
//! round. Behind a poll of the task that has used up tokio's budget, in which nothing
//! could leave, one round goes without the service. Rules live elsewhere: in `consequences`, `policy`, `mux` and `frame`.

mod end;
mod read;
mod settle;

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
    closing::{Ending, Phase},
    reading::Reading,
    timer::Timer,
    upgrade::Upgrading,
};
use crate::{
    error::EndCause,
    frame::{ClosePayload, Decoder, Role},
    mux::Mux,
    policy::{Beats, Bucket, Idle, Pause, after},
    protocol::{Format, Status},
    session::{ChannelSummary, Hold, Peer, Session, SessionConfig, SessionSummary},
    unwind::drop_quietly,
    wire::{Progress, Wire},
};

/// Output is held.
#[derive(Debug)]
struct Holding {
    hold: Hold,
    /// Counts from the upgrade on.
    until: Option<Instant>,
}

/// What a driver is made of.
#[derive(Debug)]
pub(crate) struct DriverParts {
    pub(crate) wire: Arc<Wire>,
    pub(crate) session: Session,
    pub(crate) config: Arc<SessionConfig>,
    pub(crate) format: Format,
    pub(crate) half_close: bool,
    /// Whether a clean Close of the peer may end its input alone.
    pub(crate) close_ends_input: bool,
    /// When what let the request in expires.
    pub(crate) expiry: Option<Instant>,
    /// For the summary.
    pub(crate) subprotocol: Cow<'static, str>,
    pub(crate) peer: Option<Peer>,
}

/// Data for the [`SessionSummary`].
#[derive(Debug)]
struct Story {
    subprotocol: Cow<'static, str>,
    peer: Option<Peer>,
    /// The acceptance; `None` before it.
    since: Option<Instant>,
    /// The code of our Close frame.
    said: Option<u16>,
    /// The outcome that the last words told.
    status: Option<Box<Status>>,
}

/// Drives one session's connection. See the module.
#[derive(Debug)]
pub(crate) struct Driver {
    wire: Arc<Wire>,
    session: Session,
    config: Arc<SessionConfig>,
    close_ends_input: bool,
    waker: Waker,
    upgrading: Option<Upgrading>,
    reading: Reading,
    decoder: Decoder,
    mux: Mux,
    /// Read, and not yet decoded: early bytes, or what lies behind a byte that
    /// has no room.
    rest: Bytes,
    large: bool,
    pause: Option<Pause>,
    /// There is room again, but only what the stall reserve has lent.
    lent: bool,
    expiry: Option<Instant>,
    /// These run from the upgrade on.
    idle: Option<Idle>,
    beats: Option<Beats>,
    /// The session may last until then.
    limit: Option<Instant>,
    /// What may be read.
    inbound: Option<Bucket>,
    /// What may be read, or written, is used up until then.
    read_again: Option<Instant>,
    write_again: Option<Instant>,
    /// It must be gone by then: the server drains.
    cut_at: Option<Instant>,
    holding: Option<Holding>,
    phase: Phase,
    ending: Option<Ending>,
    /// The Close frame of `Session::close`, with its reason.
    close: Option<ClosePayload>,
    /// What comes is not even decoded any more.
    raw: bool,
    peer_closed: bool,
    eof: bool,
    /// The last poll of the socket had nothing more to read.
    drained: bool,
    timer: Timer,
    /// The timer had fired before this round read: silence can be judged.
    fired: bool,
    woken: Vec<Waker>,
    story: Story,
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
            reading: Reading::None,
            decoder: Decoder::new(Role::Server, limits.max_frame, limits.max_message),
            mux: Mux::new(Arc::clone(&wire), format, half_close),
            rest: Bytes::new(),
            large: false,
            pause: None,
            lent: false,
            expiry,
            idle: None,
            beats: None,
            limit: None,
            inbound: None,
            read_again: None,
            write_again: None,
            cut_at: None,
            holding: None,
            phase: Phase::Open,
            ending: None,
            close: None,
            raw: false,
            peer_closed: false,
            eof: false,
            drained: false,
            timer: Timer::default(),
            fired: false,
            woken: Vec::new(),
            story: Story {
                subprotocol,
                peer,
                since: None,
                said: None,
                status: None,
            },
            wire,
            session,
            config,
            close_ends_input,
        }
    }

    /// The answer is on its way: from now on the connection may come.
    pub(crate) fn expect(&mut self, on: OnUpgrade) {
        let now = Instant::now();
        self.story.since = Some(now);
        let deadline = after(now, self.config.upgrade_timeout);
        self.upgrading = Some(Upgrading::new(on, deadline));
    }

    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    pub(super) fn cause(&self) -> Option<&EndCause> {
        self.ending.as_ref().map(|ending| &ending.cause)
    }
}

impl Driver {
    /// Runs whatever the driver was woken for.
    pub(super) fn run(&mut self) {
        self.fired = self.timer.has_fired();
        self.obey();
        self.poll_upgrade();
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(kind) = self.reading.poll_broken(cx) {
            return self.lose(kind);
        }
        self.read(cx);
    }

    pub(super) fn obey(&mut self) {
        let Some(commands) = self.session.take_commands() else {
            return;
        };
        if let Some(hold) = commands.hold {
            self.wire.outbound.ping();
            let until = match self.reading {
                // Not upgraded yet.
                Reading::None => None,
                _ => Some(after(Instant::now(), hold.at_most)),
            };
            self.holding = Some(Holding { hold, until });
        }
        if let Some((code, frame)) = commands.close {
            self.close = Some(frame);
            self.end(EndCause::Closed { code });
        }
        if let Some(deadline) = commands.drain {
            // It ends when what lies unread has been read.
            self.cut_at = Some(self.cut_at.map_or(deadline, |at| at.min(deadline)));
        }
    }

    fn poll_upgrade(&mut self) {
        let Some(upgrading) = &mut self.upgrading else {
            return;
        };
        let cx = &mut Context::from_waker(&self.waker);
        match upgrading.poll(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok((transport, early))) => {
                self.upgrading = None;
                self.reading = Reading::From(transport.read);
                self.rest = early;
                self.wire.outbound.install(transport.write);
                let now = Instant::now();
                let policy = &self.config.policy;
                self.idle = policy.idle_timeout.map(|timeout| Idle::new(timeout, now));
                self.beats = policy.keep_alive.map(|policy| Beats::new(policy, now));
                self.limit = policy.ends_at(now, self.expiry);
                self.inbound = policy.byte_rate.inbound_bucket(now);
                self.wire
                    .outbound
                    .limit_rate(policy.byte_rate.outbound_bucket(now));
                self.timer.reconsider();
                if let Some(Holding { hold, until }) = &mut self.holding {
                    *until = Some(after(now, hold.at_most));
                }
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the server did not hand the connection over");
                self.upgrading = None;
                let kind = io::ErrorKind::NotConnected;
                self.end(EndCause::UpgradeFailed { kind });
            }
        }
    }

    pub(super) fn end_turn(&mut self) -> Progress {
        self.wire.outbound.end_turn(&mut self.woken)
    }
}

impl Driver {
    /// What became of the session, once.
    fn tell(&mut self) {
        let Some(since) = self.story.since.take() else {
            return;
        };
        let channel = |(received, sent)| ChannelSummary { received, sent };
        let summary = SessionSummary {
            id: self.session.id(),
            subprotocol: std::mem::take(&mut self.story.subprotocol),
            peer: self.story.peer.take(),
            duration: since.elapsed(),
            cause: self.cause().cloned().unwrap_or(EndCause::Aborted),
            close_code: self.story.said,
            status: self.story.status.take().map(|status| *status),
            channels: self.session.traffic().into_iter().map(channel).collect(),
            ignored: self.mux.ignored,
        };
        summary.log();
        self.config.on_end.tell(&summary);
    }

    /// The task is over, or dropped in the middle of the session. A second time does
    /// nothing.
    pub(super) fn finish(&mut self) {
        let unsaid = self.session.take_last_words();
        if !matches!(self.phase, Phase::Closed) {
            let cause = EndCause::Aborted;
            self.session.set_cause(&cause);
            self.abandon(&cause);
        }
        // Last, because it is the service's code that is dropped.
        drop_quietly(unsaid, "the last words of a session");
        self.tell();
    }
}

/// Also where there never was a task: its handles learn that nothing will come of it.
impl Drop for Driver {
    fn drop(&mut self) {
        self.finish();
    }
}
