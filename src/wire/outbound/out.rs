use std::{
    io,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::{
    queue::{FLUSH, Outbox},
    waiting::Writer,
};
use crate::{error::EndCause, policy::Bucket, wire::transport::WriteHalf};

/// What a drain did.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Whether the transport took a byte.
    pub(crate) wrote: bool,
    /// Whether everything is out, flushed included.
    pub(crate) idle: bool,
    /// Whether the transport has let output wait since the last turn, for
    /// however short a time.
    pub(crate) waited: bool,
    /// What the transport said when it broke.
    pub(crate) broken: Option<io::ErrorKind>,
    /// Data may not leave before then.
    pub(crate) throttled: Option<Instant>,
}

/// Everything behind the lock.
pub(super) struct Out {
    pub(super) queue: Outbox,
    pub(super) transport: Option<WriteHalf>,
    /// The driver's; every poll of the transport uses it.
    pub(super) waker: Waker,
    /// The transport answered Pending: not before the driver's next turn.
    pub(super) blocked: bool,
    /// It has answered so since the driver's last turn.
    pub(super) waited: bool,
    /// Output waits although there is a transport; control frames do not.
    pub(super) held: bool,
    /// The session's turn runs, and flushes at its end: no need to kick it.
    pub(super) in_turn: bool,
    /// The driver has been told that there is something to flush.
    pub(super) kicked: bool,
    /// Something was written that the transport may still buffer.
    pub(super) unflushed: bool,
    pub(super) broken: Option<io::ErrorKind>,
    /// The driver has taken the transport away for good.
    pub(super) gone: bool,
    /// What was queued has been dropped: a flush of it can only fail.
    pub(super) discarded: bool,
    /// Writers fail from here on.
    pub(super) refused: Option<EndCause>,
    pub(super) writers: Box<[Writer]>,
    pub(super) open: usize,
    /// A byte of payload was accepted: the service has spoken.
    pub(super) written: bool,
    pub(super) stamps: bool,
    pub(super) last_write: Option<Instant>,
    /// The upgrade is not accepted yet, and nothing may be before it is.
    pub(super) waits: bool,
    /// How fast data may leave.
    pub(super) rate: Option<Bucket>,
    /// Data waits for that: `blocked` is set, and the socket is not full.
    pub(super) throttled: bool,
    /// The driver has no timer for it yet.
    pub(super) alarm: bool,
}

impl Out {
    /// Payload was accepted.
    pub(super) fn spoke(&mut self) {
        self.written = true;
        if self.stamps {
            self.last_write = Some(Instant::now());
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked || self.transport.is_none() || self.broken.is_some()
    }

    #[inline]
    pub(super) fn check_open(&self, channel: u8) -> io::Result<()> {
        if let Some(cause) = &self.refused {
            return Err(cause.write_error());
        }
        if let Some(kind) = self.broken {
            return Err(EndCause::ConnectionLost { kind }.write_error());
        }
        match self.writers.get(usize::from(channel)) {
            Some(writer) if writer.open => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::BrokenPipe,
                "the channel was shut down for writing",
            )),
        }
    }

    /// Why what is queued will never leave. Refused writers are no reason:
    /// what was accepted before goes out before the Close frame.
    pub(super) fn lost(&self) -> Option<io::Error> {
        let kind = match self.broken {
            Some(kind) => kind,
            None if self.gone || self.discarded => io::ErrorKind::NotConnected,
            None => return None,
        };
        let cause = self.refused.clone();
        Some(
            cause
                .unwrap_or(EndCause::ConnectionLost { kind })
                .write_error(),
        )
    }

    pub(super) fn is_flushed(&self, channel: u8) -> bool {
        self.queue.is_flushed(channel) && !self.unflushed
    }

    #[inline(always)] // in both of its callers: 28 instructions a message
    pub(super) fn make_room(&mut self, channel: u8) -> Poll<io::Result<()>> {
        if self.waits {
            return Poll::Pending;
        }
        while !self.queue.has_room(channel) {
            if self.is_blocked() || self.held {
                return Poll::Pending;
            }
            // Ends: everything leaves, or the transport blocks or breaks.
            self.drain();
            self.check_open(channel)?;
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn write(&mut self, channel: u8, payload: &[u8]) {
        let open = !self.is_blocked() && !self.held;
        if open && !self.may_leave() {
            self.throttle();
        }
        let open = open && !self.throttled;
        if open && self.queue.is_over_cap(payload.len()) {
            self.drain();
        }
        let open = open && !self.is_blocked();
        if open && self.queue.wants_vectored(payload.len()) && self.is_write_vectored() {
            return self.write_vectored(channel, payload);
        }
        self.queue.push(channel, payload);
        if open && self.queue.queued() >= FLUSH {
            self.drain();
        }
    }

    /// Whether data may leave already, where there is a rate for it.
    pub(super) fn may_leave(&mut self) -> bool {
        let rate = self.rate.as_mut();
        rate.is_none_or(|rate| rate.available(Instant::now()) > 0)
    }

    /// Data may not leave yet: as if the socket were full, until the driver's next
    /// turn, for which it sets its timer.
    pub(super) fn throttle(&mut self) {
        self.alarm |= !self.throttled;
        self.throttled = true;
        self.blocked = true;
    }

    pub(super) fn is_write_vectored(&self) -> bool {
        self.transport
            .as_ref()
            .is_some_and(WriteHalf::is_write_vectored)
    }

    /// Writes queue and payload together, uncopied; what the transport does not
    /// take is queued.
    pub(super) fn write_vectored(&mut self, channel: u8, payload: &[u8]) {
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
        self.queue.sent_with(n, payload);
        // tokio registers a waker only with Pending, so a partial write is
        // followed by another one.
        if self.queue.queued() > 0 && !self.is_blocked() {
            self.drain();
        }
    }

    /// Judges the answer of the transport to a write.
    pub(super) fn took(&mut self, result: Poll<io::Result<usize>>) -> Option<usize> {
        match result {
            Poll::Ready(Ok(0)) => self.broken = Some(io::ErrorKind::WriteZero),
            Poll::Ready(Ok(n)) => {
                self.unflushed = self.transport.as_ref().is_some_and(WriteHalf::needs_flush);
                // What was accepted long ago may leave for hours.
                if self.stamps && self.queue.queued() > 0 {
                    self.last_write = Some(Instant::now());
                }
                return Some(n);
            }
            Poll::Ready(Err(error)) => self.broken = Some(error.kind()),
            Poll::Pending => self.block(),
        }
        None
    }

    /// Writes until nothing is left, or the transport blocks or breaks.
    pub(super) fn drain(&mut self) -> Progress {
        let mut progress = Progress::default();
        let mut late = false;
        loop {
            // A frame that is half out is finished, and paid for afterwards.
            // A Close in place of all that waited has nothing to wait for.
            late = late || (self.queue.queued() > 0 && !self.discarded && !self.may_leave());
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
            self.queue.sent(n);
            // Data only: with as many Pongs as a peer can ask for, it would put off
            // the end of its session as long as it likes.
            if let Some(rate) = &mut self.rate {
                rate.take((self.queue.left() - left) as usize);
            }
            progress.wrote = true;
        }

        if self.unflushed && !self.is_blocked() {
            self.flush_transport();
        }
        if late && !self.is_blocked() {
            self.throttle();
            progress.throttled = self.rate.map(|rate| rate.ready_at());
        }
        progress.broken = self.broken;
        progress.idle = self.queue.is_empty() && !self.unflushed;
        progress
    }

    pub(super) fn flush_transport(&mut self) {
        let Some(transport) = &mut self.transport else {
            return;
        };
        match transport.poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(Ok(())) => self.unflushed = false,
            Poll::Ready(Err(error)) => self.broken = Some(error.kind()),
            Poll::Pending => self.block(),
        }
    }

    pub(super) fn block(&mut self) {
        self.blocked = true;
        self.waited = true;
    }
}
