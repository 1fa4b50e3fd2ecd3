//! The frames of SPDY in the queue that are not data, and the streams that stand for channels.

use std::ops::Range;

use super::SendQueue;
use crate::spdy::{self, GoAwayStatus, ResetStatus, queue_of};

/// The state that only grows with what this end sends.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Set once a SYN_REPLY was queued. The first one begins the stream of compressed blocks.
    replied: bool,
    /// The number of the last PING, or 0.
    ping: u32,
    /// The number of the last PING of the keep-alive, until it is answered.
    marked: u32,
    /// The amount of data that was accepted before that PING.
    mark: u64,
}

impl Said {
    /// Returns the number of the next PING.
    pub(super) fn next_ping(&mut self) -> u32 {
        // The numbers of a server's PINGs are even. After 2^31 of them, they would start again.
        self.ping = self.ping.wrapping_add(2).max(2);
        self.ping
    }
}

/// A stream for each queue of a Go client, above all streams of a client, which would need years to get
/// there.
const NO_STREAMS: Range<u32> = 0x7fff_fff0..0x7fff_fff5;

/// The methods for adding frames that are not data.
impl SendQueue {
    /// Queues frames behind everything else. The payload of DATA frames among them must be empty.
    pub(in crate::wire::outbound) fn push_frames(&mut self, frames: &[u8]) {
        self.push_paced(frames);
    }

    /// Queues the frame that `write` encodes.
    fn push_frame(&mut self, write: impl FnOnce(&mut &mut [u8])) {
        self.push_frames(spdy::encode(&mut [0; spdy::LONGEST], write));
    }

    /// Appends the frame that `write` encodes to the queue.
    pub(super) fn append_frame(&mut self, write: impl FnOnce(&mut &mut [u8])) {
        self.append(spdy::encode(&mut [0; spdy::LONGEST], write));
    }

    /// Appends frames to the queue.
    pub(super) fn append(&mut self, frames: &[u8]) {
        if self.closing || frames.is_empty() {
            return;
        }
        let format = self.format;
        let head = format.frame_head_len(frames.len());
        let tail = self.place(head + frames.len());
        format.message_head(frames.len(), tail);
        tail.extend_from_slice(frames);
        self.budget.accept_control(head + frames.len());
    }

    /// Queues the SYN_REPLY of a stream.
    pub(in crate::wire::outbound) fn push_reply(&mut self, stream: u32) {
        let first = !std::mem::replace(&mut self.said.replied, true);
        self.push_frame(|out| spdy::syn_reply(out, stream, first));
    }

    /// Queues a PING, which confirms the data that was accepted before it. Returns whether an answer
    /// can be expected.
    ///
    /// A Go client answers it behind what is in one of its [queues](crate::spdy::Pace), and a local
    /// reader that stands still must not make the client look dead. So there are more of them, until
    /// one is in a queue in which nothing waits. If there is none, another frame shows whether the
    /// client's host is still there.
    pub(super) fn push_ping(&mut self) -> bool {
        for _ in 0..spdy::QUEUES {
            let id = self.said.next_ping();
            let Some(waits) = self.beat(id) else {
                break;
            };
            self.said.marked = id;
            self.said.mark = self.budget.accepted();
            self.append_frame(|out| spdy::ping(out, id));
            if !waits {
                return true;
            }
        }
        match self.nudge_queue() {
            Some(queue) => {
                self.append_nudge(queue);
                false
            }
            // Without pacing, no more is known, and there are queues without a stream.
            None => true,
        }
    }

    /// Queues the reset of a stream that does not exist, which a Go client takes from this queue and
    /// discards.
    fn append_nudge(&mut self, queue: usize) {
        let mut streams = NO_STREAMS.filter(|stream| queue_of(*stream) == queue);
        if let Some(stream) = streams.next() {
            self.append_frame(|out| spdy::rst_stream(out, stream, ResetStatus::Cancel));
        }
    }

    /// Queues a frame that means nothing to the peer, in place of the Pong of a WebSocket. If the
    /// peer has gone, the connection fails.
    ///
    /// It is the reset of a stream that does not exist. A Go client discards it without an answer,
    /// and it is for a queue in which nothing waits.
    pub(super) fn push_nudge(&mut self) {
        if self.queued() > 0 {
            // This shows it as well.
            return;
        }
        let mut streams = NO_STREAMS.filter(|stream| self.budget.is_idle_queue(queue_of(*stream)));
        if let Some(stream) = streams.next() {
            self.push_frame(|out| spdy::rst_stream(out, stream, ResetStatus::Cancel));
        }
    }

    /// Queues the GOAWAY of a session that ends with this code of a Close frame.
    pub(super) fn push_go_away(&mut self, code: Option<u16>) {
        let status = match code {
            Some(1002 | 1007 | 1009) => GoAwayStatus::ProtocolError,
            Some(1011) => GoAwayStatus::InternalError,
            _ => GoAwayStatus::Ok,
        };
        let last = self.budget.last_stream();
        self.push_frame(|out| spdy::go_away(out, last, status));
    }

    /// Takes the amount of data that the peer has read if it answers this PING of the keep-alive.
    pub(in crate::wire::outbound) fn take_mark(&mut self, ping: u32) -> Option<u64> {
        let answers = self.said.marked == ping;
        if answers {
            self.said.marked = 0;
        }
        answers.then_some(self.said.mark)
    }
}

/// The methods for the streams that stand for channels.
impl SendQueue {
    /// Lets a stream stand for a channel, which is added if it is new.
    pub(in crate::wire::outbound) fn open(&mut self, channel: u8, stream: u32) {
        self.budget.open(channel, stream);
    }

    /// Returns whether a stream stands for a channel.
    pub(in crate::wire::outbound) fn is_open(&self, channel: u8) -> bool {
        self.budget.stream(channel).is_some()
    }

    /// Returns whether all data of a channel has left.
    pub(in crate::wire::outbound) fn is_idle(&self, channel: u8) -> bool {
        self.budget.is_idle(channel)
    }

    /// Returns the number of bytes of frames without data that have not left.
    pub(in crate::wire::outbound) fn queued_control(&self) -> usize {
        self.budget.control() + self.held()
    }
}

#[cfg(test)]
mod tests;
