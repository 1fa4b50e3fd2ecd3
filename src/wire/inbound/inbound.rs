use std::{fmt, sync::Arc};

use super::{
    chunk::{CHUNK, Chunk},
    pipe::{Freed, Pipe},
    reserve::StallReserve,
};
use crate::wire::{Traffic, Turn, WireConfig};

/// The pipes of a session's readers, and what they may take beyond their windows.
///
/// Every step that gives up chunks goes through here, because the driver may be waiting for
/// them, and the reserve may be owed them. Other steps are taken on the [`Pipe`] itself.
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

    /// Returns the number of channels, those that cannot be read included.
    pub(crate) fn channels(&self) -> usize {
        self.pipes.len()
    }

    /// Returns the pipe of a channel, if it can be read.
    #[inline]
    pub(crate) fn pipe(&self, channel: u8) -> Option<&Pipe> {
        self.pipes.get(usize::from(channel))?.as_ref()
    }

    /// Returns the pipes of all channels that can be read.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        self.pipes.iter().flatten()
    }

    /// Releases a chunk that a reader has held: see [`Pipe::release`].
    pub(crate) fn release(&self, channel: u8, chunk: Option<Chunk>) {
        self.free(channel, |pipe| pipe.release(chunk));
    }

    /// Discards all that arrives for a channel from now on: see [`Pipe::ignore`].
    pub(crate) fn ignore(&self, channel: u8) {
        self.free(channel, Pipe::ignore);
    }

    /// Discards the channel's data after its reader was dropped: see [`Pipe::discard`].
    pub(crate) fn discard(&self, channel: u8) {
        self.free(channel, Pipe::discard);
    }

    /// Commits what the mux has filled for a channel: see [`Pipe::commit`].
    pub(crate) fn commit(&self, channel: u8, chunks: &mut Vec<Chunk>, received: Traffic) {
        self.free(channel, |pipe| pipe.commit(chunks, received));
    }

    /// Takes a step that gives up chunks of a channel, and acts on what that has freed.
    #[inline]
    fn free(&self, channel: u8, step: impl FnOnce(&Pipe) -> Freed) {
        let Some(pipe) = self.pipe(channel) else {
            return;
        };
        let freed = step(pipe);
        if freed.extra > 0 {
            self.reserve.give_back(freed.extra * CHUNK);
        }
        if freed.resume {
            self.turn.wake_driver();
        }
    }

    /// Extends the window of a full channel by a chunk out of the reserve. Returns `false`
    /// if none is left, or there is no need for it.
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

    /// Returns what has ever arrived on each channel.
    pub(crate) fn received_on_each(&self) -> Vec<Traffic> {
        let received = |pipe: &Option<Pipe>| pipe.as_ref().map(Pipe::received);
        let pipes = self.pipes.iter().map(received);
        pipes.map(Option::unwrap_or_default).collect()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound").finish_non_exhaustive()
    }
}
