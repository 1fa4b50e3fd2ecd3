//! The queue of outgoing frames, which the session has accepted and the transport has not taken.
//!
//! It is one FIFO of encoded messages for all channels, so that a Status cannot overtake output. The
//! control lane goes ahead at frame boundaries. This module has no socket, waker or lock.
//!
//! ```text
//!   buf[start..]        slice              backlog
//!  +-------------------+ +----------------+ +--------+---------+--------+
//!  | encoded frames    | | payload of the | | frames | message | frames | <- new writes
//!  |                   | | last head      | |        |         |        |
//!  +-------------------+ +----------------+ +--------+---------+--------+
//!   new writes go here while nothing is behind
//! ```

mod backlog;
#[cfg(feature = "spdy")]
mod data;
mod next;
#[cfg(feature = "spdy")]
mod pacing;
#[cfg(feature = "spdy")]
mod streams;

use bytes::Bytes;

use self::backlog::{Backlog, Piece, is_full};
pub(crate) use self::next::Next;
#[cfg(feature = "spdy")]
use self::{data::LastData, pacing::Pacing, streams::Said};
use super::{budget::Budget, control::ControlLane, cursor::Cursor, spent::Spent};
use crate::{
    frame::{ClosePayload, OpCode, frame_head, head_len},
    protocol::{Format, base64},
    wire::{Traffic, stock},
};

/// The size at which a queue is written out at once. Larger buffers gain nothing on loopback, and
/// smaller ones cost a third of the speed with messages of 1 KiB.
pub(crate) const FLUSH: usize = 48 * 1024;

/// The size of the largest write. Up to 65,483 bytes leave as one segment on loopback. A slightly
/// larger write leaves a tail of a few bytes, at three to four times the cost.
pub(crate) const WRITE_CAP: usize = 60 * 1024;

/// The queue; see the module's documentation.
#[derive(Debug)]
pub(crate) struct SendQueue {
    format: Format,
    buf: Vec<u8>,
    /// The index in `buf` of the first byte that has not left.
    start: usize,
    slice: Bytes,
    backlog: Backlog,
    cursor: Cursor,
    budget: Budget,
    control: ControlLane,
    /// Set once the Close frame is queued, after which nothing follows.
    closing: bool,
    spent: Spent,
    /// The frame into which the next write can be merged.
    #[cfg(feature = "spdy")]
    last_data: Option<LastData>,
    #[cfg(feature = "spdy")]
    said: Said,
    #[cfg(feature = "spdy")]
    pacing: Option<Box<Pacing>>,
}

impl SendQueue {
    pub(crate) fn new(format: Format, channels: usize, budget: usize, high_water: usize) -> Self {
        Self {
            format,
            buf: Vec::new(),
            start: 0,
            slice: Bytes::new(),
            backlog: Backlog::default(),
            cursor: Cursor::default(),
            budget: Budget::new(channels, budget, high_water),
            control: ControlLane::default(),
            closing: false,
            spent: Spent::default(),
            #[cfg(feature = "spdy")]
            last_data: None,
            #[cfg(feature = "spdy")]
            said: Said::default(),
            #[cfg(feature = "spdy")]
            pacing: None,
        }
    }

    /// Returns the number of bytes of data that have not left.
    #[inline]
    pub(crate) fn queued(&self) -> usize {
        self.budget.queued()
    }

    /// Returns whether there is data of a channel that has not left.
    pub(super) fn has_data(&self) -> bool {
        self.budget.has_data()
    }

    /// Returns the number of bytes of data that have ever left, without control frames.
    #[inline]
    pub(super) fn left(&self) -> u64 {
        self.budget.left()
    }

    /// Returns whether a SPDY stream stands for each channel.
    pub(super) fn has_streams(&self) -> bool {
        self.format.has_streams()
    }

    /// Returns whether a write of any size on this channel is accepted now.
    #[inline]
    pub(super) fn has_room(&self, channel: u8) -> bool {
        self.budget.has_room(channel)
    }

    /// Returns whether all data that this channel has accepted has left.
    pub(super) fn is_flushed(&self, channel: u8) -> bool {
        self.budget.is_flushed(channel)
    }

    /// Returns the amount of data that this channel has ever accepted.
    pub(super) fn accepted_on(&self, channel: u8) -> Traffic {
        self.budget.accepted_on(channel)
    }

    /// Returns whether there is nothing to write, including control frames.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued() == 0 && self.control.is_empty()
    }
}

/// The methods of a queue that is never paced.
#[cfg(not(feature = "spdy"))]
impl SendQueue {
    #[inline]
    pub(super) fn is_paced(&self, _: u8) -> bool {
        false
    }

    #[inline]
    pub(super) fn is_write_paced(&self, _: u8, _: usize) -> bool {
        false
    }
}

/// The methods for adding messages.
impl SendQueue {
    /// Returns the buffer that leaves first.
    fn front(&mut self) -> &mut Vec<u8> {
        if self.buf.capacity() == 0 {
            self.buf = stock::take_out();
        }
        &mut self.buf
    }

    /// Returns the buffer for the next frame, which has this many bytes.
    #[inline]
    fn place(&mut self, len: usize) -> &mut Vec<u8> {
        let fits = len <= self.buf.capacity() - self.buf.len();
        if fits && self.slice.is_empty() && self.backlog.is_empty() {
            return &mut self.buf;
        }
        self.tail(len)
    }

    /// Returns the buffer for the next frame, if the first buffer may be full or may not be the last.
    #[inline(never)]
    fn tail(&mut self, len: usize) -> &mut Vec<u8> {
        if self.slice.is_empty() && self.backlog.is_empty() {
            // If the peer reads a little at a time, the buffer never becomes empty. The part that
            // has left is therefore removed to make room. With the default budgets, this gains
            // 36 KiB and moves at most 64 KiB.
            if is_full(&self.buf, len) {
                self.buf.drain(..self.start);
                self.start = 0;
            }
            if !is_full(&self.buf, len) {
                return self.front();
            }
        }
        self.backlog.tail(len, !self.slice.is_empty())
    }

    /// Queues one message, and copies its payload once.
    pub(crate) fn push(&mut self, channel: u8, payload: &[u8]) {
        let format = self.format;
        #[cfg(feature = "spdy")]
        if format.has_streams() {
            return self.push_data(channel, payload);
        }
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
        self.budget.accept(channel, payload.len(), bytes);
    }

    /// Queues one message. Takes a large payload instead of copying it.
    ///
    /// A message above the fragment size leaves in fragments.
    pub(super) fn push_bytes(&mut self, channel: u8, payload: &mut Bytes) {
        // A slice costs a system call of its own. Below this size, that is more expensive than a
        // copy, which leaves together with other messages.
        const COPY: usize = 24 * 1024;
        if payload.len() < COPY {
            return self.push(channel, payload);
        }
        let len = payload.len();
        let bytes = self.format.message_len(len);
        self.budget.accept(channel, len, bytes);
        let payload = std::mem::take(payload);
        self.backlog.push_message(channel, payload);
        #[cfg(feature = "spdy")]
        if self.format.has_streams() {
            self.count_large(channel, len);
        }
    }

    /// Returns whether a payload of this size should be written together with the queue and without
    /// a copy, if the transport supports this.
    pub(super) fn wants_vectored(&self, len: usize) -> bool {
        /// The smallest payload that is not copied.
        const SMALLEST: usize = 2 * 1024;
        /// The smallest payload that is worth a system call of its own.
        const ALONE: usize = 24 * 1024;
        !self.format.is_base64()
            && len >= SMALLEST
            && (len >= ALONE || self.queued() + len >= FLUSH)
            && self.slice.is_empty()
            && self.backlog.is_empty()
            && self.control.is_empty()
    }

    /// Returns whether the queue and a payload together would exceed the largest write.
    pub(super) fn is_over_cap(&self, len: usize) -> bool {
        self.queued() > 0 && self.queued() + self.format.encoded_len(len) > WRITE_CAP
    }

    /// Queues the frame header of a message, whose payload the caller keeps until it passes it to
    /// [`SendQueue::advance_with`].
    pub(super) fn push_head(&mut self, channel: u8, len: usize) {
        let format = self.format;
        #[cfg(feature = "spdy")]
        if format.has_streams() {
            return self.push_data_head(channel, len);
        }
        let head = self.front();
        let before = head.len();
        let payload = format.prefix_len() + len;
        frame_head(head, true, format.opcode(), payload as u64);
        format.push_prefix(channel, head);
        let bytes = head.len() - before + len;
        self.budget.accept(channel, len, bytes);
    }

    /// Returns the bytes in the buffer, for a vectored write together with the caller's payload.
    pub(super) fn buffered(&self) -> &[u8] {
        &self.buf[self.start..]
    }

    /// Notes that the transport has taken `n` bytes of the buffer and the payload after
    /// [`SendQueue::push_head`], and copies the rest of the payload.
    pub(super) fn advance_with(&mut self, n: usize, payload: &[u8]) {
        let buffered = self.buf.len() - self.start;
        if n == buffered + payload.len() {
            return self.reset();
        }
        self.advance_cursor(n);
        let rest = match n < buffered {
            true => {
                self.start += n;
                payload
            }
            false => {
                self.buf.clear();
                self.start = 0;
                &payload[n - buffered..]
            }
        };
        match self.buf.len() + rest.len() <= stock::OUT_BUFFER {
            true => self.buf.extend_from_slice(rest),
            // It would make the buffer too large for the stock.
            false => self.slice = Bytes::copy_from_slice(rest),
        }
    }

    pub(super) fn pong(&mut self, payload: &[u8]) {
        #[cfg(feature = "spdy")]
        if !self.format.is_web_socket() {
            return self.push_nudge();
        }
        if !self.closing {
            self.control.pong(payload);
        }
    }

    /// Queues a Pong that nothing has asked for, unless one is waiting that shows as much. Otherwise,
    /// these would take the places of answers while the peer does not read.
    pub(super) fn pong_unasked(&mut self) {
        if !self.control.has_pongs() {
            self.pong(&[]);
        }
    }

    /// Queues a Ping. Its payload is the amount of data that has left in front of it, so that the
    /// Pong tells how much of that data the peer has read. Returns whether an answer can be expected.
    pub(super) fn ping(&mut self) -> bool {
        if self.closing {
            return true;
        }
        #[cfg(feature = "spdy")]
        if !self.format.is_web_socket() {
            return self.push_ping();
        }
        self.control.ping(self.budget.left());
        true
    }

    /// Queues the Close frame after everything else. Only the first call counts.
    pub(super) fn close(&mut self, payload: &ClosePayload) {
        if self.closing {
            return;
        }
        #[cfg(feature = "spdy")]
        if self.format.has_streams() {
            self.push_go_away(payload.code());
        }
        self.closing = true;
        if !self.format.is_web_socket() {
            return;
        }
        let payload = payload.as_bytes();
        let tail = self.tail(payload.len());
        let before = tail.len();
        frame_head(tail, true, OpCode::Close, payload.len() as u64);
        tail.extend_from_slice(payload);
        let bytes = tail.len() - before;
        self.budget.accept_control(bytes);
    }

    /// Discards everything that has not begun to leave, because after a fault of the peer, only the
    /// Close is sent. A frame that has left in part is finished.
    pub(super) fn discard(&mut self) {
        #[cfg(feature = "spdy")]
        self.seal();
        let frame_left = self.cursor.frame_left();
        let buffered = self.buf.len() - self.start;
        let kept = frame_left.min(buffered);
        self.buf.truncate(self.start + kept);
        if frame_left == kept {
            self.release_slice();
        }
        self.slice.truncate(frame_left - kept);
        self.backlog.release(&mut self.spent);
        self.control.discard_waiting();
        self.budget.discard(frame_left);
    }
}

/// The methods for writing bytes out.
impl SendQueue {
    /// Returns the next bytes to write, if there are any. While output is held, these are only
    /// control frames and the rest of a frame that has left in part.
    #[inline(always)] // into the loop that writes out: 40 instructions a round trip
    pub(crate) fn next(&mut self, held: bool) -> Option<Next<'_>> {
        if !self.control.is_leaving() && self.cursor.frame_left() == 0 && self.control.is_waiting()
        {
            self.control.load();
        }
        if self.control.is_leaving() {
            return Some(Next::new(self.control.front(), &[]));
        }
        let limit = if held || self.control.is_waiting() {
            // At a frame boundary, this is 0, because control frames go first.
            self.cursor.frame_left()
        } else {
            WRITE_CAP
        };
        if limit == 0 {
            return None;
        }
        if self.start == self.buf.len() && self.slice.is_empty() {
            self.load();
        }
        let buffered = &self.buf[self.start..];
        let first = match buffered.len() {
            len if len <= limit => buffered,
            // One flush size at a time. The rest is then at least the difference between the flush
            // size and the largest write, and never a short tail.
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

    /// Moves the next piece of the backlog to the buffer and the slice.
    fn load(&mut self) {
        let format = self.format;
        match self.backlog.take(format.fragment()) {
            None => {}
            Some(Piece::Frames(frames)) => {
                stock::give_out(std::mem::replace(&mut self.buf, frames));
                self.start = 0;
            }
            Some(Piece::Message {
                channel,
                payload,
                first,
                last,
            }) => {
                self.front().clear();
                self.start = 0;
                self.begin_piece(channel, payload.len(), first, last);
                match format.is_base64() {
                    true => {
                        base64::encode_into(&payload, &mut self.buf);
                        self.spent.push(payload);
                    }
                    false => self.slice = payload,
                }
            }
        }
    }

    /// Writes the head of a piece of a message to the empty buffer.
    fn begin_piece(&mut self, channel: u8, len: usize, first: bool, last: bool) {
        let format = self.format;
        #[cfg(feature = "spdy")]
        if format.has_streams() {
            return self.begin_data(channel, len);
        }
        let (opcode, prefix) = match first {
            true => (format.opcode(), format.prefix_len()),
            false => (OpCode::Continuation, 0),
        };
        let len = prefix + format.encoded_len(len);
        frame_head(&mut self.buf, last, opcode, len as u64);
        if first {
            format.push_prefix(channel, &mut self.buf);
        }
    }

    /// Notes that the transport has taken `n` of the bytes that [`SendQueue::next`] returned.
    pub(crate) fn advance(&mut self, n: usize) {
        if self.control.is_leaving() {
            return self.control.advance(n);
        }
        let buffered = self.buf.len() - self.start;
        if n == buffered && self.slice.is_empty() && self.backlog.is_empty() {
            return self.reset();
        }
        self.advance_cursor(n);
        let from_buf = n.min(buffered);
        self.start += from_buf;
        if n > from_buf {
            bytes::Buf::advance(&mut self.slice, n - from_buf);
            if self.slice.is_empty() {
                self.release_slice();
            }
        }
        if self.start == self.buf.len() {
            self.buf.clear();
            self.start = 0;
        }
    }

    /// Releases the slice, which keeps the memory of its whole message even if it is empty.
    fn release_slice(&mut self) {
        self.spent.push(std::mem::take(&mut self.slice));
    }

    /// Releases all data, because it can no longer be sent. The figures still count it.
    pub(super) fn abandon(&mut self) {
        #[cfg(feature = "spdy")]
        self.seal();
        stock::give_out(std::mem::take(&mut self.buf));
        self.start = 0;
        self.release_slice();
        self.backlog.release(&mut self.spent);
        self.backlog = Backlog::default();
    }

    /// Returns whether there are payloads that are no longer needed.
    #[inline]
    pub(super) fn has_spent(&self) -> bool {
        !self.spent.is_empty()
    }

    /// Takes the payloads that are no longer needed, to be dropped outside the lock.
    pub(super) fn take_spent(&mut self) -> Spent {
        std::mem::take(&mut self.spent)
    }

    fn advance_cursor(&mut self, n: usize) {
        // Frame headers are always in the buffer, and never in the slice.
        let front = &self.buf[self.start..];
        self.cursor.advance(n, front, self.format, &mut self.budget);
    }

    /// Notes that all data has left.
    fn reset(&mut self) {
        self.buf.clear();
        self.start = 0;
        self.cursor.advance_all(&mut self.budget);
    }

    /// Gives empty buffers back to the stock, so that a sleeping session has none.
    pub(super) fn release_buffers(&mut self) {
        if self.buf.is_empty() && self.buf.capacity() > 0 {
            stock::give_out(std::mem::take(&mut self.buf));
        }
        self.backlog.trim();
    }
}

#[cfg(test)]
mod tests;
