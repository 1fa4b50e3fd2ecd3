use std::task::Waker;

use super::out::Out;

/// What the lock knows of one channel's writer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    pub(super) open: bool,
    pub(super) waiting: Option<Waker>,
    pub(super) wait: Wait,
}

/// What a writer waits for. Woken for anything else it would only wait again,
/// and so would the turn that woke it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Wait {
    #[default]
    Room,
    Flush,
    /// That it is refused; it waits elsewhere for what it wants.
    Refusal,
}

impl Out {
    pub(super) fn is_waiting(&self, channel: u8, waker: &Waker) -> bool {
        let waiting = &self.writers[usize::from(channel)].waiting;
        waiting.as_ref().is_some_and(|mine| mine.will_wake(waker))
    }

    pub(super) fn take_waiting(&mut self) -> Vec<Waker> {
        let writers = self.writers.iter_mut();
        writers.filter_map(|writer| writer.waiting.take()).collect()
    }

    /// Takes the wakers of those writers that can go on.
    pub(super) fn collect(&mut self, woken: &mut Vec<Waker>) {
        let lost = self.broken.is_some() || self.gone;
        let refused = self.refused.is_some() || lost;
        let lost = lost || self.discarded;
        for channel in 0..self.writers.len() {
            let writer = &self.writers[channel];
            if writer.waiting.is_none() {
                continue;
            }
            let id = channel as u8;
            let ready = match writer.wait {
                // Held or not: what is held is taken while there is room for it.
                Wait::Room => refused || (self.queue.has_room(id) && !self.waits),
                Wait::Flush => lost || self.is_flushed(id),
                Wait::Refusal => refused,
            };
            if ready {
                woken.extend(self.writers[channel].waiting.take());
            }
        }
    }
}
