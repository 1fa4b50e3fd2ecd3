//! The budgets of outgoing data: the amounts that were accepted and have left, and the channels that
//! have room for more.
//!
//! Each channel has a budget, so that one channel cannot take the room of another, and there is a
//! high-water mark for all channels together. Both count bytes on the wire, and neither counts
//! control frames, except for the Close frame and those of SPDY, which are in the high-water mark.

#[cfg(feature = "spdy")]
use crate::spdy::queue_of;
use crate::wire::Traffic;

/// A channel's share of the queue.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The number of bytes on the wire that have not left.
    queued: usize,
    /// The position of the channel's last byte in the stream of all data ever accepted.
    end: u64,
    /// The amount of data that the channel has ever accepted.
    accepted: Traffic,
    /// The number of the SPDY stream that stands for the channel, or 0.
    #[cfg(feature = "spdy")]
    stream: u32,
}

/// The budgets; see the module's documentation.
#[derive(Debug)]
pub(super) struct Budget {
    /// Grows if streams stand for channels.
    shares: Vec<Share>,
    /// The number of bytes of data ever accepted.
    accepted: u64,
    /// The number of those bytes that have left.
    left: u64,
    /// The number of bytes of no channel that have not left.
    control: usize,
    per_channel: usize,
    high_water: usize,
}

impl Budget {
    pub(super) fn new(channels: usize, per_channel: usize, high_water: usize) -> Self {
        Self {
            shares: vec![Share::default(); channels],
            accepted: 0,
            left: 0,
            control: 0,
            per_channel,
            high_water,
        }
    }

    /// Returns the number of bytes of data that have not left.
    #[inline]
    pub(super) fn queued(&self) -> usize {
        (self.accepted - self.left) as usize
    }

    /// Returns the number of bytes that one channel may accept at once, with the budget of another one
    /// left.
    #[cfg(feature = "spdy")]
    pub(super) fn room_beside_one(&self) -> usize {
        let kept = self.queued().saturating_add(self.per_channel);
        self.high_water.saturating_sub(kept)
    }

    /// Returns whether there are bytes of a channel that have not left.
    pub(super) fn has_data(&self) -> bool {
        self.queued() > self.control
    }

    /// Returns the number of bytes of data that have ever left.
    #[inline]
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// Returns whether a write of any size on this channel is accepted now.
    #[inline]
    pub(super) fn has_room(&self, channel: u8) -> bool {
        let share = &self.shares[usize::from(channel)];
        share.queued < self.per_channel && self.queued() < self.high_water
    }

    /// Returns whether all data that this channel has accepted has left.
    pub(super) fn is_flushed(&self, channel: u8) -> bool {
        self.left >= self.shares[usize::from(channel)].end
    }

    /// Returns the amount of data that this channel has ever accepted.
    pub(super) fn accepted_on(&self, channel: u8) -> Traffic {
        self.shares[usize::from(channel)].accepted
    }

    /// Accepts one message of `payload` bytes, which are `bytes` on the wire.
    #[inline]
    pub(super) fn accept(&mut self, channel: u8, payload: usize, bytes: usize) {
        self.accepted += bytes as u64;
        let share = &mut self.shares[usize::from(channel)];
        share.queued += bytes;
        share.end = self.accepted;
        share.accepted.messages += 1;
        share.accepted.bytes += payload as u64;
    }

    /// Accepts bytes that belong to no channel.
    pub(super) fn accept_control(&mut self, bytes: usize) {
        self.accepted += bytes as u64;
        self.control += bytes;
    }

    /// Counts bytes that have left. [`Budget::repay`] gives them back to their channels.
    pub(super) fn leave(&mut self, bytes: usize) {
        self.left += bytes as u64;
    }

    /// Gives bytes that have left back to the budget of their channel.
    pub(super) fn repay(&mut self, channel: u8, bytes: usize) {
        let share = &mut self.shares[usize::from(channel)];
        debug_assert!(share.queued >= bytes);
        share.queued = share.queued.saturating_sub(bytes);
    }

    /// Counts bytes of no channel that have left.
    pub(super) fn repay_control(&mut self, bytes: usize) {
        self.control = self.control.saturating_sub(bytes);
    }

    /// Counts all data that was accepted as having left.
    pub(super) fn leave_all(&mut self) {
        self.left = self.accepted;
        self.control = 0;
        for share in &mut self.shares {
            share.queued = 0;
        }
    }

    /// Discards all data that has not left, except for `kept` bytes.
    pub(super) fn discard(&mut self, kept: usize) {
        self.accepted = self.left + kept as u64;
        self.control = 0;
        for share in &mut self.shares {
            // Later bytes take the positions of the discarded ones, and must not be mistaken for
            // them. So this channel is never flushed again.
            if share.end > self.accepted {
                share.end = u64::MAX;
            }
        }
    }

    /// Returns the number of bytes of no channel that have not left.
    #[cfg(feature = "spdy")]
    pub(super) fn control(&self) -> usize {
        self.control
    }

    /// Returns the number of bytes that all channels have queued.
    #[cfg(test)]
    pub(super) fn queued_by_channels(&self) -> usize {
        self.shares.iter().map(|share| share.queued).sum()
    }

    /// Returns the number of bytes that a channel has queued.
    #[cfg(test)]
    pub(super) fn queued_on(&self, channel: u8) -> usize {
        self.shares[usize::from(channel)].queued
    }
}

/// The streams that stand for channels.
#[cfg(feature = "spdy")]
impl Budget {
    /// Returns the number of bytes ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Lets a stream stand for a channel, which is added if it is new.
    pub(super) fn open(&mut self, channel: u8, stream: u32) {
        let channel = usize::from(channel);
        if channel >= self.shares.len() {
            self.shares.resize(channel + 1, Share::default());
        }
        self.shares[channel].stream = stream;
    }

    /// Returns the stream that stands for a channel, if there is one.
    pub(super) fn stream(&self, channel: u8) -> Option<u32> {
        let share = self.shares.get(usize::from(channel))?;
        (share.stream > 0).then_some(share.stream)
    }

    /// Returns the channel for which a stream stands.
    pub(super) fn channel_of(&self, stream: u32) -> Option<u8> {
        let channel = self
            .shares
            .iter()
            .position(|share| share.stream == stream)?;
        Some(channel as u8)
    }

    /// Returns the last stream that was opened.
    pub(super) fn last_stream(&self) -> u32 {
        let streams = self.shares.iter().map(|share| share.stream);
        streams.max().unwrap_or_default()
    }

    /// Returns whether no stream with this queue has data that may wait there for its reader.
    pub(super) fn is_idle_queue(&self, queue: usize) -> bool {
        let mut shares = self.shares.iter();
        shares.all(|share| queue_of(share.stream) != queue || share.accepted.messages == 0)
    }

    /// Returns whether all data of a channel has left.
    pub(super) fn is_idle(&self, channel: u8) -> bool {
        let share = self.shares.get(usize::from(channel));
        share.is_none_or(|share| share.queued == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ends_with_the_channels_budget_or_the_high_water_mark() {
        let mut budget = Budget::new(3, 100, 250);
        budget.accept(0, 90, 99);
        assert!(budget.has_room(0), "one byte is left");
        budget.accept(0, 90, 1);
        assert!(!budget.has_room(0) && budget.has_room(1));
        budget.accept(1, 140, 149);
        assert!(budget.has_room(2), "one byte is left of all");
        budget.accept_control(1);
        assert!(!budget.has_room(2));
        budget.leave(150);
        budget.repay(0, 100);
        budget.repay(1, 50);
        assert!(budget.has_room(0) && budget.has_room(2));
        assert!(budget.has_room(1), "99 of 100");
        assert_eq!((budget.queued(), budget.left()), (100, 150));
    }

    #[test]
    fn a_channel_is_flushed_when_its_own_last_byte_has_left() {
        let mut budget = Budget::new(2, 100, 100);
        assert!(budget.is_flushed(0), "it has accepted nothing");
        budget.accept(0, 5, 10);
        budget.accept(1, 5, 10);
        budget.leave(9);
        assert!(!budget.is_flushed(0));
        budget.leave(1);
        assert!(budget.is_flushed(0) && !budget.is_flushed(1));
        budget.leave_all();
        assert!(budget.is_flushed(1));
        assert_eq!((budget.queued(), budget.queued_by_channels()), (0, 0));
    }

    #[test]
    fn discarded_bytes_never_count_as_flushed() {
        let mut budget = Budget::new(2, 100, 100);
        budget.accept(0, 5, 10);
        budget.accept(1, 5, 10);
        budget.leave(5);
        budget.discard(5);
        budget.accept_control(20);
        assert_eq!(budget.queued(), 25);
        budget.leave_all();
        assert!(budget.is_flushed(0), "its frame was half out");
        assert!(!budget.is_flushed(1));
    }

    #[test]
    fn traffic_counts_payload() {
        let mut budget = Budget::new(1, 100, 100);
        budget.accept(0, 5, 10);
        budget.accept(0, 0, 3);
        let accepted = Traffic {
            messages: 2,
            bytes: 5,
        };
        assert_eq!(budget.accepted_on(0), accepted);
    }
}
