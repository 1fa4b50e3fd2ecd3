//! Pipes that are added while a session runs.
//!
//! Readers and the driver use them at the same time, so a pipe stays where it is once it was added. A
//! session allocates only blocks in which it has had a pipe: an idle tunnel has none.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering, fence},
};

use super::pipe::Pipe;

/// The number of pipes in a block. A larger block would cost an idle session with one connection
/// more memory.
const BLOCK: usize = 4;

/// The number of blocks, which is enough for the 128 even numbers of channels.
const BLOCKS: usize = 32;

type Block = Box<[OnceLock<Pipe>; BLOCK]>;

/// The pipes of the channels with even numbers; see the module's documentation.
pub(super) struct Slots {
    window: usize,
    blocks: OnceLock<Box<[OnceLock<Block>; BLOCKS]>>,
    /// Set if data for pipes that are added later is discarded as well.
    ///
    /// One thread sets this and then looks for pipes, and the driver adds a pipe and then looks at
    /// this. Neither may miss the other. For that, each has a fence between its two steps: without
    /// fences, both looks could come before both writes, whatever the ordering of this flag.
    ignores: AtomicBool,
}

impl Slots {
    /// Creates an empty set of pipes with windows of `window` bytes.
    pub(super) fn new(window: usize) -> Self {
        Self {
            window,
            blocks: OnceLock::new(),
            ignores: AtomicBool::new(false),
        }
    }

    /// Discards the data of pipes that are added from now on. The caller has to do the same for those
    /// that it finds afterwards.
    pub(super) fn ignore(&self) {
        self.ignores.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Returns the pipe of a channel, if it was added.
    pub(super) fn get(&self, channel: u8) -> Option<&Pipe> {
        let (block, place) = position(channel)?;
        self.blocks.get()?[block].get()?[place].get()
    }

    /// Adds the pipe of a channel, or [reopens](Pipe::reopen) it. A channel with an odd number gets
    /// none.
    pub(super) fn open(&self, channel: u8) {
        let Some((block, place)) = position(channel) else {
            return;
        };
        if let Some(pipe) = self.get(channel) {
            pipe.reopen();
        }
        let blocks = self.blocks.get_or_init(Box::default);
        let block = blocks[block].get_or_init(Box::default);
        let pipe = block[place].get_or_init(|| Pipe::new(self.window));
        fence(Ordering::SeqCst);
        if self.ignores.load(Ordering::Relaxed) {
            // The pipe is empty, so there is nothing to give back.
            let _ = pipe.ignore();
        }
    }

    /// Returns an iterator over all pipes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pipe> {
        let blocks = self
            .blocks
            .get()
            .into_iter()
            .flat_map(|blocks| blocks.iter());
        let blocks = blocks.filter_map(OnceLock::get);
        blocks.flat_map(|block| block.iter().filter_map(OnceLock::get))
    }
}

/// Returns the block and the place in it of a channel, if the channel can be readable.
fn position(channel: u8) -> Option<(usize, usize)> {
    let pair = usize::from(channel / 2);
    channel
        .is_multiple_of(2)
        .then_some((pair / BLOCK, pair % BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_even_channel_has_a_pipe_of_its_own() {
        let slots = Slots::new(1);
        assert!(slots.iter().next().is_none() && slots.get(0).is_none());
        for channel in (0..=254).step_by(2) {
            assert!(slots.get(channel).is_none(), "{channel}");
            slots.open(channel);
        }
        for (pipe, channel) in slots.iter().zip((0..=254).step_by(2)) {
            assert!(
                slots
                    .get(channel)
                    .is_some_and(|own| std::ptr::eq(own, pipe))
            );
        }
        assert_eq!(slots.iter().count(), 128);
    }

    #[test]
    fn a_channel_with_an_odd_number_is_not_readable() {
        let slots = Slots::new(1);
        slots.open(1);
        assert!(slots.get(1).is_none() && slots.iter().next().is_none());
    }
}
