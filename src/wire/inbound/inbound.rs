use std::{fmt, sync::Arc};
#[cfg(feature = "spdy")]
use std::{
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
};

#[cfg(feature = "spdy")]
use super::slots::Slots;
use super::{
    chunk::{CHUNK, Chunk},
    pipe::{Freed, Pipe},
    reserve::StallReserve,
};
use crate::wire::{Traffic, Turn, WireConfig};

/// The pipes of a session's readers, and the reserve that extends their windows.
///
/// Every operation that gives up chunks goes through here, because the driver may be waiting for
/// them, or they may belong to the reserve. Other operations use the [`Pipe`] itself.
pub(crate) struct Inbound {
    turn: Arc<Turn>,
    pipes: Box<[Option<Pipe>]>,
    /// The pipes that are added while the session runs.
    #[cfg(feature = "spdy")]
    slots: Slots,
    reserve: StallReserve,
    /// Set while the driver waits for a chunk of the reserve.
    ///
    /// All accesses are Relaxed. A chunk that is given back while the driver begins to wait may be
    /// missed. The driver looks again at the next [`PAUSE_INTERVAL`](crate::policy::PAUSE_INTERVAL).
    #[cfg(feature = "spdy")]
    wants_loan: AtomicBool,
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
            #[cfg(feature = "spdy")]
            slots: Slots::new(config.receive_window),
            reserve,
            #[cfg(feature = "spdy")]
            wants_loan: AtomicBool::new(false),
        }
    }

    /// Returns the number of channels, including those that are not readable.
    pub(crate) fn channels(&self) -> usize {
        self.pipes.len()
    }

    /// Returns the pipe of a channel, if it is readable.
    #[inline]
    pub(crate) fn pipe(&self, channel: u8) -> Option<&Pipe> {
        match self.pipes.get(usize::from(channel)) {
            Some(pipe) => pipe.as_ref(),
            #[cfg(feature = "spdy")]
            None => self.slots.get(channel),
            #[cfg(not(feature = "spdy"))]
            None => None,
        }
    }

    /// Returns an iterator over the pipes of all readable channels.
    pub(crate) fn pipes(&self) -> impl Iterator<Item = &Pipe> {
        let pipes = self.pipes.iter().flatten();
        #[cfg(feature = "spdy")]
        let pipes = pipes.chain(self.slots.iter());
        pipes
    }

    /// Adds the pipe of a channel, or makes the one that it had ready for another reader.
    #[cfg(feature = "spdy")]
    pub(crate) fn open(&self, channel: u8) {
        self.slots.open(channel);
    }

    /// Returns whether a channel has no reader, so that another stream may stand for it.
    #[cfg(feature = "spdy")]
    pub(crate) fn is_free(&self, channel: u8) -> bool {
        self.pipe(channel).is_none_or(Pipe::is_dropped)
    }

    /// Releases a chunk that a reader has held; see [`Pipe::release`].
    pub(crate) fn release(&self, channel: u8, chunk: Option<Chunk>) {
        self.free(channel, |pipe| pipe.release(chunk));
    }

    /// Discards all data of all channels from now on; see [`Pipe::ignore`].
    pub(crate) fn ignore_all(&self) {
        #[cfg(feature = "spdy")]
        self.slots.ignore();
        for channel in 0..=u8::MAX {
            self.free(channel, Pipe::ignore);
        }
    }

    /// Discards the data of a channel that was not read for too long; see [`Pipe::cut`].
    #[cfg(feature = "spdy")]
    pub(crate) fn cut(&self, channel: u8) {
        self.free(channel, Pipe::cut);
    }

    /// Discards the data of a channel whose reader was dropped; see [`Pipe::discard`].
    pub(crate) fn discard(&self, channel: u8) {
        self.free(channel, Pipe::discard);
    }

    /// Commits the chunks that the mux has filled for a channel; see [`Pipe::commit`].
    pub(crate) fn commit(&self, channel: u8, chunks: &mut Vec<Chunk>, received: Traffic) {
        self.free(channel, |pipe| pipe.commit(chunks, received));
    }

    /// Runs an operation that gives up chunks of a channel, and acts on its effects.
    #[inline]
    fn free(&self, channel: u8, step: impl FnOnce(&Pipe) -> Freed) {
        let Some(pipe) = self.pipe(channel) else {
            return;
        };
        let freed = step(pipe);
        if freed.extra > 0 {
            self.reserve.give_back(freed.extra * CHUNK);
        }
        if freed.resume || (freed.extra > 0 && self.is_loan_wanted()) {
            self.turn.wake_driver();
        }
    }

    /// Returns whether the driver waits for a chunk that has gone back to the reserve.
    #[cfg(feature = "spdy")]
    fn is_loan_wanted(&self) -> bool {
        self.wants_loan.swap(false, Ordering::Relaxed)
    }

    /// Returns `false`, because nothing waits for the reserve without SPDY.
    #[cfg(not(feature = "spdy"))]
    fn is_loan_wanted(&self) -> bool {
        false
    }

    /// Extends the window of a full channel by a chunk from the reserve. Returns `false` if none is
    /// left or needed.
    pub(crate) fn extend(&self, channel: u8) -> bool {
        self.pipe(channel)
            .is_some_and(|pipe| self.lend(pipe, StallReserve::take))
    }

    /// Does what [`extend`](Self::extend) does for a channel that stands for a connection to a port.
    #[cfg(feature = "spdy")]
    pub(crate) fn extend_connection(&self, channel: u8) -> bool {
        self.pipe(channel)
            .is_some_and(|pipe| self.lend(pipe, StallReserve::take_for_connection))
    }

    /// Waits for room for a byte on a full channel, which a chunk from the reserve makes. If it is
    /// pending, the driver is woken once a reader of this session gives up a chunk of the channel or of
    /// the reserve.
    ///
    /// Half of the total reserve is [not lent here](StallReserve::take_at_once). Nothing tells the
    /// driver what another session gives back: it looks again after each
    /// [`PAUSE_INTERVAL`](crate::policy::PAUSE_INTERVAL).
    #[cfg(feature = "spdy")]
    pub(crate) fn poll_room_or_borrow(&self, channel: u8) -> Poll<()> {
        let Some(pipe) = self.pipe(channel) else {
            return Poll::Ready(());
        };
        self.wants_loan.store(true, Ordering::Relaxed);
        self.lend(pipe, StallReserve::take_at_once);
        let room = pipe.poll_room(1);
        self.wants_loan.store(room.is_pending(), Ordering::Relaxed);
        room
    }

    /// Extends the window of a full pipe by a chunk that `take` gets from the reserve.
    fn lend(&self, pipe: &Pipe, take: impl FnOnce(&StallReserve, usize) -> bool) -> bool {
        if !take(&self.reserve, CHUNK) {
            return false;
        }
        let used = pipe.extend();
        if !used {
            self.reserve.give_back(CHUNK);
        }
        used
    }

    /// Returns the amount of data that has ever arrived on each channel.
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
