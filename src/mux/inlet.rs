//! The channel that payload comes for just now, held open for one read.
//!
//! Taking a pipe's lock for each message costs as much as a small message
//! itself. So for the length of a read the tail of the current channel lies
//! here, with a promise of how many bytes fit; it goes back, and the reader
//! is woken, when another channel's turn comes, and at the end of the read.

use crate::{
    frame::Masked,
    wire::{Chunk, Traffic, Wire, fill},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inlet {
    channel: Option<u8>,
    /// Filled in order; only the last may have room left.
    chunks: Vec<Chunk>,
    /// Bytes that fit; without end where nobody reads them.
    room: usize,
    deaf: bool,
    received: Traffic,
}

impl Inlet {
    /// Bytes of this channel that can be pushed now, which is the current one
    /// from here on.
    #[inline]
    pub(super) fn room(&mut self, wire: &Wire, channel: u8) -> usize {
        if self.channel != Some(channel) || self.room == 0 {
            self.open(wire, channel);
        }
        self.room
    }

    #[inline(never)]
    fn open(&mut self, wire: &Wire, channel: u8) {
        self.settle(wire);
        let Some(pipe) = wire.inbound.pipe(channel) else {
            return;
        };
        match pipe.lend(&mut self.chunks) {
            Some(room) => self.room = room,
            None => {
                self.deaf = true;
                self.room = usize::MAX;
            }
        }
        self.channel = Some(channel);
    }

    /// Whether so many bytes fit without a look at the pipe.
    #[inline]
    pub(super) fn fits(&self, channel: u8, len: usize) -> bool {
        self.channel == Some(channel) && len <= self.room
    }

    /// Appends a piece to the current channel.
    #[inline]
    pub(super) fn push(&mut self, piece: Masked<'_>) {
        self.received.bytes += piece.len() as u64;
        if self.deaf {
            return;
        }
        // Saturating: in the end all that was read is taken, room or not.
        self.room = self.room.saturating_sub(piece.len());
        fill(&mut self.chunks, piece);
    }

    /// A message of the current channel has begun.
    #[inline]
    pub(super) fn count(&mut self) {
        self.received.messages += 1;
    }

    /// Gives back what the current channel has lent.
    pub(super) fn settle(&mut self, wire: &Wire) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        self.room = 0;
        self.deaf = false;
        let received = std::mem::take(&mut self.received);
        wire.inbound.take_back(channel, &mut self.chunks, received);
    }
}
