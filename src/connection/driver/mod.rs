//! One poll loop over reads, timers and the phases of the end.
//!
//! A round of the session's task runs in this order, always:
//!
//! 1. [`Driver::run`]: commands of the service, the upgrade, then reads into the
//!    channels, as much as there is room for;
//! 2. the service's future, if it was woken;
//! 3. a drain of what was written, by [`Shared::end_turn`];
//! 4. [`Driver::settle`]: the phases, their deadlines, and the one timer.
//!
//! Writes come after the service so that what it has written leaves in the same
//! round. Rules live elsewhere: in `ends`, `policy`, `mux` and `frame`.

mod end;
mod read;
mod settle;
mod timer;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;

use self::timer::Timer;
use super::{
    closing::{Ending, Phase},
    reading::Reading,
    upgrade::Upgrading,
};
use crate::{
    config::Config,
    error::EndCause,
    frame::{ClosePayload, Decoder, Role},
    mux::Mux,
    policy::{Beats, Idle, Pause, after},
    session::{Hold, Session},
    wire::{Format, Progress, Shared},
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
    pub(crate) shared: Arc<Shared>,
    pub(crate) session: Session,
    pub(crate) config: Arc<Config>,
    pub(crate) format: Format,
    pub(crate) half_close: bool,
    pub(crate) idle_timeout: Option<Duration>,
}

/// Drives one session's connection. See the module.
#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    session: Session,
    config: Arc<Config>,
    half_close: bool,
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
    idle_timeout: Option<Duration>,
    /// Both run from the upgrade on.
    idle: Option<Idle>,
    beats: Option<Beats>,
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
}

impl Driver {
    pub(crate) fn new(parts: DriverParts) -> Self {
        let DriverParts {
            shared,
            session,
            config,
            format,
            half_close,
            idle_timeout,
        } = parts;
        let limits = &config.limits;
        Self {
            waker: shared.turn().driver_waker(),
            upgrading: None,
            reading: Reading::None,
            decoder: Decoder::new(Role::Server, limits.max_frame, limits.max_message),
            mux: Mux::new(Arc::clone(&shared), format, half_close),
            rest: Bytes::new(),
            large: false,
            pause: None,
            lent: false,
            idle_timeout,
            idle: None,
            beats: None,
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
            shared,
            session,
            config,
            half_close,
        }
    }

    /// The answer is on its way: from now on the connection may come.
    pub(crate) fn expect(&mut self, on: OnUpgrade) {
        let deadline = after(Instant::now(), self.config.upgrade_timeout);
        self.upgrading = Some(Upgrading::new(on, deadline));
    }

    #[cfg(test)]
    pub(crate) fn mux(&mut self) -> &mut Mux {
        &mut self.mux
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn cause(&self) -> Option<&EndCause> {
        self.ending.as_ref().map(|ending| &ending.cause)
    }
}

impl Driver {
    /// Whatever woke the driver, finds out and does it.
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
            self.shared.ping();
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
                self.shared.install(transport.write);
                let now = Instant::now();
                self.idle = self.idle_timeout.map(|timeout| Idle::new(timeout, now));
                self.beats = self.config.keep_alive.map(|policy| Beats::new(policy, now));
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
        self.shared.end_turn(&mut self.woken)
    }
}

/// The task is dropped, in the middle of the session or after its end.
impl Drop for Driver {
    fn drop(&mut self) {
        let unsaid = self.session.take_last_words();
        if !matches!(self.phase, Phase::Closed) {
            let cause = EndCause::Aborted;
            self.session.set_cause(&cause);
            self.abandon(&cause);
        }
        // Last, because it is the service's code that is dropped.
        if catch_unwind(AssertUnwindSafe(|| drop(unsaid))).is_err() {
            tracing::error!("the last words of a session panicked while they were dropped");
        }
    }
}
