//! The inlet of the channel that payload is arriving for, which stays open for one read.
//!
//! Taking the lock of a pipe for each message would cost as much as a small message itself. So the
//! tail of the current channel is checked out to the inlet for the duration of a read, with a
//! promise of how many bytes fit. It is committed, and the reader woken, when payload for another
//! channel arrives and at the end of the read.

use crate::{
    frame::Masked,
    wire::{Chunk, Traffic, Wire, fill},
};

/// The inlet; see the module.
#[derive(Debug, Default)]
pub(crate) struct Inlet {
    channel: Option<u8>,
    /// The checked-out chunks. They are filled in order, so only the last may have room left.
    chunks: Vec<Chunk>,
    /// The number of bytes that fit. It is unlimited if they are discarded.
    room: usize,
    /// The pipe discards incoming data.
    deaf: bool,
    received: Traffic,
}

impl Inlet {
    /// Makes this the current channel, and returns how many bytes can be pushed to it.
    #[inline]
    pub(crate) fn room(&mut self, wire: &Wire, channel: u8) -> usize {
        if self.channel != Some(channel) || self.room == 0 {
            self.open(wire, channel);
        }
        self.room
    }

    #[inline(never)]
    fn open(&mut self, wire: &Wire, channel: u8) {
        self.commit(wire);
        let Some(pipe) = wire.inbound.pipe(channel) else {
            return;
        };
        match pipe.check_out(&mut self.chunks) {
            Some(room) => self.room = room,
            None => {
                self.deaf = true;
                self.room = usize::MAX;
            }
        }
        self.channel = Some(channel);
    }

    /// Returns whether `len` bytes for this channel are known to fit, without a look at its pipe.
    #[inline]
    pub(crate) fn fits(&self, channel: u8, len: usize) -> bool {
        self.channel == Some(channel) && len <= self.room
    }

    /// Appends a piece to the current channel.
    #[inline]
    pub(crate) fn push(&mut self, piece: Masked<'_>) {
        self.received.bytes += piece.len() as u64;
        if self.deaf {
            return;
        }
        // Saturating, because after the loss of the connection the rest is taken without room.
        self.room = self.room.saturating_sub(piece.len());
        fill(&mut self.chunks, piece);
    }

    /// Counts a message of the current channel.
    #[inline]
    pub(crate) fn count(&mut self) {
        self.received.messages += 1;
    }

    /// Commits the data of the current channel, and closes the inlet.
    pub(crate) fn commit(&mut self, wire: &Wire) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        self.room = 0;
        self.deaf = false;
        let received = std::mem::take(&mut self.received);
        wire.inbound.commit(channel, &mut self.chunks, received);
    }
}
