//! The write half of a session behind the crate's one hot lock.
//!
//! A writer writes: it takes the lock, encodes into the shared out buffer, and
//! at the flush size the buffer goes out, from whichever task fills it. There
//! is no task hop and no allocation per message.
//!
//! The rules of the wakers, each of which hangs a session when broken:
//!
//! * Every poll of the socket registers the driver's waker, on any task.
//!   tokio keeps one waker per direction and the last poller wins, so one poll
//!   with a writer's own waker would lose the driver's wake-up.
//! * Writers wait only while the [gate](super::gate) is shut. Only the driver
//!   opens it, and it wakes the waiting writers at the end of its turn. So a
//!   writer that writes out need not wake other writers.
//! * No foreign waker is woken, dropped or cloned under the lock: it may drop a
//!   task that owns a writer. For the same reason no payload is dropped there: its
//!   owner may hold a writer.

use std::{
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::{io::ReadBuf, time::Instant};

use super::{
    gate::{Event, Gate},
    out::{Out, Progress},
    queue::FLUSH,
    waiting::Wait,
};
use crate::{
    error::EndCause,
    frame::ClosePayload,
    policy::Bucket,
    wire::{WireConfig, traffic::Traffic, transport::WriteHalf, turn::Turn},
};

/// A `write` takes no more than this at once, so that control frames fit
/// between two and no budget is exceeded by more. It is what kubectl sends.
pub(crate) const WRITE_CUT: usize = 32 * 1024;

/// The write half of a session. See the module.
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
        let out = Out::new(config, turn.driver_waker(), writable);
        Self {
            turn: Arc::clone(turn),
            out: Mutex::new(out),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Out> {
        // A panic under the lock can only come from a transport. The queue is
        // whole between any two steps, so going on is right.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks, and wakes the session's task if it would not see otherwise what was left
    /// to do. So what was queued leaves at the latest at the end of the task's next turn.
    fn unlock(&self, mut out: MutexGuard<'_, Out>) {
        let wake = out.calls_task();
        release(out);
        if wake {
            self.turn.wake_driver();
        }
    }
}

/// For the writers.
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
            out.note_write();
            out.write(channel, payload);
            Poll::Ready(Ok(payload.len()))
        })
    }

    /// Waits until [`Outbound::send`] would be accepted.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Result<()>> {
        self.attempt(cx, channel, Wait::Room, |out| {
            out.check_open(channel)?;
            out.make_room(channel)
        })
    }

    /// Waits until a write would fail, and returns its error. For a writer that cannot go
    /// on for a reason that lies outside of the wire.
    pub(crate) fn poll_refused(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Error> {
        self.attempt(cx, channel, Wait::Refusal, |out| {
            match out.check_open(channel) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error),
            }
        })
    }

    /// Accepts all of `payload` as one message, uncopied if it is large.
    pub(crate) fn send(&self, channel: u8, mut payload: Bytes) -> io::Result<()> {
        let mut out = self.lock();
        out.check_open(channel)?;
        if !payload.is_empty() {
            out.note_write();
        }
        out.queue.push_bytes(channel, &mut payload);
        if out.queue.queued() >= FLUSH && out.gate.is_open() {
            out.write_out();
        }
        self.unlock(out);
        Ok(())
    }

    /// Waits until all that the channel has accepted was handed to the transport.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Result<()>> {
        self.attempt(cx, channel, Wait::Flush, |out| {
            if !out.is_flushed(channel) && out.gate.is_open() {
                out.write_out();
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

    /// Closes a channel's writer: it accepts no more, and what it has accepted goes out.
    pub(crate) fn close_writer(&self, channel: u8) {
        let mut out = self.lock();
        let Some(closed) = out.writers.close(channel) else {
            return;
        };
        drop(out);
        drop(closed.waker);
        if closed.last {
            self.turn.wake_driver();
        }
    }

    /// Takes a step for a writer. Where it has to wait, leaves the caller's waker and takes
    /// the step once more: the waker is cloned outside the lock, and whatever happened
    /// in between has woken no one.
    fn attempt<T>(
        &self,
        cx: &mut Context<'_>,
        channel: u8,
        wait: Wait,
        mut step: impl FnMut(&mut Out) -> Poll<T>,
    ) -> Poll<T> {
        let mut out = self.lock();
        let mut result = step(&mut out);
        if result.is_ready() || out.writers.renew(channel, wait, cx.waker()) {
            self.unlock(out);
            return result;
        }
        drop(out);
        let waker = cx.waker().clone();
        let mut out = self.lock();
        result = step(&mut out);
        let unused = match result {
            Poll::Ready(_) => Some(waker),
            Poll::Pending => out.writers.wait(channel, wait, waker),
        };
        self.unlock(out);
        drop(unused);
        result
    }
}

/// For the session's task and its turns.
impl Outbound {
    /// Begins the task's turn, in which writers need not wake it: it writes out at the end.
    pub(crate) fn begin_turn(&self, driver_due: bool) {
        let mut out = self.lock();
        out.attention.begin();
        if driver_due {
            out.gate = out.gate.on(Event::DriverDue);
        }
    }

    /// Ends the task's turn: writes out what there is, and wakes the writers for which that
    /// made room.
    pub(crate) fn end_turn(&self, woken: &mut Vec<Waker>) -> Progress {
        let mut out = self.lock();
        let mut progress = match out.gate {
            Gate::Open | Gate::Paced => out.write_out(),
            Gate::Broken(kind) => Progress {
                broken: Some(kind),
                ..Progress::default()
            },
            Gate::Absent | Gate::Full | Gate::Gone => Progress::default(),
        };
        progress.waited = std::mem::take(&mut out.waited);
        let paced = out.gate == Gate::Paced;
        out.attention.end(paced);
        out.take_ready(woken);
        out.queue.release_buffers();
        release(out);
        wake_all(woken.drain(..));
        progress
    }

    /// Hands the transport over: output may leave.
    pub(crate) fn install(&self, transport: WriteHalf) {
        let mut out = self.lock();
        out.transport = Some(transport);
        out.gate = out.gate.on(Event::Installed);
    }

    /// Takes the transport away for good, and wakes every writer that waits.
    ///
    /// The drop of an `OwnedWriteHalf` sends a FIN, and a user may keep a writer for long
    /// after the session, so neither the transport nor the queued data must wait for the
    /// writers.
    pub(crate) fn take_transport(&self) -> Option<WriteHalf> {
        let mut out = self.lock();
        out.gate = out.gate.on(Event::Taken);
        let transport = out.transport.take();
        out.queue.abandon();
        let waiting = out.writers.take_all();
        release(out);
        wake_all(waiting);
        transport
    }

    /// Reads from a transport that is not split.
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

    /// Shuts down the sending side of the transport.
    pub(crate) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.lock().transport {
            Some(transport) => transport.poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// For the driver's and the session's decisions.
impl Outbound {
    /// Makes data leave no faster than this from now on.
    pub(crate) fn limit_rate(&self, rate: Option<Bucket>) {
        self.lock().rate = rate;
    }

    /// Holds data back, or lets it leave again. Control frames leave all the same.
    pub(crate) fn set_held(&self, held: bool) {
        self.lock().held = held;
    }

    /// Makes writers wait until the upgrade is accepted.
    pub(crate) fn wait_for_acceptance(&self) {
        self.lock().intake.defer();
    }

    /// Accepts the upgrade: writers that waited for that go on.
    pub(crate) fn accept(&self) {
        let mut out = self.lock();
        if !out.intake.accept() {
            return;
        }
        let mut woken = Vec::new();
        out.take_ready(&mut woken);
        drop(out);
        wake_all(woken);
    }

    /// Makes all writers fail, those that wait included. The first cause stays.
    pub(crate) fn refuse_writers(&self, cause: &EndCause) {
        let mut out = self.lock();
        out.intake.refuse(cause);
        let waiting = out.writers.take_all();
        drop(out);
        wake_all(waiting);
    }

    /// Makes all writers fail, unless payload was accepted before: then nothing happens.
    /// Returns whether they fail. One step does both, so that nothing is accepted and then
    /// lost.
    pub(crate) fn refuse_unless_written(&self, cause: &EndCause) -> bool {
        let mut out = self.lock();
        if out.written {
            return false;
        }
        out.intake.refuse(cause);
        true
    }

    pub(crate) fn pong(&self, payload: &[u8]) {
        self.lock().queue.pong(payload);
    }

    pub(crate) fn ping(&self) {
        self.lock().queue.ping();
    }

    /// Queues the last message of a session. No budget applies: what is accepted last must
    /// not fail for lack of room.
    ///
    /// Makes writers fail first, in the same step: one that has outlived its grace in another
    /// task must not write behind this.
    pub(crate) fn last_words(&self, cause: &EndCause, channel: u8, mut payload: Bytes) {
        let mut out = self.lock();
        out.intake.refuse(cause);
        if usize::from(channel) < out.writers.channels() {
            out.queue.push_bytes(channel, &mut payload);
        }
    }

    /// Queues the Close frame; with `discard`, in place of all that is queued.
    pub(crate) fn close(&self, payload: &ClosePayload, discard: bool) {
        let mut out = self.lock();
        if discard {
            out.queue.discard();
            out.discarded = true;
            out.held = false;
        }
        out.queue.close(payload);
        release(out);
    }
}

/// Figures.
impl Outbound {
    /// Returns the number of writers that were neither dropped nor shut down.
    pub(crate) fn open_writers(&self) -> usize {
        self.lock().writers.open()
    }

    /// Returns when payload was last accepted or has last left, where that is noted.
    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.lock().last_write
    }

    /// Returns the bytes of data that were accepted and have not left.
    pub(crate) fn queued(&self) -> u64 {
        self.lock().queue.queued() as u64
    }

    /// Returns the bytes of data that have ever left.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().queue.left()
    }

    /// Returns whether anything is queued, control frames included.
    pub(crate) fn has_output(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Returns what each channel's writer has ever accepted.
    pub(crate) fn accepted_on_each(&self) -> Vec<Traffic> {
        let out = self.lock();
        (0..out.writers.channels())
            .map(|channel| out.queue.accepted_on(channel as u8))
            .collect()
    }
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound").finish_non_exhaustive()
    }
}

/// Unlocks, and then drops the payloads that have left.
#[inline]
fn release(out: MutexGuard<'_, Out>) {
    if out.queue.has_spent() {
        return release_spent(out);
    }
    drop(out);
}

/// Apart, because hardly a message leaves a payload behind.
#[inline(never)]
fn release_spent(mut out: MutexGuard<'_, Out>) {
    let spent = out.queue.take_spent();
    drop(out);
    drop(spent);
}

/// Wakes them all. Never under the lock.
#[inline]
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
