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
//! round. Rules live elsewhere: in `closing`, `mux` and `frame`.

use std::{
    io,
    mem::MaybeUninit,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use tokio::{
    io::ReadBuf,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    closing::{self, Ending, LINGER_AT_MOST, Phase, STALL, Urgency, after},
    reading::Reading,
    task::Service,
    upgrade::Upgrading,
};
use crate::{
    config::Config,
    error::EndCause,
    frame::{ClosePayload, Decoder, Role},
    mux::Mux,
    session::{Hold, Outcome, Session},
    wire::{End, Format, Progress, Shared},
};

/// What one read takes, on the stack. Smaller costs CPU (1.15x at 8 KiB).
const READ: usize = 16 * 1024;

/// The same while the last read filled its buffer: a fast sender is kept from
/// filling the kernel's queue, which halves the CPU of small messages.
const READ_LARGE: usize = 64 * 1024;

/// While reading is paused, a Pong leaves this often. client-go gives up 61 s
/// after the last one; and it draws the reset of a client that has died.
const PAUSED_PONG: Duration = Duration::from_millis(500);

/// Reading is paused.
#[derive(Debug)]
struct Pause {
    next_pong: Instant,
}

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
    sleep: Option<Pin<Box<Sleep>>>,
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
            holding: None,
            phase: Phase::Open,
            ending: None,
            close: None,
            raw: false,
            peer_closed: false,
            eof: false,
            drained: false,
            sleep: None,
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

// Commands, upgrade, reads.
impl Driver {
    /// Whatever woke the driver, finds out and does it.
    pub(super) fn run(&mut self) {
        self.obey();
        self.poll_upgrade();
        let waker = self.waker.clone();
        let cx = &mut Context::from_waker(&waker);
        if let Poll::Ready(kind) = self.reading.poll_broken(cx) {
            return self.end(EndCause::ConnectionLost { kind });
        }
        self.read(cx);
    }

    fn obey(&mut self) {
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
                if let Some(Holding { hold, until }) = &mut self.holding {
                    *until = Some(after(Instant::now(), hold.at_most));
                }
            }
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "the server did not hand the connection over");
                self.upgrading = None;
                let kind = io::ErrorKind::NotConnected;
                self.end(EndCause::ConnectionLost { kind });
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        if !self.rest.is_empty() {
            if !self.raw && self.mux.is_full() {
                return;
            }
            let rest = std::mem::take(&mut self.rest);
            let fed = self.feed(&rest);
            if fed < rest.len() {
                self.rest = rest.slice(fed..);
                return;
            }
        }
        if self.pause.take().is_some() {
            self.reading.unwatch(cx);
        }
        self.drained = false;
        // Reads until the socket has no more, which registers the waker; or
        // until a buffer was filled: then the service has its turn first.
        while !self.eof && self.pause.is_none() {
            let filled = if self.large {
                self.read_once::<READ_LARGE>(cx)
            } else {
                self.read_once::<READ>(cx)
            };
            match filled {
                Poll::Pending => {
                    // Without budget tokio says so of a full socket too.
                    self.drained = tokio::task::coop::has_budget_remaining();
                    return;
                }
                Poll::Ready(true) => return self.shared.turn().wake_driver(),
                Poll::Ready(false) => {}
            }
        }
    }

    /// One read; `true` where it filled its buffer.
    #[inline(never)]
    fn read_once<const N: usize>(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut storage = [const { MaybeUninit::<u8>::uninit() }; N];
        let mut buf = ReadBuf::uninit(&mut storage);
        let result = match self.reading.poll(&self.shared, cx, &mut buf) {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.large = false;
                return Poll::Pending;
            }
        };
        if let Err(error) = result {
            let kind = error.kind();
            self.read_ended(kind);
            return Poll::Ready(false);
        }
        let bytes = buf.filled();
        if bytes.is_empty() {
            self.read_ended(io::ErrorKind::UnexpectedEof);
            return Poll::Ready(false);
        }
        let filled = bytes.len() == N;
        let fed = self.feed(bytes);
        if fed < bytes.len() {
            // At most one read, and only while reading is paused.
            self.rest = Bytes::copy_from_slice(&bytes[fed..]);
        }
        self.large = filled && self.mux.least_room() >= READ_LARGE;
        Poll::Ready(filled)
    }

    /// A write has found the connection broken. What the peer had sent before
    /// can still be read, so the session goes on until it was; not for a reader
    /// that does not read, though.
    fn write_broke(&mut self, kind: io::ErrorKind) {
        if matches!(self.phase, Phase::Open) && !self.raw && self.ending.is_none() {
            let waker = self.waker.clone();
            self.read(&mut Context::from_waker(&waker));
            if !self.drained {
                return;
            }
        }
        self.end(EndCause::ConnectionLost { kind });
    }

    /// Nothing more will be read.
    fn read_ended(&mut self, kind: io::ErrorKind) {
        self.eof = true;
        let eof = kind == io::ErrorKind::UnexpectedEof;
        match self.phase {
            Phase::Open if self.peer_closed && eof => {
                // It has said its Close; whether it still reads is unknown.
                let latest = after(Instant::now(), self.config.grace);
                if let Some(ending) = &mut self.ending {
                    ending.deadline = ending.deadline.min(latest);
                }
            }
            // It may have shut down its sending side only: what is left to
            // write finds out.
            Phase::Closing { .. } | Phase::Lingering { .. } if eof => {}
            Phase::Open | Phase::Closing { .. } | Phase::Lingering { .. } => {
                self.end(EndCause::ConnectionLost { kind });
            }
            Phase::Closed => {}
        }
    }

    /// Decodes as much as there is room for.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        if let Phase::Lingering { heard, .. } = &mut self.phase {
            *heard = Instant::now();
        }
        if self.raw {
            return bytes.len();
        }
        let mut fed = 0;
        loop {
            match self.decoder.decode(&bytes[fed..], &mut self.mux) {
                Ok(n) => fed += n,
                Err(cause) => {
                    self.raw = true;
                    self.hear();
                    self.end(cause);
                    return bytes.len();
                }
            }
            // Room may have come since the decoder asked for it.
            if fed == bytes.len() || self.mux.is_full() {
                break;
            }
        }
        self.hear();
        if fed < bytes.len() && self.pause.is_none() {
            self.pause = Some(Pause {
                next_pong: Instant::now() + PAUSED_PONG,
            });
        }
        fed
    }

    /// Acts on what the peer said beside data.
    fn hear(&mut self) {
        let heard = std::mem::take(&mut self.mux.heard);
        if let Some(Holding { hold, until }) = &mut self.holding {
            if heard.data {
                *until = Some(Instant::now());
            } else if heard.pong {
                let settled = after(Instant::now(), hold.settle);
                *until = Some(until.map_or(settled, |until| until.min(settled)));
            }
        }
        if let Some(code) = heard.close {
            self.peer_closed = true;
            self.mux.end_by_close(code);
            self.end(EndCause::PeerClosed { code });
        }
    }
}

// The end.
impl Driver {
    /// A cause has come. The first one is told; a later one can only make the
    /// end come sooner.
    pub(super) fn end(&mut self, cause: EndCause) {
        let urgency = closing::urgency(&cause);
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        let closing = !matches!(self.phase, Phase::Open);
        if closing && urgency != Urgency::Gone {
            return;
        }
        let now = Instant::now();
        let deadline = after(now, closing::grace(&cause, self.half_close, &self.config));
        match &mut self.ending {
            Some(ending) if urgency == Urgency::WaitForService => {
                // A service that failed waits for its writers only; a Close
                // of the peer changes nothing about that.
                ending.deadline = ending.deadline.min(deadline);
                return;
            }
            Some(ending) => ending.deadline = ending.deadline.min(deadline),
            None => {
                tracing::debug!(session = self.session.id(), %cause, "the session ends");
                // A service that has returned may have left readers with other
                // tasks: they learn with the end, not before.
                if cause != EndCause::ServiceFailed && cause != EndCause::ServicePanicked {
                    self.mux.end_all(&End::Error(cause.clone()));
                }
                self.session.set_cause(&cause);
                self.ending = Some(Ending {
                    cause: cause.clone(),
                    deadline,
                });
            }
        }
        match urgency {
            Urgency::WaitForService | Urgency::CloseNow => {}
            Urgency::CloseOnly => self.start_closing(&closing::close_frame(&cause, false), true),
            Urgency::Gone => self.abandon(&cause),
        }
        self.shared.turn().wake_driver();
    }

    /// Drops the connection as it is.
    fn abandon(&mut self, cause: &EndCause) {
        self.mux.end_all(&End::Error(cause.clone()));
        self.upgrading = None;
        self.shared.refuse_writers(cause);
        self.close_transport();
    }

    fn start_closing(&mut self, frame: &ClosePayload, discard: bool) {
        let cause = self.cause().cloned().unwrap_or(EndCause::Completed);
        self.shared.refuse_writers(&cause);
        self.mux.end_all(&End::Error(cause));
        if discard {
            self.holding = None;
        }
        self.shared.close(frame, discard);
        self.phase = Phase::Closing {
            progress: Instant::now(),
        };
        self.shared.turn().wake_driver();
    }

    /// The service is done, or its grace is over: says what is to be said last.
    fn say_last(&mut self, service: &Service) {
        let Some(ending) = &self.ending else { return };
        let outcome = service.outcome(&ending.cause);
        let told = match self.session.take_last_words() {
            None => matches!(outcome, Outcome::Returned),
            Some(words) => {
                // It is the service's code: a panic in it must not take the
                // session's end with it.
                let words = catch_unwind(AssertUnwindSafe(|| words(&outcome))).unwrap_or(None);
                let told = words.is_some();
                if let Some((channel, message)) = words.and_then(|words| words.message) {
                    self.shared.last_words(channel, message);
                }
                told
            }
        };
        let frame = match (&ending.cause, self.close.take()) {
            (EndCause::Closed { .. }, Some(frame)) => frame,
            (cause, _) => closing::close_frame(cause, told),
        };
        self.start_closing(&frame, false);
    }

    /// A round is over: moves the phases on. `true` when the session is.
    pub(super) fn settle(&mut self, progress: &Progress, service: &mut Service) -> bool {
        if let Some(kind) = progress.broken {
            self.write_broke(kind);
        }
        match service.end_cause() {
            Some(EndCause::Completed)
                if self.ending.is_some() || self.shared.open_writers() > 0 => {}
            // A failure behind another cause makes its grace no longer.
            Some(cause) => self.end(cause),
            None => {}
        }
        if self.is_quiet() {
            self.sleep_until(None);
            return false;
        }
        let now = Instant::now();
        self.settle_upgrade(now);
        self.settle_hold(now);
        self.settle_pause(now, progress);
        self.settle_service(now, service);
        self.settle_phase(now, progress);
        if matches!(self.phase, Phase::Closed) && service.is_done() {
            return true;
        }
        self.sleep_until(self.deadline(service));
        false
    }

    /// Nothing but messages: no deadline is near, so no clock is read.
    fn is_quiet(&self) -> bool {
        self.ending.is_none()
            && self.upgrading.is_none()
            && self.holding.is_none()
            && self.pause.is_none()
    }

    fn settle_upgrade(&mut self, now: Instant) {
        if self.upgrading.as_ref().is_some_and(|up| up.deadline <= now) {
            let kind = io::ErrorKind::TimedOut;
            self.end(EndCause::ConnectionLost { kind });
        }
    }

    fn settle_hold(&mut self, now: Instant) {
        if let Some(Holding {
            until: Some(until), ..
        }) = self.holding
            && until <= now
        {
            self.holding = None;
            self.shared.set_held(false);
            self.shared.turn().wake_driver();
        }
    }

    fn settle_pause(&mut self, now: Instant, progress: &Progress) {
        if let Some(pause) = &mut self.pause
            && pause.next_pong <= now
        {
            if let Some(kind) = progress.broken {
                return self.end(EndCause::ConnectionLost { kind });
            }
            pause.next_pong = now + PAUSED_PONG;
            self.shared.pong(&[]);
            // Not from the start: most pauses are over sooner.
            self.reading.watch();
            self.shared.turn().wake_driver();
        }
    }

    fn settle_service(&mut self, now: Instant, service: &mut Service) {
        let Some(ending) = &self.ending else { return };
        let over = ending.deadline <= now;
        if over {
            service.drop_future();
        }
        let done = service.is_done() && (over || self.shared.open_writers() == 0);
        let now = closing::urgency(&ending.cause) == Urgency::CloseNow;
        if (done || now) && matches!(self.phase, Phase::Open) {
            self.say_last(service);
        }
    }

    fn settle_phase(&mut self, now: Instant, drained: &Progress) {
        match &mut self.phase {
            Phase::Closing { progress } => {
                // What we hold ourselves is not the peer's fault.
                if drained.wrote || self.holding.is_some() {
                    *progress = now;
                }
                let stalled = *progress + STALL <= now;
                let cx = &mut Context::from_waker(&self.waker);
                if drained.idle && !self.shared.has_output() {
                    match self.shared.poll_shutdown(cx) {
                        Poll::Ready(Ok(())) => {
                            self.raw = true;
                            self.phase = Phase::Lingering {
                                since: now,
                                heard: now,
                            };
                            self.shared.turn().wake_driver();
                        }
                        Poll::Ready(Err(_)) => self.close_transport(),
                        Poll::Pending => {}
                    }
                }
                if stalled && matches!(self.phase, Phase::Closing { .. }) {
                    self.end(EndCause::Stalled);
                }
            }
            Phase::Lingering { since, heard } => {
                let silent = after(*heard, self.config.close_timeout) <= now;
                if self.eof || silent || *since + LINGER_AT_MOST <= now {
                    self.close_transport();
                }
            }
            Phase::Open | Phase::Closed => {}
        }
    }

    /// All was said: lets the socket go.
    fn close_transport(&mut self) {
        self.reading = Reading::None;
        self.rest = Bytes::new();
        self.holding = None;
        self.pause = None;
        self.phase = Phase::Closed;
        drop(self.shared.take_transport());
        self.shared.turn().wake_driver();
    }

    /// The next instant at which something is due.
    fn deadline(&self, service: &Service) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Open | Phase::Closed => None,
            Phase::Closing { progress } => Some(progress + STALL),
            Phase::Lingering { since, heard } => {
                Some(after(heard, self.config.close_timeout).min(since + LINGER_AT_MOST))
            }
        };
        let waits = matches!(self.phase, Phase::Open) || !service.is_done();
        [
            phase,
            self.upgrading.as_ref().map(|up| up.deadline),
            self.holding.as_ref().and_then(|holding| holding.until),
            self.pause.as_ref().map(|pause| pause.next_pong),
            self.ending
                .as_ref()
                .filter(|_| waits)
                .map(|ending| ending.deadline),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Arms the one timer. It may fire too early, and is then armed again: so
    /// a deadline that moves away costs nothing.
    fn sleep_until(&mut self, deadline: Option<Instant>) {
        let Some(deadline) = deadline else {
            self.sleep = None;
            return;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.is_elapsed() || sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        let cx = &mut Context::from_waker(&self.waker);
        if sleep.as_mut().poll(cx).is_ready() {
            self.shared.turn().wake_driver();
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
