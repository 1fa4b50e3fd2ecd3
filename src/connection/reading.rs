//! The read side: reads from the transport, and handles the data.

use std::{
    io,
    mem::MaybeUninit,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{io::ReadBuf, time::Instant};

use super::{closing::Event, driver::Driver, watch::Half};
use crate::{
    error::EndCause,
    policy::{Bucket, Deadline, PAUSE_INTERVAL, after},
};

/// The size of the buffer of one read, on the stack. A smaller buffer costs CPU time (1.15x at 8
/// KiB).
const READ: usize = 16 * 1024;

/// The size of the buffer after a read that filled the smaller one. This keeps a fast sender from
/// filling the kernel's queue, which halves the CPU time of small messages.
const READ_LARGE: usize = 64 * 1024;

/// The state of the read side. Reading is paused while [`Deadline::Pause`] is set.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) half: Half,
    /// Bytes that were read but not decoded, at most one read of them: those that arrived with the
    /// upgrade, or those for which there was no room.
    pub(super) undecoded: Bytes,
    /// Set if the only room is a loan from the stall reserve.
    pub(super) lent: bool,
    /// The intervals since the last Pong. Kept from one pause to the next: a pause may end after each
    /// chunk that is lent.
    pub(super) since_pong: u8,
    /// Limits the rate of reads.
    pub(super) rate: Option<Bucket>,
    /// Set if the next read uses the large buffer.
    large: bool,
    /// Set if the last poll of the transport found nothing more to read.
    exhausted: bool,
}

impl Reading {
    pub(super) fn new() -> Self {
        Self {
            half: Half::None,
            undecoded: Bytes::new(),
            lent: false,
            since_pong: 0,
            rate: None,
            large: false,
            exhausted: false,
        }
    }
}

/// The buffer of one read. It is aligned to a cache line: without that, the kernel's copy into it
/// and ours out of it cost up to a third more.
#[repr(align(64))]
struct Storage<const N: usize>([MaybeUninit<u8>; N]);

impl Driver {
    /// Reads as long as there is data and room for it.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) {
        if !self.reading.undecoded.is_empty() {
            if !self.closing.is_deaf() && self.inflow.poll_room().is_pending() {
                return;
            }
            let undecoded = std::mem::take(&mut self.reading.undecoded);
            let fed = self.feed(&undecoded);
            if fed < undecoded.len() {
                self.reading.undecoded = undecoded.slice(fed..);
                self.reading.lent = false;
                return;
            }
        }
        if self.deadlines.is_set(Deadline::Pause) {
            self.reading.half.unwatch(cx);
        }
        // While the only room is a loan from the stall reserve, the pause continues.
        if !std::mem::take(&mut self.reading.lent) {
            self.end_pause();
        }
        self.reading.exhausted = false;
        // Reads until the transport returns `Pending`, having registered the waker, or until a read
        // fills the buffer. In the latter case, the service is polled before the next read.
        while !self.closing.has_read_ended() && self.reading.undecoded.is_empty() {
            let Some(allowed) = self.allowance() else {
                self.end_pause();
                return;
            };
            let filled = if self.reading.large {
                self.read_once::<READ_LARGE>(cx, allowed)
            } else {
                self.read_once::<READ>(cx, allowed)
            };
            match filled {
                Poll::Pending => {
                    // Without budget, tokio returns `Pending` even if the socket is readable.
                    self.reading.exhausted = tokio::task::coop::has_budget_remaining();
                    self.end_pause();
                    return;
                }
                Poll::Ready(true) => return self.wire.turn.wake_driver(),
                Poll::Ready(false) => {}
            }
        }
    }

    /// Notes that reading is not paused any more.
    fn end_pause(&mut self) {
        #[cfg(feature = "spdy")]
        if self.deadlines.is_set(Deadline::Pause) {
            self.note_pause(false);
        }
        self.deadlines.clear(Deadline::Pause);
    }

    /// Returns how many bytes may be read now, or `None` if none may be read until
    /// [`Deadline::ReadRate`].
    fn allowance(&mut self) -> Option<usize> {
        let receiving = self.closing.is_receiving();
        let Some(rate) = self.reading.rate.as_mut().filter(|_| receiving) else {
            return Some(usize::MAX);
        };
        let allowed = rate.worthwhile(Instant::now(), READ);
        if allowed > 0 {
            return Some(allowed);
        }
        self.deadlines.set(Deadline::ReadRate, rate.ready_at());
        // A Pong from the peer cannot be seen while nothing is read.
        self.deadlines.clear(Deadline::Answer);
        None
    }

    /// Reads once, at most `allowed` bytes. Returns whether the buffer was filled.
    #[inline(never)]
    fn read_once<const N: usize>(&mut self, cx: &mut Context<'_>, allowed: usize) -> Poll<bool> {
        let mut storage = Storage([const { MaybeUninit::<u8>::uninit() }; N]);
        let mut buf = ReadBuf::uninit(&mut storage.0[..allowed.min(N)]);
        let result = match self.reading.half.poll_read(&self.wire, cx, &mut buf) {
            Poll::Ready(result) => result,
            Poll::Pending => return Poll::Pending,
        };
        if let Err(error) = result {
            self.end_reading(error.kind());
            return Poll::Ready(false);
        }
        let bytes = buf.filled();
        if bytes.is_empty() {
            self.end_reading(io::ErrorKind::UnexpectedEof);
            return Poll::Ready(false);
        }
        // Any byte is a sign of life.
        self.deadlines.clear(Deadline::Answer);
        if let Some(rate) = &mut self.reading.rate {
            rate.take(bytes.len());
        }
        let filled = bytes.len() == N;
        let fed = self.feed(bytes);
        if fed < bytes.len() {
            self.reading.undecoded = Bytes::copy_from_slice(&bytes[fed..]);
        }
        self.reading.large = bytes.len() >= READ && self.inflow.least_room() >= READ_LARGE;
        Poll::Ready(filled)
    }

    fn end_reading(&mut self, kind: io::ErrorKind) {
        self.advance(Event::ReadEnded(kind), Instant::now());
    }

    /// Handles a write that has found the connection broken.
    ///
    /// Data that the peer sent earlier can still be read, so the session continues until it has
    /// been read. It waits neither for a reader that has stopped reading, nor for a service that
    /// is over.
    pub(super) fn write_broke(&mut self, kind: io::ErrorKind, service_is_over: bool) {
        if self.closing.is_open() {
            let waker = self.waker.clone();
            self.read(&mut Context::from_waker(&waker));
            if !self.reading.exhausted && !service_is_over {
                return;
            }
        }
        self.lose(kind);
    }

    /// Ends a session whose connection is lost.
    ///
    /// Bytes that were read but not decoded are delivered first, even without room for them. There
    /// is at most one read of them.
    pub(super) fn lose(&mut self, kind: io::ErrorKind) {
        if !self.reading.undecoded.is_empty() && self.closing.is_receiving() {
            self.inflow.take_regardless();
            let undecoded = std::mem::take(&mut self.reading.undecoded);
            self.feed(&undecoded);
        }
        self.end(EndCause::ConnectionLost { kind });
    }

    /// Decodes as many bytes as there is room for, and returns their number.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        if self.closing.waits_for_peer() {
            self.advance(Event::Heard, Instant::now());
        }
        if self.closing.is_deaf() {
            return bytes.len();
        }
        let mut fed = 0;
        loop {
            match self.inflow.decode(&bytes[fed..]) {
                Ok(n) => fed += n,
                Err(cause) => {
                    self.hear();
                    self.end(cause);
                    return bytes.len();
                }
            }
            // There may be room now that was missing when the decoder asked for it.
            if fed == bytes.len() || self.inflow.poll_room().is_pending() {
                break;
            }
        }
        self.hear();
        if fed < bytes.len() && !self.deadlines.is_set(Deadline::Pause) {
            let next = after(Instant::now(), PAUSE_INTERVAL);
            self.deadlines.set(Deadline::Pause, next);
            self.deadlines.clear(Deadline::Answer);
            #[cfg(feature = "spdy")]
            self.note_pause(true);
        }
        fed
    }

    /// Handles the signs of data, of a Pong and of a Close that the mux has noted.
    fn hear(&mut self) {
        let heard = self.inflow.take_heard();
        if heard.data
            && self.deadlines.is_set(Deadline::Idle)
            && let Some(timeout) = self.config.policy.idle_timeout
        {
            let idle = after(Instant::now(), timeout);
            self.deadlines.put_off(Deadline::Idle, idle);
        }
        if let Some(read) = heard.pong
            && read <= self.wire.outbound.sent()
        {
            self.beats.answered(read);
        }
        if let Some(hold) = self.hold {
            if heard.data {
                self.deadlines.set(Deadline::Hold, Instant::now());
            } else if heard.pong.is_some() {
                let settled = after(Instant::now(), hold.settle);
                self.deadlines.bring_forward(Deadline::Hold, settled);
            }
        }
        if let Some(cause) = heard.close {
            self.inflow.end_by_close(&cause);
            self.end(cause);
        }
    }
}
