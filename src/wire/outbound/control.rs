//! The control lane, for Pings and Pongs. They go ahead of all data at the next frame boundary.

use crate::frame::{OpCode, frame_head};

/// The largest number of waiting Pongs.
///
/// A peer may send endless Pings and read nothing. One more Pong then replaces the oldest, as
/// RFC 6455, 5.5.3 allows, so that a flood neither takes up memory nor stops reading.
const MAX_PONGS: usize = 16;

/// The capacity of the largest buffer that an empty lane keeps, which fits the Pongs for a few
/// ordinary Pings.
const KEPT: usize = 256;

/// The lane; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct ControlLane {
    /// The encoded Pongs, oldest first.
    pongs: Vec<u8>,
    count: usize,
    /// The payload of the waiting Ping.
    ping: Option<u64>,
    /// An encoded batch, of which the transport has taken `sent` bytes. It is finished before
    /// anything else is written.
    leaving: Vec<u8>,
    sent: usize,
}

impl ControlLane {
    /// Queues a Pong, in place of the oldest one if too many are waiting.
    pub(super) fn pong(&mut self, payload: &[u8]) {
        if self.count == MAX_PONGS {
            // The header of a server's control frame has two bytes, and the second is the length.
            let oldest = 2 + usize::from(self.pongs[1]);
            self.pongs.drain(..oldest);
            self.count -= 1;
        }
        frame_head(&mut self.pongs, true, OpCode::Pong, payload.len() as u64);
        self.pongs.extend_from_slice(payload);
        self.count += 1;
    }

    /// Returns whether a Pong is waiting.
    pub(super) fn has_pongs(&self) -> bool {
        self.count > 0
    }

    /// Queues a Ping with `mark` as its payload, which the Pong repeats. It replaces a Ping that is
    /// still waiting.
    pub(super) fn ping(&mut self, mark: u64) {
        self.ping = Some(mark);
    }

    /// Returns whether anything is waiting for a frame boundary.
    pub(super) fn is_waiting(&self) -> bool {
        self.ping.is_some() || self.count > 0
    }

    /// Returns whether a batch has left only in part, and has to be finished first.
    pub(super) fn is_leaving(&self) -> bool {
        self.sent < self.leaving.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_waiting() && !self.is_leaving()
    }

    /// Makes everything that is waiting the next batch. The previous batch must have left.
    pub(super) fn load(&mut self) {
        debug_assert!(!self.is_leaving());
        self.leaving.clear();
        self.sent = 0;
        if let Some(mark) = self.ping.take() {
            let mark = mark.to_be_bytes();
            frame_head(&mut self.leaving, true, OpCode::Ping, mark.len() as u64);
            self.leaving.extend_from_slice(&mark);
        }
        self.leaving.append(&mut self.pongs);
        self.count = 0;
    }

    /// Returns the part of the batch that has not left.
    pub(super) fn front(&self) -> &[u8] {
        &self.leaving[self.sent..]
    }

    /// Notes that the transport has taken `n` bytes of the batch.
    pub(super) fn advance(&mut self, n: usize) {
        self.sent += n;
        if !self.is_leaving() {
            self.sent = 0;
            self.leaving.clear();
            if self.leaving.capacity() > KEPT {
                self.leaving = Vec::new();
            }
            if self.pongs.capacity() > KEPT && self.count == 0 {
                self.pongs = Vec::new();
            }
        }
    }

    /// Discards everything that has not begun to leave.
    pub(super) fn discard_waiting(&mut self) {
        self.ping = None;
        self.pongs.clear();
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_pings_keeps_the_newest_sixteen() {
        let mut lane = ControlLane::default();
        for n in 0..100_u8 {
            lane.pong(&[n; 3]);
        }
        lane.load();
        let expected: Vec<u8> = (84..100).flat_map(|n| [0x8a, 3, n, n, n]).collect();
        assert_eq!(lane.front(), expected);
        lane.advance(expected.len());
        assert!(lane.is_empty());
    }

    #[test]
    fn a_batch_that_is_half_out_is_not_touched() {
        let mut lane = ControlLane::default();
        lane.pong(b"old");
        lane.load();
        lane.advance(1);
        lane.pong(b"new");
        lane.ping(7);
        assert_eq!(lane.front(), [3, b'o', b'l', b'd']);
        lane.discard_waiting();
        assert!(lane.is_leaving() && !lane.is_waiting());
    }
}
