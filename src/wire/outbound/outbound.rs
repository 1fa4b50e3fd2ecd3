//! The write half of a session behind the crate's one hot lock.
//!
//! A writer writes: it takes the lock, encodes into the shared out buffer, and
//! at the flush size the buffer goes out, from whichever task fills it. There
//! is no task hop and no allocation per message.
//!
//! The rules of the wakers, each of which hangs a session when broken:
//!
//! * Every poll of the socket registers the driver's waker, whoever makes it.
//!   tokio keeps one waker per direction and the last poller wins, so one poll
//!   with a writer's own waker would lose the driver's wake-up.
//! * Writers wait only while `blocked` is set. Only the driver clears it, and
//!   it collects the waiting writers after each drain. So a writer that drains
//!   need not wake other writers.
//! * No foreign waker is woken, dropped or cloned under the lock: it may drop a
//!   task that owns a writer.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::{io::ReadBuf, time::Instant};

use super::{
    out::{Out, Progress},
    queue::{FLUSH, Outbox},
    waiting::{Wait, Writer},
};
use crate::{
    error::EndCause,
    frame::ClosePayload,
    policy::Bucket,
    wire::{WireConfig, traffic::Traffic, transport::WriteHalf, turn::Turn},
};

/// A `write` takes no more than this at once, so that control frames fit
/// between and a budget is never passed by more. It is what kubectl sends.
pub(crate) const WRITE_CUT: usize = 32 * 1024;

/// The write half of a session: see the module.
pub(crate) struct Outbound {
    turn: Arc<Turn>,
    out: Mutex<Out>,
}

impl Outbound {
    pub(crate) fn new(
        turn: &Arc<Turn>,
        config: &WireConfig,
        writable: impl Fn(usize) -> bool,
    ) -> Self {
        let writers: Box<[Writer]> = (0..config.channels)
            .map(|id| Writer {
                open: writable(id),
                ..Writer::default()
            })
            .collect();
        let open = writers.iter().filter(|writer| writer.open).count();
        let waker = turn.driver_waker();
        Self {
            turn: Arc::clone(turn),
            out: Mutex::new(Out {
                queue: Outbox::new(
                    config.format,
                    config.channels,
                    config.send_budget,
                    config.high_water,
                ),
                transport: None,
                waker,
                blocked: true,
                waited: false,
                held: false,
                in_turn: false,
                kicked: false,
                unflushed: false,
                broken: None,
                gone: false,
                discarded: false,
                refused: None,
                writers,
                open,
                written: false,
                stamps: config.stamps,
                last_write: None,
                waits: false,
                rate: None,
                throttled: false,
                alarm: false,
            }),
        }
    }

    /// All that each channel's writer ever accepted.
    pub(crate) fn sent_on_each(&self) -> Vec<Traffic> {
        let out = self.lock();
        (0..out.writers.len())
            .map(|id| out.queue.sent_on(id as u8))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        // A panic under the lock can only come from a transport. The queue is
        // whole between any two steps, so going on is right.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// What writers do.
impl Outbound {
    /// Accepts a part of `payload` as one message.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        channel: u8,
        payload: &[u8],
    ) -> Poll<io::Result<usize>> {
        let payload = &payload[..payload.len().min(WRITE_CUT)];
        self.attempt(cx, channel, Wait::Room, |out| {
            out.check_open(channel)?;
            if payload.is_empty() {
                return Poll::Ready(Ok(0));
            }
            ready!(out.make_room(channel))?;
            out.spoke();
            out.write(channel, payload);
            Poll::Ready(Ok(payload.len()))
        })
    }

    /// Whether [`Outbound::send`] would be accepted.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Result<()>> {
        self.attempt(cx, channel, Wait::Room, |out| {
            out.check_open(channel)?;
            out.make_room(channel)
        })
    }

    /// The error of a write, once there is one: for a writer that waits for
    /// something else than the wire.
    pub(crate) fn poll_refused(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Error> {
        self.attempt(cx, channel, Wait::Refusal, |out| {
            match out.check_open(channel) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error),
            }
        })
    }

    /// Accepts all of `payload` as one message, uncopied if it is large.
    pub(crate) fn send(&self, channel: u8, payload: Bytes) -> io::Result<()> {
        let mut out = self.lock();
        out.check_open(channel)?;
        if !payload.is_empty() {
            out.spoke();
        }
        out.queue.push_bytes(channel, payload);
        if out.queue.queued() >= FLUSH && !out.is_blocked() {
            out.drain();
        }
        self.unlock_and_kick(out);
        Ok(())
    }

    /// Whether all that the channel accepted was handed to the transport.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Result<()>> {
        self.attempt(cx, channel, Wait::Flush, |out| {
            if !out.is_flushed(channel) && !out.is_blocked() {
                out.drain();
            }
            if out.is_flushed(channel) {
                return Poll::Ready(Ok(()));
            }
            match out.lost() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            }
        })
    }

    /// Ends a channel's writer: no more is accepted, and what was goes out.
    pub(crate) fn close_writer(&self, channel: u8) {
        let mut out = self.lock();
        let Some(writer) = out.writers.get_mut(usize::from(channel)) else {
            return;
        };
        if !std::mem::take(&mut writer.open) {
            return;
        }
        let waiting = writer.waiting.take();
        out.open -= 1;
        let last = out.open == 0;
        drop(out);
        drop(waiting);
        if last {
            self.turn.wake_driver();
        }
    }

    /// Tries, and where it has to wait, leaves the caller's waker and tries
    /// once more: it is cloned outside the lock, and what happened meanwhile
    /// woke nobody.
    fn attempt<T>(
        &self,
        cx: &mut Context<'_>,
        channel: u8,
        wait: Wait,
        mut step: impl FnMut(&mut Out) -> Poll<T>,
    ) -> Poll<T> {
        let mut out = self.lock();
        let mut result = step(&mut out);
        out.writers[usize::from(channel)].wait = wait;
        if result.is_ready() || out.is_waiting(channel, cx.waker()) {
            self.unlock_and_kick(out);
            return result;
        }
        drop(out);
        let waker = cx.waker().clone();
        let mut out = self.lock();
        result = step(&mut out);
        let unused = match result {
            Poll::Ready(_) => Some(waker),
            Poll::Pending => out.writers[usize::from(channel)].waiting.replace(waker),
        };
        self.unlock_and_kick(out);
        drop(unused);
        result
    }

    /// Unlocks, and sees to it that what was queued leaves at the latest at the
    /// end of the driver's next turn.
    fn unlock_and_kick(&self, mut out: MutexGuard<'_, Out>) {
        // A vectored write can leave an empty queue and a transport that
        // still buffers.
        let work = !out.queue.is_empty() || out.unflushed;
        let kick = work && !out.in_turn && !out.kicked && !out.is_blocked();
        if kick {
            out.kicked = true;
        }
        // Only the driver has a timer.
        let alarm = !out.in_turn && std::mem::take(&mut out.alarm);
        let broken = out.broken.is_some();
        drop(out);
        if kick || broken || alarm {
            self.turn.wake_driver();
        }
    }
}

// What the session's task does.
impl Outbound {
    /// The task's round starts: it flushes at its end, so nobody need kick it.
    pub(crate) fn begin_turn(&self, driver_due: bool) {
        let mut out = self.lock();
        out.in_turn = true;
        out.kicked = false;
        if driver_due && out.transport.is_some() {
            out.blocked = false;
            out.throttled = false;
        }
    }

    /// The task's round is over: writes what there is, and wakes the writers
    /// for whom that made room.
    pub(crate) fn end_turn(&self, woken: &mut Vec<Waker>) -> Progress {
        let mut out = self.lock();
        // Control frames leave all the same.
        if out.throttled {
            out.blocked = false;
        }
        let mut progress = if out.is_blocked() {
            Progress {
                broken: out.broken,
                ..Progress::default()
            }
        } else {
            out.drain()
        };
        progress.waited = std::mem::take(&mut out.waited);
        out.in_turn = false;
        out.kicked = false;
        out.alarm = false;
        out.collect(woken);
        out.queue.rest();
        drop(out);
        for waker in woken.drain(..) {
            waker.wake();
        }
        progress
    }

    pub(crate) fn install(&self, transport: WriteHalf) {
        let mut out = self.lock();
        out.transport = Some(transport);
        out.blocked = false;
    }

    /// Takes the transport out. Whoever drops an `OwnedWriteHalf` sends a FIN,
    /// and a writer of the user may hold this for long: so the driver takes the
    /// transport with it.
    ///
    /// Whoever waits is woken: nothing will leave any more.
    pub(crate) fn take_transport(&self) -> Option<WriteHalf> {
        let mut out = self.lock();
        out.gone = true;
        let transport = out.transport.take();
        let waiting = out.take_waiting();
        drop(out);
        for waker in waiting {
            waker.wake();
        }
        transport
    }

    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.lock().transport {
            Some(transport) => transport.poll_read(cx, buf),
            None => Poll::Pending,
        }
    }

    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().transport {
            Some(transport) => transport.poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// From now on data leaves no faster than that.
    pub(crate) fn limit_rate(&self, rate: Option<Bucket>) {
        self.lock().rate = rate;
    }

    pub(crate) fn set_held(&self, held: bool) {
        self.lock().held = held;
    }

    /// Makes writers wait until the upgrade is accepted.
    pub(crate) fn wait_for_acceptance(&self) {
        self.lock().waits = true;
    }

    /// The upgrade is accepted: the waiting writers go on.
    pub(crate) fn accept(&self) {
        let mut out = self.lock();
        if !std::mem::take(&mut out.waits) {
            return;
        }
        let mut woken = Vec::new();
        out.collect(&mut woken);
        drop(out);
        for waker in woken {
            waker.wake();
        }
    }

    /// When payload was accepted or left last, where that is noted.
    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.lock().last_write
    }

    pub(crate) fn pong(&self, payload: &[u8]) {
        self.lock().queue.pong(payload);
    }

    pub(crate) fn ping(&self) {
        self.lock().queue.ping();
    }

    /// Bytes of data that were accepted and have not left.
    pub(crate) fn queued(&self) -> u64 {
        self.lock().queue.queued() as u64
    }

    /// Bytes of data that have ever left.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().queue.left()
    }

    /// Whether anything was queued since the last drain.
    pub(crate) fn has_output(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Makes all writers fail, unless one has accepted payload: then nothing
    /// happens, and the answer is `false`. In one step, so that nothing is
    /// accepted and then lost.
    pub(crate) fn refuse_unless_written(&self, cause: &EndCause) -> bool {
        let mut out = self.lock();
        if out.written {
            return false;
        }
        out.refused.get_or_insert_with(|| cause.clone());
        true
    }

    /// Writers that were neither dropped nor shut down.
    pub(crate) fn open_writers(&self) -> usize {
        self.lock().open
    }

    /// Makes all writers fail, the waiting ones too. The first cause stays.
    pub(crate) fn refuse_writers(&self, cause: &EndCause) {
        let mut out = self.lock();
        out.refused.get_or_insert_with(|| cause.clone());
        let waiting = out.take_waiting();
        drop(out);
        for waker in waiting {
            waker.wake();
        }
    }

    /// Queues the last message, whatever the budgets say: room for it is
    /// reserved by having no limit.
    pub(crate) fn last_words(&self, channel: u8, payload: Bytes) {
        let mut out = self.lock();
        if usize::from(channel) < out.writers.len() {
            out.queue.push_bytes(channel, payload);
        }
    }

    /// Queues the Close frame; with `discard`, instead of all that waits.
    pub(crate) fn close(&self, payload: &ClosePayload, discard: bool) {
        let mut out = self.lock();
        if discard {
            out.queue.discard();
            out.discarded = true;
            out.held = false;
        }
        out.queue.close(payload);
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
