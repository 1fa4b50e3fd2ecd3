//! The part of the queue behind its buffer and its slice, which the transport has not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::wire::{outbound::spent::Spent, stock};

/// The number of entries whose memory is kept while the backlog is empty. With the default budgets,
/// it is enough for a session whose socket is full now and then.
const KEPT: usize = 4;

#[derive(Debug)]
pub(super) enum Entry {
    Frames(Vec<u8>),
    /// A large message, which is stored uncopied and fragmented when it leaves.
    Message {
        channel: u8,
        rest: Bytes,
        first: bool,
    },
}

/// A part of the backlog that is taken out at once.
pub(super) enum Piece {
    Frames(Vec<u8>),
    /// A fragment of a large message.
    Message {
        channel: u8,
        payload: Bytes,
        first: bool,
        last: bool,
    },
}

/// The backlog; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) entries: VecDeque<Entry>,
}

impl Backlog {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the buffer for the next frame, which has `len` bytes. It may be `behind_large` data
    /// even if the backlog is empty.
    pub(super) fn tail(&mut self, len: usize, behind_large: bool) -> &mut Vec<u8> {
        // After a large message, the buffer is small at first: an out buffer for a few bytes between
        // two large messages would take a thousand times the memory that the budget counts.
        let next = match self.entries.back() {
            Some(Entry::Frames(frames)) if !is_full(frames, len) => None,
            Some(Entry::Frames(_)) | None if !behind_large => Some(stock::take_out()),
            _ => Some(Vec::new()),
        };
        self.entries.extend(next.map(Entry::Frames));
        match self.entries.back_mut() {
            Some(Entry::Frames(frames)) => frames,
            _ => unreachable!("pushed above"),
        }
    }

    /// Returns the last buffer of frames, unless a large message is behind it.
    #[cfg(feature = "spdy")]
    pub(super) fn last_frames(&self) -> Option<&Vec<u8>> {
        match self.entries.back()? {
            Entry::Frames(frames) => Some(frames),
            Entry::Message { .. } => None,
        }
    }

    #[cfg(feature = "spdy")]
    pub(super) fn last_frames_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self.entries.back_mut()? {
            Entry::Frames(frames) => Some(frames),
            Entry::Message { .. } => None,
        }
    }

    pub(super) fn push_message(&mut self, channel: u8, payload: Bytes) {
        self.entries.push_back(Entry::Message {
            channel,
            rest: payload,
            first: true,
        });
    }

    /// Takes the first buffer of frames, or a piece of the first large message.
    pub(super) fn take(&mut self, fragment: usize) -> Option<Piece> {
        let (channel, mut rest, first) = match self.entries.pop_front()? {
            Entry::Frames(frames) => return Some(Piece::Frames(frames)),
            Entry::Message {
                channel,
                rest,
                first,
            } => (channel, rest, first),
        };
        let payload = rest.split_to(rest.len().min(fragment));
        let last = rest.is_empty();
        if !last {
            self.entries.push_front(Entry::Message {
                channel,
                rest,
                first: false,
            });
        }
        Some(Piece::Message {
            channel,
            payload,
            first,
            last,
        })
    }

    /// Discards everything.
    pub(super) fn release(&mut self, spent: &mut Spent) {
        for entry in self.entries.drain(..) {
            match entry {
                Entry::Frames(frames) => stock::give_out(frames),
                Entry::Message { rest, .. } => spent.push(rest),
            }
        }
    }

    /// Releases the memory of an empty backlog, if it has grown.
    pub(super) fn trim(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT {
            self.entries = VecDeque::new();
        }
    }
}

/// Returns whether a buffer has no room for this many bytes and should not grow. Growing would copy
/// it, and make it too large for the stock.
pub(super) fn is_full(buffer: &Vec<u8>, len: usize) -> bool {
    buffer.capacity() >= stock::OUT_BUFFER
        && !buffer.is_empty()
        && len > buffer.capacity() - buffer.len()
}
