use std::{fmt, sync::Arc};

use super::{
    chunk::{CHUNK, Chunk},
    pipe::{Freed, Pipe},
    reserve::StallReserve,
};
use crate::wire::{Traffic, Turn, WireConfig};

/// The queues of a session's readers, and what they may take beyond their windows.
pub(crate) struct Inbound {
    turn: Arc<Turn>,
    pipes: Box<[Option<Pipe>]>,
    reserve: StallReserve,
}

impl Inbound {
    pub(crate) fn new(
        turn: &Arc<Turn>,
        config: &WireConfig,
        reserve: StallReserve,
        readable: impl Fn(usize) -> bool,
    ) -> Self {
        let pipes = (0..config.channels)
            .map(|id| readable(id).then(|| Pipe::new(config.receive_window)))
            .collect();
        Self {
            turn: Arc::clone(turn),
            pipes,
            reserve,
        }
    }

    /// The pipe of a channel that can be read.
    #[inline]
    pub(crate) fn pipe(&self, channel: u8) -> Option<&Pipe> {
        self.pipes.get(usize::from(channel))?.as_ref()
    }

    pub(crate) fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        self.pipes.iter().flatten()
    }

    /// A reader has let go of a chunk: see [`Pipe::release`].
    pub(crate) fn release(&self, channel: u8, chunk: Option<Chunk>) {
        if let Some(pipe) = self.pipe(channel) {
            self.freed(pipe.release(chunk));
        }
    }

    /// Discards what arrives for a channel from now on.
    pub(crate) fn ignore(&self, channel: u8) {
        if let Some(pipe) = self.pipe(channel) {
            self.freed(pipe.ignore());
        }
    }

    /// A reader is gone.
    pub(crate) fn discard(&self, channel: u8) {
        if let Some(pipe) = self.pipe(channel) {
            self.freed(pipe.discard());
        }
    }

    /// The mux is through with a channel for now: see [`Pipe::take_back`].
    pub(crate) fn take_back(&self, channel: u8, chunks: &mut Vec<Chunk>, received: Traffic) {
        if let Some(pipe) = self.pipe(channel) {
            self.freed(pipe.take_back(chunks, received));
        }
    }

    /// All that ever came on each channel.
    pub(crate) fn received_on_each(&self) -> Vec<Traffic> {
        let received = |pipe: &Option<Pipe>| pipe.as_ref().map(Pipe::received);
        let pipes = self.pipes.iter().map(received);
        pipes.map(Option::unwrap_or_default).collect()
    }

    fn freed(&self, freed: Freed) {
        if freed.extra > 0 {
            self.reserve.give_back(freed.extra * CHUNK);
        }
        if freed.resume {
            self.turn.wake_driver();
        }
    }

    /// Lends a full channel a chunk out of the reserve, if that has one left.
    pub(crate) fn extend(&self, channel: u8) -> bool {
        let Some(pipe) = self.pipe(channel) else {
            return false;
        };
        if !self.reserve.take(CHUNK) {
            return false;
        }
        let used = pipe.extend();
        if !used {
            self.reserve.give_back(CHUNK);
        }
        used
    }

    pub(crate) fn channels(&self) -> usize {
        self.pipes.len()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}
