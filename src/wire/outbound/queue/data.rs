//! The DATA frames of streams in the queue.
//!
//! A message of a channel is a DATA frame of the stream that stands for the channel. In a tunnel, each
//! DATA frame is a WebSocket message, so the queue finds the ends of frames as it does without SPDY.
//!
//! A stream has no messages, and a Go client has room for a number of frames, whatever their size. So
//! a write is merged into the DATA frame in front of it, as long as none of that frame has left: the
//! payload is appended, and the lengths in its heads are changed.

use super::{SendQueue, is_full};
use crate::{frame::set_frame_len, protocol::Format, spdy, wire::outbound::framing::FRAGMENT};

impl Format {
    /// Appends `more` to a DATA frame at the end of the buffer, whose payload has `len` bytes.
    fn append_to_data(self, buffer: &mut Vec<u8>, len: usize, more: &[u8]) {
        let merged = len + more.len();
        let head = self.frame_head_len(spdy::HEAD + len);
        let at = buffer.len() - self.message_len(len);
        let spdy_head = at + self.frame_head_len(spdy::HEAD + merged);
        // The head of the WebSocket frame grows once, while the payload is tiny.
        for _ in at + head..spdy_head {
            buffer.insert(at + head, 0);
        }
        if self.is_web_socket() {
            set_frame_len(&mut buffer[at..], (spdy::HEAD + merged) as u64);
        }
        spdy::set_data_len(&mut buffer[spdy_head..], merged);
        buffer.extend_from_slice(more);
    }
}

/// The DATA frame that was queued last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastData {
    channel: u8,
    /// The length of its payload.
    len: usize,
    /// The position of its end in the stream of all bytes ever accepted.
    end: u64,
}

/// The methods for adding data.
impl SendQueue {
    /// Returns the stream of a channel. Nothing is written before the stream is open.
    fn stream(&self, channel: u8) -> u32 {
        let stream = self.budget.stream(channel);
        debug_assert!(stream.is_some(), "a write on a stream that is not open");
        stream.unwrap_or_default()
    }

    /// Queues data of a channel, and copies it once.
    #[inline(never)]
    pub(super) fn push_data(&mut self, channel: u8, payload: &[u8]) {
        let (format, bytes) = (self.format, payload.len());
        if bytes == 0 {
            // A stream has no messages.
            return;
        }
        if let Some(last) = self.extensible(channel, bytes) {
            let merged = last.len + bytes;
            let buffer = self.backlog.last_frames_mut().unwrap_or(&mut self.buf);
            format.append_to_data(buffer, last.len, payload);
            let more = format.message_len(merged) - format.message_len(last.len);
            self.budget.accept(channel, bytes, more);
            self.count_data(self.stream(channel), 0, bytes);
            return self.note_data(channel, merged);
        }
        let stream = self.stream(channel);
        let len = format.message_len(bytes);
        let tail = self.place(len);
        format.data_head(stream, bytes, tail);
        tail.extend_from_slice(payload);
        self.budget.accept(channel, bytes, len);
        self.note_data(channel, bytes);
        self.count_data(stream, 1, bytes);
        self.ask(stream);
    }

    fn note_data(&mut self, channel: u8, len: usize) {
        self.last_data = Some(LastData {
            channel,
            len,
            end: self.budget.accepted(),
        });
    }

    /// Returns whether a write of this size on this channel takes no frame of its own.
    pub(super) fn merges(&self, channel: u8, len: usize) -> bool {
        self.extensible(channel, len).is_some()
    }

    /// Returns the DATA frame into which a write of this size can be merged, if there is one.
    fn extensible(&self, channel: u8, more: usize) -> Option<LastData> {
        let last = self.last_data?;
        let format = self.format;
        let begin = last.end - format.message_len(last.len) as u64;
        let is_last = last.channel == channel && last.end == self.budget.accepted();
        let is_whole = self.budget.left() <= begin;
        let fits = last.len + more <= FRAGMENT.min(self.largest_data(channel));
        let buffer = self.backlog.last_frames().unwrap_or(&self.buf);
        // The head may grow by two bytes.
        (is_last && is_whole && fits && !is_full(buffer, more + 2)).then_some(last)
    }

    /// Leaves the last frame as it is from now on, because a transport was shown it. One that returns
    /// `Pending` may keep the bytes, and take no others in their place.
    pub(in crate::wire::outbound) fn seal(&mut self) {
        self.last_data = None;
    }

    /// Counts the frames of a large payload, which is queued uncopied.
    pub(super) fn count_large(&mut self, channel: u8, len: usize) {
        let stream = self.stream(channel);
        self.count_data(stream, len.div_ceil(self.format.fragment()), len);
        self.ask(stream);
    }

    /// Returns the largest payload of a DATA frame of this channel that is shown to the transport
    /// before it is copied. What the transport does not take is queued, and must leave room for
    /// another channel.
    pub(in crate::wire::outbound) fn largest_uncopied(&self, channel: u8) -> usize {
        match self.format.has_streams() {
            true => self
                .largest_data(channel)
                .min(self.budget.room_beside_one()),
            false => 0,
        }
    }

    /// Queues the head of a DATA frame, as [`SendQueue::push_head`] does.
    pub(super) fn push_data_head(&mut self, channel: u8, len: usize) {
        let (format, stream) = (self.format, self.stream(channel));
        let head = self.front();
        let before = head.len();
        format.data_head(stream, len, head);
        let bytes = head.len() - before + len;
        self.budget.accept(channel, len, bytes);
        // The PINGs come behind the payload: see `SendQueue::ask_for`.
        self.count_data(stream, 1, len);
    }

    /// Writes the head of a DATA frame to the empty buffer.
    pub(super) fn begin_data(&mut self, channel: u8, len: usize) {
        let (format, stream) = (self.format, self.stream(channel));
        format.data_head(stream, len, &mut self.buf);
    }
}
