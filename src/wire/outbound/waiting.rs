//! The writers of a session's channels, and the wakers of those that are waiting.

use std::task::Waker;

/// The event that a writer waits for. Any other event does not wake it, because that wake-up would be
/// spurious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// There is room for a write.
    Room,
    /// All data that it has written has left.
    Flush,
    /// A write would fail. The writer is also waiting for something outside of the wire.
    Refusal,
}

/// The writer of one channel.
#[derive(Debug)]
struct Writer {
    stage: Stage,
    waiting: Option<(Wait, Waker)>,
}

/// The stage of a writer's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It accepts data.
    Open,
    /// It was shut down, or the channel cannot be written.
    Shut,
    /// The peer has reset the stream that stands for the channel.
    #[cfg(feature = "spdy")]
    Reset,
    /// It was dropped.
    Dropped,
}

/// The writers of all channels.
#[derive(Debug)]
pub(super) struct Writers {
    /// Grows if streams stand for channels.
    all: Vec<Writer>,
    open: usize,
}

/// A writer that was just closed.
#[derive(Debug)]
#[must_use = "its waker must be dropped outside the lock"]
pub(super) struct Closed {
    pub(super) waker: Option<Waker>,
    /// Set if it was the last open writer.
    pub(super) last: bool,
}

impl Writers {
    pub(super) fn new(channels: usize, writable: impl Fn(usize) -> bool) -> Self {
        let writer = |channel| Writer {
            stage: match writable(channel) {
                true => Stage::Open,
                false => Stage::Shut,
            },
            waiting: None,
        };
        let all: Vec<Writer> = (0..channels).map(writer).collect();
        let open = all.iter().filter(|writer| writer.stage == Stage::Open);
        let open = open.count();
        Self { all, open }
    }

    /// Returns the number of channels, including those without a writer.
    pub(super) fn channels(&self) -> usize {
        self.all.len()
    }

    /// Returns the number of writers that were neither dropped nor shut down.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    #[inline]
    pub(super) fn is_open(&self, channel: u8) -> bool {
        let writer = self.all.get(usize::from(channel));
        writer.is_some_and(|writer| writer.stage == Stage::Open)
    }

    /// Shuts a writer down, unless it has already been closed.
    pub(super) fn close(&mut self, channel: u8) -> Option<Closed> {
        self.leave_open(channel, Stage::Shut)
    }

    /// Notes that a writer was dropped, and closes it unless it has already been closed.
    pub(super) fn drop(&mut self, channel: u8) -> Option<Closed> {
        let closed = self.leave_open(channel, Stage::Dropped);
        if let Some(writer) = self.all.get_mut(usize::from(channel)) {
            writer.stage = Stage::Dropped;
        }
        closed
    }

    fn leave_open(&mut self, channel: u8, stage: Stage) -> Option<Closed> {
        let writer = self.all.get_mut(usize::from(channel))?;
        if writer.stage != Stage::Open {
            return None;
        }
        writer.stage = stage;
        self.open -= 1;
        Some(Closed {
            waker: writer.waiting.take().map(|(_, waker)| waker),
            last: self.open == 0,
        })
    }

    /// Makes a writer wait for this event, if this waker is already registered. Returns whether it
    /// is.
    pub(super) fn renew(&mut self, channel: u8, wait: Wait, waker: &Waker) -> bool {
        match &mut self.all[usize::from(channel)].waiting {
            Some((now, mine)) if mine.will_wake(waker) => {
                *now = wait;
                true
            }
            _ => false,
        }
    }

    /// Makes a writer wait for this event with a new waker. Returns the old waker, which has to be
    /// dropped outside the lock.
    pub(super) fn wait(&mut self, channel: u8, wait: Wait, waker: Waker) -> Option<Waker> {
        let waiting = &mut self.all[usize::from(channel)].waiting;
        waiting.replace((wait, waker)).map(|(_, old)| old)
    }

    /// Takes the wakers of all writers.
    pub(super) fn take_all(&mut self) -> Vec<Waker> {
        let waiting = self.all.iter_mut();
        let waiting = waiting.filter_map(|writer| writer.waiting.take());
        waiting.map(|(_, waker)| waker).collect()
    }

    /// Takes the wakers of the writers that can continue.
    #[inline]
    pub(super) fn take_ready(
        &mut self,
        woken: &mut Vec<Waker>,
        can_go_on: impl Fn(u8, Wait) -> bool,
    ) {
        for (channel, writer) in self.all.iter_mut().enumerate() {
            let Some((wait, _)) = writer.waiting else {
                continue;
            };
            if can_go_on(channel as u8, wait) {
                woken.extend(writer.waiting.take().map(|(_, waker)| waker));
            }
        }
    }
}

/// The writers of channels for which streams stand.
#[cfg(feature = "spdy")]
impl Writers {
    /// Adds an open writer, in place of one that was dropped.
    pub(super) fn add(&mut self, channel: u8) {
        debug_assert!(self.is_dropped(channel), "a handle would reach two streams");
        let channel = usize::from(channel);
        if channel >= self.all.len() {
            self.all.resize_with(channel + 1, || Writer {
                stage: Stage::Dropped,
                waiting: None,
            });
        }
        self.all[channel].stage = Stage::Open;
        self.open += 1;
    }

    /// Closes a writer, because the peer has reset its stream.
    pub(super) fn reset(&mut self, channel: u8) -> Option<Closed> {
        self.leave_open(channel, Stage::Reset)
    }

    /// Returns whether the peer has reset the stream of a writer that still exists.
    pub(super) fn is_reset(&self, channel: u8) -> bool {
        let writer = self.all.get(usize::from(channel));
        writer.is_some_and(|writer| writer.stage == Stage::Reset)
    }

    /// Returns whether there is no writer.
    pub(super) fn is_dropped(&self, channel: u8) -> bool {
        let writer = self.all.get(usize::from(channel));
        writer.is_none_or(|writer| writer.stage == Stage::Dropped)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    struct Nothing;

    impl Wake for Nothing {
        fn wake(self: Arc<Self>) {}
    }

    fn waker() -> Waker {
        Waker::from(Arc::new(Nothing))
    }

    #[test]
    fn a_writer_closes_once_and_takes_its_waker_along() {
        let mut writers = Writers::new(3, |channel| channel != 1);
        assert_eq!((writers.channels(), writers.open()), (3, 2));
        assert!(writers.close(1).is_none(), "it cannot be written");
        assert!(writers.close(3).is_none(), "there is no such channel");
        assert!(writers.wait(0, Wait::Flush, waker()).is_none());
        let closed = writers.close(0).unwrap();
        assert!(closed.waker.is_some() && !closed.last);
        assert!(writers.close(0).is_none() && !writers.is_open(0));
        assert!(writers.take_all().is_empty());
        let closed = writers.close(2).unwrap();
        assert!(closed.waker.is_none() && closed.last);
    }

    #[test]
    fn the_last_poll_of_a_writer_says_what_it_waits_for() {
        let mut writers = Writers::new(1, |_| true);
        let (mine, other) = (waker(), waker());
        assert!(!writers.renew(0, Wait::Room, &mine));
        writers.wait(0, Wait::Room, mine.clone());
        assert!(!writers.renew(0, Wait::Flush, &other));
        assert!(writers.renew(0, Wait::Flush, &mine));
        let mut woken = Vec::new();
        writers.take_ready(&mut woken, |_, wait| wait == Wait::Room);
        assert!(woken.is_empty());
        writers.take_ready(&mut woken, |_, wait| wait == Wait::Flush);
        assert!(woken.pop().is_some_and(|woken| woken.will_wake(&mine)));
        let old = writers.wait(0, Wait::Room, mine);
        assert!(old.is_none(), "it was taken");
    }

    #[test]
    fn a_writer_is_woken_for_its_own_channel() {
        let mut writers = Writers::new(2, |_| true);
        let wakers = [waker(), waker()];
        for (channel, waker) in wakers.iter().enumerate() {
            writers.wait(channel as u8, Wait::Room, waker.clone());
        }
        let mut woken = Vec::new();
        writers.take_ready(&mut woken, |channel, _| channel == 1);
        assert_eq!(woken.len(), 1);
        assert!(woken[0].will_wake(&wakers[1]));
    }
}
