//! The write half of a session, behind the only lock on the hot path.
//!
//! Writers write to the transport themselves: a writer takes the lock and encodes into the shared out
//! buffer. The task that fills the buffer up to the flush size also writes it out. There is no task
//! hop and no allocation for each message.
//!
//! Breaking any of these rules for wakers can hang a session:
//!
//! * Every poll of the socket registers the driver's waker, on any task. tokio keeps one waker for
//!   each direction, and the last one wins, so a single poll with a writer's own waker would lose the
//!   driver's wake-up.
//! * A writer waits only while the [gate](super::gate) is shut, output is held or paced, or the
//!   upgrade or the streams are undecided. Only the driver opens the gate and releases held output, and it wakes the waiting
//!   writers at the end of its turn. [`Outbound::accept`] decides the upgrade, and wakes them at
//!   once. So a writer that writes out does not have to wake other writers.
//! * [`Outbound::poll_refused`] waits until writes fail, even while the gate is open.
//!   [`Outbound::refuse_writers`] and [`Outbound::take_transport`] wake its caller at once. After any
//!   other refusal, or an error of the transport, the driver does so at the end of its turn.
//! * The user's wakers are not woken, dropped or cloned under the lock, because this may drop a task
//!   that owns a writer. For the same reason, payloads are not dropped there: the owner of a payload
//!   may own a writer.

use std::{
    fmt, io,
    sync::{Arc, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::{io::ReadBuf, time::Instant};

use super::{
    gate::{Event, Gate},
    intake::Condition,
    out::{Out, Progress},
    queue::FLUSH,
    spent::PAYLOAD,
    waiting::{Closed, Wait},
};
use crate::{
    error::EndCause,
    frame::ClosePayload,
    policy::Bucket,
    unwind::drop_quietly,
    wire::{
        WireConfig,
        sync::{Mutex, MutexGuard},
        traffic::Traffic,
        transport::WriteHalf,
        turn::Turn,
    },
};

/// The largest number of bytes that one `write` accepts, unless it goes to a stream uncopied: see
/// [`Out::write`].
///
/// Because of it, control frames can go between two writes, and a budget is exceeded by no more than
/// this. kubectl sends messages of the same size.
pub(crate) const WRITE_CUT: usize = 32 * 1024;

/// The data that the end of the queue waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// The bytes that were accepted and have not left.
    pub(crate) queued: u64,
    /// The bytes that have left, and that the rate has yet to make up for.
    pub(crate) owed: u64,
}

/// The write half of a session; see the module's documentation.
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
        // Only a transport can panic under the lock. The queue is consistent between any two steps,
        // so a poisoned lock is fine.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Unlocks, and wakes the session's task if it would not notice the work that is left otherwise.
    /// So queued output leaves at the end of the task's next turn at the latest.
    fn unlock(&self, mut out: MutexGuard<'_, Out>) {
        let wake = out.calls_task();
        #[cfg(feature = "spdy")]
        let wake = wake | out.queue.take_began();
        release(out);
        if wake {
            self.turn.wake_driver();
        }
    }
}

/// The methods for the writers.
impl Outbound {
    /// Accepts the beginning of `payload` as one message, and returns the number of its bytes.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        channel: u8,
        payload: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.attempt(cx, channel, Wait::Room, |out| {
            out.check_open(channel)?;
            if payload.is_empty() {
                return Poll::Ready(Ok(0));
            }
            if out.queue.is_write_paced(channel, payload.len()) {
                return Poll::Pending;
            }
            ready!(out.make_room(channel))?;
            out.note_write();
            Poll::Ready(Ok(out.write(channel, payload)))
        })
    }

    /// Waits until [`Outbound::send`] would be accepted.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Result<()>> {
        self.attempt(cx, channel, Wait::Room, |out| {
            out.check_open(channel)?;
            if out.queue.is_paced(channel) {
                return Poll::Pending;
            }
            out.make_room(channel)
        })
    }

    /// Waits until a write would fail, and returns its error. This is for a writer that has to wait
    /// for something outside of the wire.
    pub(crate) fn poll_refused(&self, cx: &mut Context<'_>, channel: u8) -> Poll<io::Error> {
        self.attempt(cx, channel, Wait::Refusal, |out| {
            match out.check_open(channel) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(error),
            }
        })
    }

    /// Accepts the whole `payload` as one message, without copying it if it is large.
    pub(crate) fn send(&self, channel: u8, mut payload: Bytes) -> io::Result<()> {
        let mut out = self.lock();
        out.check_open(channel)?;
        if !payload.is_empty() {
            out.note_write();
        } else if out.queue.has_streams() {
            // A stream has no messages, and before it is open, there is nowhere to put one.
            return Ok(());
        }
        out.queue.push_bytes(channel, &mut payload);
        if out.queue.queued() >= FLUSH && out.gate.is_open() {
            out.write_out();
        }
        self.unlock(out);
        Ok(())
    }

    /// Waits until the transport has taken all data that the channel has accepted.
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

    /// Shuts a channel's writer down, which accepts no more data. Accepted data still leaves.
    pub(crate) fn close_writer(&self, channel: u8) {
        let mut out = self.lock();
        let closed = out.writers.close(channel);
        self.closed(out, channel, closed);
    }

    /// Closes a channel's writer, which was dropped.
    pub(crate) fn drop_writer(&self, channel: u8) {
        let mut out = self.lock();
        let closed = out.writers.drop(channel);
        self.closed(out, channel, closed);
    }

    /// Unlocks, and wakes the session's task if a writer was closed that matters to it.
    #[cfg_attr(not(feature = "spdy"), expect(unused_mut, unused_variables))]
    fn closed(&self, mut out: MutexGuard<'_, Out>, channel: u8, closed: Option<Closed>) {
        let Some(closed) = closed else { return };
        let has_streams = out.queue.has_streams();
        #[cfg(feature = "spdy")]
        if has_streams {
            out.ended.push(channel);
        }
        drop(out);
        drop(closed.waker);
        // The end of a stream is sent, while that of a channel is not.
        if closed.last || has_streams {
            self.turn.wake_driver();
        }
    }

    /// Runs a step for a writer, and registers the caller's waker if the writer has to wait.
    ///
    /// The waker is cloned outside the lock. The step is then run again, because an event in between
    /// has not woken the writer.
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

/// The methods for the turns of the session's task.
impl Outbound {
    /// Begins the task's turn. During it, writers do not have to wake the task, which writes out at
    /// the end.
    pub(crate) fn begin_turn(&self, driver_due: bool) {
        let mut out = self.lock();
        out.attention.begin();
        if driver_due {
            out.gate = out.gate.on(Event::DriverDue);
        }
    }

    /// Ends the task's turn: writes out, and wakes the writers for which there is room now.
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

    /// Installs the transport, so that output may leave.
    pub(crate) fn install(&self, transport: WriteHalf) {
        let mut out = self.lock();
        out.transport = Some(transport);
        out.gate = out.gate.on(Event::Installed);
    }

    /// Takes the transport away permanently, and wakes all waiting writers.
    ///
    /// The user may keep a writer for a long time after the session. The transport, which sends a FIN
    /// when it is dropped, and the queued data must not live that long.
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

/// The methods for the decisions of the driver and the session.
impl Outbound {
    /// Limits the rate at which data leaves.
    pub(crate) fn limit_rate(&self, rate: Option<Bucket>) {
        self.lock().rate = rate;
    }

    /// Holds data, or releases it. Control frames leave in either case.
    pub(crate) fn set_held(&self, held: bool) {
        self.lock().held = held;
    }

    /// Makes writers wait for this condition as well.
    pub(crate) fn wait_for(&self, condition: Condition) {
        self.lock().intake.defer(condition);
    }

    /// Notes that a condition holds, and wakes the writers that waited if it was the last one.
    pub(crate) fn accept(&self, condition: Condition) {
        let mut out = self.lock();
        if !out.intake.accept(condition) {
            return;
        }
        let mut woken = Vec::new();
        out.take_ready(&mut woken);
        drop(out);
        wake_all(woken);
    }

    /// Makes all writes fail, including those that are waiting. Only the first cause counts.
    pub(crate) fn refuse_writers(&self, cause: &EndCause) {
        let mut out = self.lock();
        out.intake.refuse(cause);
        let waiting = out.writers.take_all();
        drop(out);
        wake_all(waiting);
    }

    /// Makes all writes fail, unless any payload has been accepted. Returns whether they fail.
    ///
    /// The check and the refusal are one step, so that no data is accepted and then lost.
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

    /// Queues a Pong that nothing has asked for, as a sign of life.
    pub(crate) fn pong_unasked(&self) {
        self.lock().queue.pong_unasked();
    }

    /// Queues a Ping, and returns whether an answer to it can be expected.
    pub(crate) fn ping(&self) -> bool {
        self.lock().queue.ping()
    }

    /// Queues the last message of a session, if its channel exists. Returns whether it does. No
    /// budget applies, because the message must not fail for lack of room.
    ///
    /// Makes all writes fail in the same step, so that a writer in another task that has outlived
    /// the grace cannot write after this message.
    pub(crate) fn last_words(&self, cause: &EndCause, channel: u8, mut payload: Bytes) -> bool {
        let mut out = self.lock();
        out.intake.refuse(cause);
        let has_channel = out.has_channel(channel);
        if has_channel {
            out.queue.push_bytes(channel, &mut payload);
        }
        drop(out);
        drop_quietly(payload, PAYLOAD);
        has_channel
    }

    /// Queues the Close frame. With `discard`, it replaces everything that is queued.
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

/// The methods for streams that stand for channels.
#[cfg(feature = "spdy")]
impl Outbound {
    /// Lets a stream stand for a channel, whose writer exists.
    pub(crate) fn open(&self, channel: u8, stream: u32) {
        self.lock().queue.open(channel, stream);
    }

    /// Lets a stream stand for a channel, and adds an open writer for it. The channel must be
    /// [free](Self::is_free).
    pub(crate) fn open_new(&self, channel: u8, stream: u32) {
        let mut out = self.lock();
        out.queue.open(channel, stream);
        out.writers.add(channel);
    }

    /// Returns whether a channel has no writer and no queued data, so that another stream may stand
    /// for it. The end of its last writer must have been [taken](Self::take_ended).
    pub(crate) fn is_free(&self, channel: u8) -> bool {
        let out = self.lock();
        out.writers.is_dropped(channel)
            && out.queue.is_idle(channel)
            && !out.ended.contains(&channel)
    }

    /// Returns whether streams stand for the channels.
    pub(crate) fn has_streams(&self) -> bool {
        self.lock().queue.has_streams()
    }

    /// Makes writes on a channel fail, because the peer has reset its stream. Data that was accepted
    /// before still leaves, and the peer ignores it.
    pub(crate) fn reset(&self, channel: u8) {
        let mut out = self.lock();
        let closed = out.writers.reset(channel);
        drop(out);
        if let Some(waker) = closed.and_then(|closed| closed.waker) {
            waker.wake();
        }
    }

    /// Closes a channel's writer, because this end has ended the stream. A writer that waits in another
    /// task is woken, and fails.
    pub(crate) fn finish(&self, channel: u8) {
        let mut out = self.lock();
        let closed = out.writers.close(channel);
        drop(out);
        if let Some(waker) = closed.and_then(|closed| closed.waker) {
            waker.wake();
        }
    }

    /// Queues the SYN_REPLY of a stream, which comes before the data that is accepted later. Returns
    /// the number of [queued bytes](Self::queued_frames).
    pub(crate) fn reply(&self, stream: u32) -> usize {
        let mut out = self.lock();
        out.queue.push_reply(stream);
        let queued = out.queue.queued_control();
        self.unlock(out);
        queued
    }

    /// Queues frames that are not data, behind everything that was accepted. Returns the number of
    /// [queued bytes](Self::queued_frames).
    pub(crate) fn push_frames(&self, frames: &[u8]) -> usize {
        let mut out = self.lock();
        out.queue.push_frames(frames);
        let queued = out.queue.queued_control();
        self.unlock(out);
        queued
    }

    /// Returns the number of bytes of frames without data that have not left.
    pub(crate) fn queued_frames(&self) -> usize {
        self.lock().queue.queued_control()
    }

    /// Notes that the peer has answered a PING, and returns the amount of data that it has read for
    /// certain. Returns `None` if there was no such PING.
    pub(crate) fn answered(&self, ping: u32) -> Option<u64> {
        let mut out = self.lock();
        let asked = out.queue.answered(ping);
        let mark = out.queue.take_mark(ping);
        mark.or(asked.then_some(0))
    }

    /// Paces data, so that a Go client does not stop reading because one stream is not read.
    pub(crate) fn pace(&self) {
        self.lock().queue.pace();
    }

    /// Stops or continues pacing while this end does not read.
    pub(crate) fn pause_pacing(&self, paused: bool) {
        let mut out = self.lock();
        out.queue.pause_pacing(paused);
        self.unlock(out);
    }

    /// Returns whether a reply on this stream would wait in the peer behind data that is not confirmed,
    /// and perhaps not read.
    pub(crate) fn stands_still(&self, stream: u32) -> bool {
        self.lock().queue.stands_still(stream)
    }

    /// Stops pacing if the peer has not answered in time.
    pub(crate) fn expire_pacing(&self, now: Instant) {
        let mut out = self.lock();
        out.queue.expire_pacing(now);
        self.unlock(out);
    }

    /// Returns the instant at which pacing ends unless the peer answers.
    pub(crate) fn pacing_due(&self) -> Option<Instant> {
        self.lock().queue.pacing_due()
    }

    /// Takes the channels whose writers were shut down or dropped since the last call. A channel
    /// whose stream was reset is not among them.
    pub(crate) fn take_ended(&self, ended: &mut Vec<u8>) {
        ended.append(&mut self.lock().ended);
    }
}

/// The figures.
impl Outbound {
    /// Returns the number of writers that were neither dropped nor shut down.
    pub(crate) fn open_writers(&self) -> usize {
        self.lock().writers.open()
    }

    /// Returns when payload was last accepted or last left, if this is noted.
    pub(crate) fn last_write(&self) -> Option<Instant> {
        self.lock().last_write
    }

    /// Returns the data that the end of the queue waits for.
    pub(crate) fn due(&self, now: Instant) -> Due {
        let out = self.lock();
        let owed = out.rate.as_ref().map_or(0, |rate| rate.owed(now));
        let queued = out.queue.queued() as u64;
        Due { queued, owed }
    }

    /// Returns the number of bytes of data that have ever left.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().queue.left()
    }

    /// Returns whether anything is queued, including control frames.
    pub(crate) fn has_output(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Returns the amount of data that each channel's writer has ever accepted.
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

/// Does the same, if there are payloads. It is a separate function because few messages need it.
#[inline(never)]
fn release_spent(mut out: MutexGuard<'_, Out>) {
    let spent = out.queue.take_spent();
    drop(out);
    drop(spent);
}

/// Wakes all of these wakers. Must not be called under the lock.
#[inline]
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    for waker in wakers {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
