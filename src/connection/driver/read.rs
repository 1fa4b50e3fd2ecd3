//! Reads, and what they bring.

use std::{
    io,
    mem::MaybeUninit,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::{io::ReadBuf, time::Instant};

use super::{Driver, Holding};
use crate::{
    connection::closing::Phase,
    error::EndCause,
    policy::{Pause, after},
};

/// What one read takes, on the stack. Smaller costs CPU (1.15x at 8 KiB).
const READ: usize = 16 * 1024;

/// The same while the last read would have filled the smaller one: a fast sender is
/// kept from filling the kernel's queue, which halves the CPU of small messages.
const READ_LARGE: usize = 64 * 1024;

impl Driver {
    /// Reads as much as there is room for.
    pub(super) fn read(&mut self, cx: &mut Context<'_>) {
        if !self.rest.is_empty() {
            if !self.raw && self.mux.poll_room().is_pending() {
                return;
            }
            let rest = std::mem::take(&mut self.rest);
            let fed = self.feed(&rest);
            if fed < rest.len() {
                self.rest = rest.slice(fed..);
                self.lent = false;
                return;
            }
        }
        if self.pause.is_some() {
            self.reading.unwatch(cx);
        }
        // The clock of a pause goes on while all the room there is was lent.
        if !std::mem::take(&mut self.lent) {
            self.pause = None;
        }
        self.drained = false;
        // Reads until the socket has no more, which registers the waker; or
        // until a buffer was filled: then the service has its turn first.
        while !self.eof && self.rest.is_empty() {
            let Some(allowed) = self.allowance() else {
                self.pause = None;
                return;
            };
            let filled = if self.large {
                self.read_once::<READ_LARGE>(cx, allowed)
            } else {
                self.read_once::<READ>(cx, allowed)
            };
            match filled {
                Poll::Pending => {
                    // Without budget tokio says so of a full socket too.
                    self.drained = tokio::task::coop::has_budget_remaining();
                    self.pause = None;
                    return;
                }
                Poll::Ready(true) => return self.wire.turn.wake_driver(),
                Poll::Ready(false) => {}
            }
        }
    }

    /// Bytes that may be read now; `None` where the timer has to say when.
    fn allowance(&mut self) -> Option<usize> {
        let open = matches!(self.phase, Phase::Open);
        let Some(rate) = self.inbound.as_mut().filter(|_| open) else {
            return Some(usize::MAX);
        };
        let allowed = rate.worthwhile(Instant::now(), READ);
        if allowed > 0 {
            return Some(allowed);
        }
        self.read_again = Some(rate.ready_at());
        // What is not read is not heard.
        if let Some(beats) = &mut self.beats {
            beats.excuse();
        }
        None
    }

    /// One read of so many bytes at most; `true` where it filled its buffer.
    #[inline(never)]
    fn read_once<const N: usize>(&mut self, cx: &mut Context<'_>, allowed: usize) -> Poll<bool> {
        let mut storage = [const { MaybeUninit::<u8>::uninit() }; N];
        let mut buf = ReadBuf::uninit(&mut storage[..allowed.min(N)]);
        let result = match self.reading.poll(&self.wire, cx, &mut buf) {
            Poll::Ready(result) => result,
            Poll::Pending => return Poll::Pending,
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
        if let Some(beats) = &mut self.beats {
            beats.excuse();
        }
        if let Some(rate) = &mut self.inbound {
            rate.take(bytes.len());
        }
        let filled = bytes.len() == N;
        let fed = self.feed(bytes);
        if fed < bytes.len() {
            // At most one read, and only while reading is paused.
            self.rest = Bytes::copy_from_slice(&bytes[fed..]);
        }
        self.large = bytes.len() >= READ && self.mux.least_room() >= READ_LARGE;
        Poll::Ready(filled)
    }

    /// A write has found the connection broken. What the peer had sent before
    /// can still be read, so the session goes on until it was; not for a reader
    /// that does not read, though.
    pub(super) fn write_broke(&mut self, kind: io::ErrorKind) {
        if matches!(self.phase, Phase::Open) && !self.raw && self.ending.is_none() {
            let waker = self.waker.clone();
            self.read(&mut Context::from_waker(&waker));
            if !self.drained {
                return;
            }
        }
        self.lose(kind);
    }

    /// The connection is lost. What was read before comes first, room or not:
    /// it is no more than one read.
    pub(super) fn lose(&mut self, kind: io::ErrorKind) {
        if !self.rest.is_empty() && matches!(self.phase, Phase::Open) {
            self.mux.take_regardless();
            let rest = std::mem::take(&mut self.rest);
            self.feed(&rest);
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
            Phase::Closing { .. }
            | Phase::Awaiting { .. }
            | Phase::ShuttingDown { .. }
            | Phase::Lingering { .. }
                if eof => {}
            Phase::Open
            | Phase::Closing { .. }
            | Phase::Awaiting { .. }
            | Phase::ShuttingDown { .. }
            | Phase::Lingering { .. } => self.end(EndCause::ConnectionLost { kind }),
            Phase::Closed => {}
        }
    }

    /// Decodes as much as there is room for.
    fn feed(&mut self, bytes: &[u8]) -> usize {
        if let Phase::Awaiting { heard, .. } | Phase::Lingering { heard, .. } = &mut self.phase {
            *heard = Instant::now();
        }
        if self.raw {
            return bytes.len();
        }
        let mut fed = 0;
        loop {
            let decoded = self.decoder.decode(&bytes[fed..], &mut self.mux);
            self.mux.commit();
            match decoded {
                Ok(n) => fed += n,
                Err(cause) => {
                    self.raw = true;
                    self.hear();
                    self.end(cause);
                    return bytes.len();
                }
            }
            // Room may have come since the decoder asked for it.
            if fed == bytes.len() || self.mux.poll_room().is_pending() {
                break;
            }
        }
        self.hear();
        if fed < bytes.len() && self.pause.is_none() {
            self.pause = Some(Pause::new(Instant::now()));
            if let Some(beats) = &mut self.beats {
                beats.excuse();
            }
        }
        fed
    }

    /// Acts on what the peer said beside data.
    fn hear(&mut self) {
        let heard = std::mem::take(&mut self.mux.heard);
        if heard.data
            && let Some(idle) = &mut self.idle
        {
            idle.active(Instant::now());
        }
        if let (Some(read), Some(beats)) = (heard.pong, &mut self.beats)
            && read <= self.wire.outbound.sent()
        {
            beats.answered(read);
        }
        if let Some(Holding { hold, until }) = &mut self.holding {
            if heard.data {
                *until = Some(Instant::now());
            } else if heard.pong.is_some() {
                let settled = after(Instant::now(), hold.settle);
                *until = Some(until.map_or(settled, |until| until.min(settled)));
            }
        }
        if let Some(cause) = heard.close {
            self.peer_closed = true;
            self.mux.end_by_close(&cause);
            self.end(cause);
        }
    }
}
