//! The state behind the lock of [`Outbound`](super::Outbound), and the only code that writes to the
//! transport.

use std::{
    io,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    attention::Attention,
    gate::{Event, Gate},
    intake::Intake,
    outbound::WRITE_CUT,
    queue::{FLUSH, SendQueue},
    waiting::{Wait, Writers},
};
#[cfg(feature = "spdy")]
use crate::spdy;
use crate::{
    error::EndCause,
    policy::Bucket,
    wire::{WireConfig, transport::WriteHalf},
};

/// The result of writing out what was queued.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Set if the transport took at least one byte.
    pub(crate) wrote: bool,
    /// Set if everything has left, and the transport is flushed.
    pub(crate) idle: bool,
    /// Set if output had to wait for the transport since the last turn, even for a short time.
    pub(crate) waited: bool,
    /// The error with which the transport failed.
    pub(crate) broken: Option<io::ErrorKind>,
    /// The instant at which the rate lets data leave again, if data is waiting for the rate.
    pub(crate) throttled: Option<Instant>,
}

/// The state behind the lock.
///
/// The gate, the attention and the intake are state machines. The flags are independent of them and
/// of each other.
pub(super) struct Out {
    pub(super) queue: SendQueue,
    pub(super) transport: Option<WriteHalf>,
    /// The driver's waker, which every poll of the transport registers, on any task.
    waker: Waker,
    pub(super) gate: Gate,
    pub(super) attention: Attention,
    pub(super) intake: Intake,
    pub(super) writers: Writers,
    /// The limit on the rate at which data may leave.
    pub(super) rate: Option<Bucket>,
    /// Set while the service holds output. This is not a state of the gate, because control frames
    /// still leave, and writes are still queued while there is room.
    pub(super) held: bool,
    /// Set if the transport has returned `Pending` since the last turn. The gate does not show this,
    /// because the transport may accept more again.
    pub(super) waited: bool,
    /// Set if the transport may still buffer written bytes. This is independent of whether the
    /// transport is full and of whether the queue is empty.
    pub(super) unflushed: bool,
    /// Set if the queue was discarded, so that a flush can only fail. The Close frame that replaced
    /// it still leaves through the gate.
    pub(super) discarded: bool,
    /// Set once any payload was accepted, even if writes are refused later.
    pub(super) written: bool,
    /// Set to note the time of each write in `last_write`.
    stamps: bool,
    pub(super) last_write: Option<Instant>,
    /// The channels whose writers have ended since the driver last asked, if streams stand for them.
    #[cfg(feature = "spdy")]
    pub(super) ended: Vec<u8>,
}

impl Out {
    pub(super) fn new(config: &WireConfig, waker: Waker, writable: impl Fn(usize) -> bool) -> Self {
        Self {
            queue: SendQueue::new(
                config.format,
                config.channels,
                config.send_budget,
                config.high_water,
            ),
            transport: None,
            waker,
            gate: Gate::Absent,
            attention: Attention::Away,
            intake: Intake::Accepting,
            writers: Writers::new(config.channels, writable),
            rate: None,
            held: false,
            waited: false,
            unflushed: false,
            discarded: false,
            written: false,
            stamps: config.stamps,
            last_write: None,
            #[cfg(feature = "spdy")]
            ended: Vec::new(),
        }
    }

    /// Notes that payload was accepted.
    pub(super) fn note_write(&mut self) {
        self.written = true;
        if self.stamps {
            self.last_write = Some(Instant::now());
        }
    }

    /// Fails if a write on this channel will never be accepted.
    #[inline]
    pub(super) fn check_open(&self, channel: u8) -> io::Result<()> {
        if let Some(cause) = self.intake.refusal() {
            return Err(cause.write_error());
        }
        if let Gate::Broken(kind) = self.gate {
            return Err(EndCause::ConnectionLost { kind }.write_error());
        }
        if !self.writers.is_open(channel) {
            #[cfg(feature = "spdy")]
            if self.writers.is_reset(channel) {
                return Err(io::Error::new(
                    io::ErrorKind::ConnectionReset,
                    "the stream was reset",
                ));
            }
            return Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the channel was shut down for writing",
            ));
        }
        Ok(())
    }

    /// Returns whether a message on this channel has a way to the peer.
    pub(super) fn has_channel(&self, channel: u8) -> bool {
        #[cfg(feature = "spdy")]
        if self.queue.has_streams() {
            return self.queue.is_open(channel);
        }
        usize::from(channel) < self.writers.channels()
    }

    /// Returns the reason why the queue will never leave, if there is one.
    ///
    /// A refusal alone is not a reason: data that was accepted before it leaves ahead of the Close
    /// frame.
    pub(super) fn lost(&self) -> Option<io::Error> {
        let discarded = self.discarded.then_some(io::ErrorKind::NotConnected);
        let kind = self.gate.failure().or(discarded)?;
        let lost = EndCause::ConnectionLost { kind };
        Some(self.intake.refusal().unwrap_or(&lost).write_error())
    }

    /// Returns whether all data that a channel has accepted has left.
    pub(super) fn is_flushed(&self, channel: u8) -> bool {
        self.queue.is_flushed(channel) && !self.unflushed
    }

    /// Returns whether the session's task has to be woken because there is work left.
    pub(super) fn calls_task(&mut self) -> bool {
        let work = match self.gate {
            // After a vectored write, the queue may be empty while the transport still buffers.
            Gate::Open => !self.queue.is_empty() || self.unflushed,
            // Only the driver can set a timer, and only the driver can end a session.
            Gate::Paced | Gate::Broken(_) => true,
            // Every event that opens the gate also wakes the driver.
            Gate::Absent | Gate::Full | Gate::Gone => false,
        };
        work && self.attention.call()
    }

    /// Waits until a write on this channel, which is not paced, can be accepted, and writes out to
    /// make room for it.
    #[inline(always)] // in both of its callers: 28 instructions a message
    pub(super) fn make_room(&mut self, channel: u8) -> Poll<io::Result<()>> {
        if self.intake.is_undecided() {
            return Poll::Pending;
        }
        while !self.queue.has_room(channel) {
            if !self.gate.is_open() || self.held {
                return Poll::Pending;
            }
            // The loop ends, because either everything leaves or the gate shuts.
            self.write_out();
            self.check_open(channel)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Queues the beginning of `payload` as a message, and writes the queue out if it is large enough
    /// to be worth a system call. Returns the number of bytes in the message.
    pub(super) fn write(&mut self, channel: u8, all: &[u8]) -> usize {
        let payload = &all[..all.len().min(self.cut(channel, all.len()))];
        let open = self.lets_data_out();
        if open && self.queue.is_over_cap(payload.len()) {
            self.write_out();
        }
        let open = open && self.gate.is_open();
        if open && self.queue.wants_vectored(payload.len()) && self.is_write_vectored() {
            #[cfg(feature = "spdy")]
            let payload = &all[..self.uncopied(channel, payload.len(), all.len())];
            self.write_vectored(channel, payload);
            return payload.len();
        }
        self.queue.push(channel, payload);
        if open && self.queue.queued() >= FLUSH {
            self.write_out();
        }
        payload.len()
    }

    /// Returns the length of the largest message of this channel that is copied, for a payload of
    /// this length.
    #[cfg_attr(not(feature = "spdy"), expect(unused_variables, clippy::unused_self))]
    fn cut(&self, channel: u8, len: usize) -> usize {
        #[cfg(feature = "spdy")]
        if len > spdy::LEAST_DATA {
            return WRITE_CUT.min(self.queue.largest_data(channel));
        }
        WRITE_CUT
    }

    /// Returns the length of the message for the first `cut` of `len` bytes, if it is not copied.
    ///
    /// A rate is charged for what has left, and so needs messages that are not much larger.
    #[cfg(feature = "spdy")]
    fn uncopied(&self, channel: u8, cut: usize, len: usize) -> usize {
        match self.rate {
            None if cut < len => cut.max(len.min(self.queue.largest_uncopied(channel))),
            _ => cut,
        }
    }

    /// Returns whether data may leave. If only the rate forbids it, paces the gate.
    fn lets_data_out(&mut self) -> bool {
        if !self.gate.is_open() || self.held {
            return false;
        }
        if !self.keeps_rate() {
            self.gate = self.gate.on(Event::RateSpent);
        }
        self.gate.is_open()
    }

    /// Returns whether the rate allows data to leave now.
    fn keeps_rate(&mut self) -> bool {
        let rate = self.rate.as_mut();
        rate.is_none_or(|rate| rate.available(Instant::now()) > 0)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport
            .as_ref()
            .is_some_and(WriteHalf::is_write_vectored)
    }

    /// Writes the queue and a payload together, without copying them. The part of the payload that
    /// the transport does not take is queued.
    fn write_vectored(&mut self, channel: u8, payload: &[u8]) {
        self.queue.push_head(channel, payload.len());
        let result = match &mut self.transport {
            Some(transport) => {
                let slices = [
                    io::IoSlice::new(self.queue.buffered()),
                    io::IoSlice::new(payload),
                ];
                let cx = &mut Context::from_waker(&self.waker);
                transport.poll_write_vectored(cx, &slices)
            }
            None => Poll::Pending,
        };
        let n = self.took(result).unwrap_or(0);
        if let Some(rate) = &mut self.rate {
            rate.take(n);
        }
        self.queue.advance_with(n, payload);
        #[cfg(feature = "spdy")]
        self.queue.ask_for(channel);
        // tokio registers the waker only when it returns `Pending`, so a partial write has to be
        // followed by another one.
        if self.queue.queued() > 0 && self.gate.is_open() {
            self.write_out();
        }
    }

    /// Handles the transport's result of a write. Returns how many bytes it took, if it took any.
    fn took(&mut self, result: Poll<io::Result<usize>>) -> Option<usize> {
        match result {
            Poll::Ready(Ok(0)) => self.fail(io::ErrorKind::WriteZero),
            Poll::Ready(Ok(n)) => {
                self.unflushed = self.transport.as_ref().is_some_and(WriteHalf::needs_flush);
                // Leaving counts as well as accepting, because a large queue may take hours to
                // leave. The PINGs of SPDY are in the queue too, but are no data.
                if self.stamps && self.queue.has_data() {
                    self.last_write = Some(Instant::now());
                }
                return Some(n);
            }
            Poll::Ready(Err(error)) => self.fail(error.kind()),
            Poll::Pending => self.block(),
        }
        None
    }

    /// Writes out and flushes the queue, until the transport is full or has failed, or the rate is
    /// used up. Held output stays.
    pub(super) fn write_out(&mut self) -> Progress {
        let mut progress = Progress::default();
        let mut late = false;
        loop {
            // A frame that has left in part is completed even if the rate is used up, and charged
            // afterwards. A Close that replaced the queue does not wait for the rate.
            late = late || (self.queue.queued() > 0 && !self.discarded && !self.keeps_rate());
            let held = self.held || late;
            let Some(transport) = &mut self.transport else {
                break;
            };
            let cx = &mut Context::from_waker(&self.waker);
            let Some(next) = self.queue.next(held) else {
                break;
            };
            let result = if next.vectored && transport.is_write_vectored() {
                transport.poll_write_vectored(cx, next.slices())
            } else {
                transport.poll_write(cx, next.first())
            };
            let Some(n) = self.took(result) else { break };
            let left = self.queue.left();
            self.queue.advance(n);
            // Only data is charged. If Pongs were charged, a peer could delay the end of its session
            // for as long as it sends Pings.
            if let Some(rate) = &mut self.rate {
                rate.take((self.queue.left() - left) as usize);
            }
            progress.wrote = true;
        }

        if self.unflushed && self.gate.passes_control() {
            self.flush_transport();
        }
        self.gate = self.gate.on(match late {
            true => Event::RateSpent,
            false => Event::RateAllows,
        });
        if self.gate == Gate::Paced {
            progress.throttled = self.rate.map(|rate| rate.ready_at());
        }
        if let Gate::Broken(kind) = self.gate {
            progress.broken = Some(kind);
        }
        progress.idle = self.queue.is_empty() && !self.unflushed;
        progress
    }

    fn flush_transport(&mut self) {
        let Some(transport) = &mut self.transport else {
            return;
        };
        match transport.poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(error)) => self.fail(error.kind()),
            Poll::Pending => self.block(),
        }
    }

    /// Notes that the transport accepts no more.
    fn block(&mut self) {
        self.gate = self.gate.on(Event::Pending);
        self.waited = true;
        #[cfg(feature = "spdy")]
        self.queue.seal();
    }

    /// Notes that the transport has failed.
    fn fail(&mut self, kind: io::ErrorKind) {
        self.gate = self.gate.on(Event::Failed(kind));
    }

    /// Takes the wakers of the writers that can continue.
    pub(super) fn take_ready(&mut self, woken: &mut Vec<Waker>) {
        let failed = self.gate.failure().is_some();
        let refused = failed || self.intake.refusal().is_some();
        let lost = failed || self.discarded;
        let undecided = self.intake.is_undecided();
        let (queue, unflushed) = (&self.queue, self.unflushed);
        self.writers.take_ready(woken, |channel, wait| match wait {
            // This does not depend on `held`, because held output is accepted while there is room.
            Wait::Room => {
                refused || (queue.has_room(channel) && !undecided && !queue.is_paced(channel))
            }
            Wait::Flush => lost || (queue.is_flushed(channel) && !unflushed),
            Wait::Refusal => refused,
        });
    }
}
