//! What the session has accepted and the transport has not taken yet.
//!
//! One FIFO of encoded messages over all channels, so that a Status cannot
//! overtake output, and a budget per channel, so that one channel cannot take
//! the room of the others. The control lane goes ahead at frame boundaries.
//! Pure: no socket, no waker, no lock.
//!
//! ```text
//!   buf[sent..]          slice              backlog
//!  +-------------------+ +----------------+ +--------+---------+--------+
//!  | encoded frames    | | payload of the | | frames | message | frames | <- new writes
//!  |                   | | last head      | |        |         |        |
//!  +-------------------+ +----------------+ +--------+---------+--------+
//!   new writes go here while nothing is behind it
//! ```

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use super::control::ControlLane;
use crate::{
    frame::{ClosePayload, OpCode, frame_head, head_len, read_frame_len},
    protocol::{Format, base64},
    wire::{Traffic, stock},
};

/// A queue of this size goes out at once. Larger buffers gain nothing on
/// loopback, smaller ones cost a third of the speed at 1 KiB.
pub(crate) const FLUSH: usize = 48 * 1024;

/// No write is larger. Up to 65,483 bytes leave as one segment on loopback; a
/// write a little larger drags a tail of some bytes behind it, at three to
/// four times the cost.
pub(crate) const WRITE_CAP: usize = 60 * 1024;

/// Entries of the backlog for which there is room between two stalls. A session whose
/// socket is full now and then has this many: with the default budgets all of them.
const KEPT: usize = 4;

/// What lies behind the buffer.
#[derive(Debug)]
enum Backlog {
    Frames(Vec<u8>),
    /// A large message, kept as the caller gave it and cut when its turn comes.
    Message {
        channel: u8,
        rest: Bytes,
        first: bool,
    },
}

/// Whether a buffer has no room for so many bytes, and had better not grow: it
/// would be copied, and be too large for the stock.
fn is_full(buffer: &Vec<u8>, len: usize) -> bool {
    buffer.capacity() >= stock::OUT_BUFFER
        && !buffer.is_empty()
        && len > buffer.capacity() - buffer.len()
}

/// A channel's share of the queue.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// Bytes on the wire that have not left.
    queued: usize,
    /// Position of its last byte in the stream of all data ever accepted.
    end: u64,
    /// All that it ever accepted.
    sent: Traffic,
}

/// What to write next.
pub(crate) struct Next<'a> {
    slices: [IoSlice<'a>; 2],
    /// Whether there are two, or the second is empty.
    pub(crate) vectored: bool,
}

impl<'a> Next<'a> {
    fn new(first: &'a [u8], second: &'a [u8]) -> Self {
        if first.is_empty() {
            return Self {
                slices: [IoSlice::new(second), IoSlice::new(&[])],
                vectored: false,
            };
        }
        Self {
            vectored: !second.is_empty(),
            slices: [IoSlice::new(first), IoSlice::new(second)],
        }
    }

    pub(crate) fn first(&self) -> &[u8] {
        &self.slices[0]
    }

    pub(crate) fn slices(&self) -> &[IoSlice<'a>] {
        &self.slices
    }
}

/// The queue. See the module.
#[derive(Debug)]
pub(crate) struct Outbox {
    format: Format,
    buf: Vec<u8>,
    sent: usize,
    slice: Bytes,
    backlog: VecDeque<Backlog>,
    /// Bytes of the frame at the front that have still to go; 0 at a boundary.
    frame_left: usize,
    /// Whose frame that is. A control frame in the data is nobody's.
    frame_channel: Option<u8>,
    /// Whose fragments follow, once a frame without FIN has left.
    message_channel: Option<u8>,
    shares: Box<[Share]>,
    /// Bytes of data ever accepted, and of those that have left.
    accepted: u64,
    left: u64,
    budget: usize,
    high_water: usize,
    control: ControlLane,
    closing: bool,
}

impl Outbox {
    pub(crate) fn new(format: Format, channels: usize, budget: usize, high_water: usize) -> Self {
        Self {
            format,
            buf: Vec::new(),
            sent: 0,
            slice: Bytes::new(),
            backlog: VecDeque::new(),
            frame_left: 0,
            frame_channel: None,
            message_channel: None,
            shares: vec![Share::default(); channels].into_boxed_slice(),
            accepted: 0,
            left: 0,
            budget,
            high_water,
            control: ControlLane::default(),
            closing: false,
        }
    }

    /// Bytes of data that have not left.
    pub(crate) fn queued(&self) -> usize {
        (self.accepted - self.left) as usize
    }

    /// Bytes of data that have ever left; control frames are none.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Whether a write of this channel is accepted now, whatever its size.
    pub(crate) fn has_room(&self, channel: u8) -> bool {
        self.shares[usize::from(channel)].queued < self.budget && self.queued() < self.high_water
    }

    /// Whether all that this channel has accepted is gone.
    pub(crate) fn is_flushed(&self, channel: u8) -> bool {
        self.left >= self.shares[usize::from(channel)].end
    }

    /// Whether nothing at all is left to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.accepted == self.left && self.control.is_empty()
    }

    /// One message was accepted: its payload, and its bytes on the wire.
    fn account(&mut self, channel: u8, payload: usize, bytes: usize) {
        self.accepted += bytes as u64;
        let share = &mut self.shares[usize::from(channel)];
        share.queued += bytes;
        share.end = self.accepted;
        share.sent.messages += 1;
        share.sent.bytes += payload as u64;
    }

    /// All that a channel ever accepted.
    pub(crate) fn sent_on(&self, channel: u8) -> Traffic {
        self.shares[usize::from(channel)].sent
    }

    /// The buffer that leaves first.
    fn front(&mut self) -> &mut Vec<u8> {
        if self.buf.capacity() == 0 {
            self.buf = stock::take_out();
        }
        &mut self.buf
    }

    /// Where the next frame, of so many bytes, is to be encoded.
    #[inline]
    fn place(&mut self, len: usize) -> &mut Vec<u8> {
        let fits = len <= self.buf.capacity() - self.buf.len();
        if fits && self.slice.is_empty() && self.backlog.is_empty() {
            return &mut self.buf;
        }
        self.tail(len)
    }

    /// The same where a look at the buffer is not enough.
    #[inline(never)]
    fn tail(&mut self, len: usize) -> &mut Vec<u8> {
        if self.slice.is_empty() && self.backlog.is_empty() {
            // A peer that reads a little at a time never lets the buffer run empty:
            // what has left makes room. With the default budgets that is 36 KiB for
            // at most 64 that are moved.
            if is_full(&self.buf, len) {
                self.buf.drain(..self.sent);
                self.sent = 0;
            }
            if !is_full(&self.buf, len) {
                return self.front();
            }
        }
        // Behind a large message it is no out buffer: a few bytes between two of them
        // would hold a thousand times what the budget counts.
        let next = match self.backlog.back() {
            Some(Backlog::Frames(frames)) if !is_full(frames, len) => None,
            Some(Backlog::Frames(_)) | None if self.slice.is_empty() => Some(stock::take_out()),
            _ => Some(Vec::new()),
        };
        self.backlog.extend(next.map(Backlog::Frames));
        match self.backlog.back_mut() {
            Some(Backlog::Frames(frames)) => frames,
            _ => unreachable!("pushed above"),
        }
    }

    /// Queues one message, copied once.
    pub(crate) fn push(&mut self, channel: u8, payload: &[u8]) {
        let format = self.format;
        let len = format.prefix_len() + format.encoded_len(payload.len());
        let tail = self.place(head_len(len as u64) + len);
        let before = tail.len();
        frame_head(tail, true, format.opcode(), len as u64);
        format.push_prefix(channel, tail);
        match format.is_base64() {
            true => base64::encode_into(payload, tail),
            false => tail.extend_from_slice(payload),
        }
        let bytes = tail.len() - before;
        self.account(channel, payload.len(), bytes);
    }

    /// Queues one message without copying it; above the fragment size it
    /// leaves in fragments.
    pub(crate) fn push_bytes(&mut self, channel: u8, payload: Bytes) {
        // A slice costs a system call of its own; below this that is dearer
        // than a copy that leaves together with others.
        const COPY: usize = 24 * 1024;
        if payload.len() < COPY {
            return self.push(channel, &payload);
        }
        let bytes = self.format.message_len(payload.len());
        self.account(channel, payload.len(), bytes);
        self.backlog.push_back(Backlog::Message {
            channel,
            rest: payload,
            first: true,
        });
    }

    /// Whether a payload of this size should go out together with the queue,
    /// uncopied, if the transport can do so.
    pub(crate) fn wants_vectored(&self, len: usize) -> bool {
        /// Payloads below are always copied.
        const SMALLEST: usize = 2 * 1024;
        /// A payload of this size is worth a system call of its own.
        const ALONE: usize = 24 * 1024;
        matches!(self.format, Format::Binary | Format::BareBinary)
            && len >= SMALLEST
            && (len >= ALONE || self.queued() + len >= FLUSH)
            && self.slice.is_empty()
            && self.backlog.is_empty()
            && self.control.is_empty()
    }

    /// Whether queue and payload would pass the write cap together.
    pub(crate) fn is_over_cap(&self, len: usize) -> bool {
        self.queued() > 0 && self.queued() + self.format.encoded_len(len) > WRITE_CAP
    }

    /// Queues the head of a message whose payload the caller still has, and
    /// which follows in [`Outbox::sent_with`] in any case.
    pub(crate) fn push_head(&mut self, channel: u8, len: usize) {
        let format = self.format;
        let head = self.front();
        let before = head.len();
        let payload = format.prefix_len() + len;
        frame_head(head, true, format.opcode(), payload as u64);
        format.push_prefix(channel, head);
        let bytes = head.len() - before + len;
        self.account(channel, len, bytes);
    }

    /// What lies in the buffer, for a vectored write with the caller's payload.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buf[self.sent..]
    }

    /// `n` bytes of buffer and payload were written after [`Outbox::push_head`]:
    /// the rest of the payload is copied.
    pub(crate) fn sent_with(&mut self, n: usize, payload: &[u8]) {
        let buffered = self.buf.len() - self.sent;
        if n == buffered + payload.len() {
            return self.reset();
        }
        self.walk(n);
        self.left += n as u64;
        if n < buffered {
            self.sent += n;
            self.buf.extend_from_slice(payload);
        } else {
            self.buf.clear();
            self.sent = 0;
            self.buf.extend_from_slice(&payload[n - buffered..]);
        }
    }

    pub(crate) fn pong(&mut self, payload: &[u8]) {
        if !self.closing {
            self.control.pong(payload);
        }
    }

    /// Queues a Ping whose payload is how much data has left in front of it, so that its Pong
    /// tells how much of it the peer has read.
    pub(crate) fn ping(&mut self) {
        if !self.closing {
            self.control.ping(self.left);
        }
    }

    /// Queues the Close frame behind everything; only the first one counts.
    pub(crate) fn close(&mut self, payload: &ClosePayload) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        let payload = payload.as_bytes();
        let tail = self.tail(payload.len());
        let before = tail.len();
        frame_head(tail, true, OpCode::Close, payload.len() as u64);
        tail.extend_from_slice(payload);
        self.accepted += (tail.len() - before) as u64;
    }

    /// Drops whatever has not begun to leave: after a fault of the peer only
    /// the Close is sent. The frame that is half out is finished.
    pub(crate) fn discard(&mut self) {
        let buffered = self.buf.len() - self.sent;
        let kept = self.frame_left.min(buffered);
        self.buf.truncate(self.sent + kept);
        self.slice.truncate(self.frame_left - kept);
        self.backlog.clear();
        self.control.discard_waiting();
        self.accepted = self.left + self.frame_left as u64;
        for share in &mut self.shares {
            // What follows takes the place of what is dropped, and must not
            // count as that: this channel is never flushed again.
            if share.end > self.accepted {
                share.end = u64::MAX;
            }
        }
    }

    /// What to write next; `None` where there is nothing. While output is
    /// held, only control frames and what is half out.
    pub(crate) fn next(&mut self, held: bool) -> Option<Next<'_>> {
        if !self.control.is_leaving() && self.frame_left == 0 && self.control.is_waiting() {
            self.control.load();
        }
        if self.control.is_leaving() {
            return Some(Next::new(self.control.front(), &[]));
        }
        let limit = if held || self.control.is_waiting() {
            // At a boundary the control frames went first.
            self.frame_left
        } else {
            WRITE_CAP
        };
        if limit == 0 {
            return None;
        }
        if self.sent == self.buf.len() && self.slice.is_empty() {
            self.load();
        }
        let buffered = &self.buf[self.sent..];
        let first = match buffered.len() {
            len if len <= limit => buffered,
            // A flush size at a time: what is left is then either another one
            // or at least the difference to the cap, never a short tail.
            _ => &buffered[..limit.min(FLUSH)],
        };
        let second = &self.slice[..self.slice.len().min(limit - first.len())];
        let second = if first.len() == buffered.len() {
            second
        } else {
            &[]
        };
        if first.is_empty() && second.is_empty() {
            return None;
        }
        Some(Next::new(first, second))
    }

    /// Takes the next piece of the backlog to the front.
    fn load(&mut self) {
        match self.backlog.pop_front() {
            None => {}
            Some(Backlog::Frames(frames)) => {
                stock::give_out(std::mem::replace(&mut self.buf, frames));
                self.sent = 0;
            }
            Some(Backlog::Message {
                channel,
                mut rest,
                first,
            }) => {
                let format = self.format;
                let piece = rest.split_to(rest.len().min(format.fragment()));
                let prefix = if first { format.prefix_len() } else { 0 };
                let opcode = if first {
                    format.opcode()
                } else {
                    OpCode::Continuation
                };
                let len = prefix + format.encoded_len(piece.len());
                self.front().clear();
                self.sent = 0;
                frame_head(&mut self.buf, rest.is_empty(), opcode, len as u64);
                if first {
                    format.push_prefix(channel, &mut self.buf);
                }
                match format.is_base64() {
                    true => base64::encode_into(&piece, &mut self.buf),
                    false => self.slice = piece,
                }
                if !rest.is_empty() {
                    self.backlog.push_front(Backlog::Message {
                        channel,
                        rest,
                        first: false,
                    });
                }
            }
        }
    }

    /// The transport took `n` bytes of what [`Outbox::next`] showed.
    pub(crate) fn sent(&mut self, n: usize) {
        if self.control.is_leaving() {
            return self.control.advance(n);
        }
        let buffered = self.buf.len() - self.sent;
        if n == buffered && self.slice.is_empty() && self.backlog.is_empty() {
            return self.reset();
        }
        self.walk(n);
        self.left += n as u64;
        let from_buf = n.min(buffered);
        self.sent += from_buf;
        bytes::Buf::advance(&mut self.slice, n - from_buf);
        if self.sent == self.buf.len() {
            self.buf.clear();
            self.sent = 0;
        }
    }

    /// All data has left: no need to look at it frame by frame.
    fn reset(&mut self) {
        self.buf.clear();
        self.sent = 0;
        self.frame_left = 0;
        self.message_channel = None;
        self.left = self.accepted;
        for share in &mut self.shares {
            share.queued = 0;
        }
    }

    /// Gives `n` bytes at the front back to the budgets of those who wrote
    /// them, and finds the frame in which they end. Heads always lie in the
    /// buffer.
    fn walk(&mut self, mut n: usize) {
        let mut at = self.sent;
        while n > 0 {
            if self.frame_left == 0 {
                self.enter_frame(at);
            }
            let step = n.min(self.frame_left);
            self.frame_left -= step;
            at += step;
            n -= step;
            if let Some(channel) = self.frame_channel {
                let share = &mut self.shares[usize::from(channel)];
                debug_assert!(share.queued >= step);
                share.queued = share.queued.saturating_sub(step);
            }
        }
    }

    fn enter_frame(&mut self, at: usize) {
        let frame = &self.buf[at..];
        let (head, payload) = read_frame_len(frame);
        let (fin, opcode) = (frame[0] & 0x80 != 0, frame[0] & 0x0f);
        self.frame_left = head + payload as usize;
        self.frame_channel = match opcode {
            0 => self.message_channel,
            1 | 2 => Some(self.format.channel(frame.get(head).copied().unwrap_or(0))),
            _ => None,
        };
        if opcode < 8 {
            self.message_channel = if fin { None } else { self.frame_channel };
        }
    }

    /// Gives the empty buffers back: the session goes to sleep.
    pub(crate) fn rest(&mut self) {
        if self.buf.is_empty() && self.buf.capacity() > 0 {
            stock::give_out(std::mem::take(&mut self.buf));
        }
        if self.backlog.is_empty() && self.backlog.capacity() > KEPT {
            self.backlog = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests;
