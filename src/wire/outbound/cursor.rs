//! The position in the stream of encoded frames up to which the transport has taken it.

use super::budget::Budget;
#[cfg(feature = "spdy")]
use crate::spdy;
use crate::{frame::read_frame_len, protocol::Format};

/// The position; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The number of bytes of the front frame that have not left, or 0 at a frame boundary.
    frame_left: usize,
    /// The channel of that frame. A control frame has none.
    frame_channel: Option<u8>,
    /// The channel whose fragments follow, after a frame without FIN.
    message_channel: Option<u8>,
}

impl Cursor {
    /// Returns the number of bytes of the front frame that have not left, or 0 at a frame boundary.
    pub(super) fn frame_left(&self) -> usize {
        self.frame_left
    }

    /// Advances by `n` bytes, and gives them back to the budgets of the channels that wrote them.
    ///
    /// `front` begins at the cursor's position. It has to contain every frame header within the `n`
    /// bytes, but need not contain the last payload.
    pub(super) fn advance(
        &mut self,
        mut n: usize,
        front: &[u8],
        format: Format,
        budget: &mut Budget,
    ) {
        budget.leave(n);
        let mut at = 0;
        while n > 0 {
            if self.frame_left == 0 {
                self.enter(&front[at..], format, budget);
            }
            let step = n.min(self.frame_left);
            self.frame_left -= step;
            at += step;
            n -= step;
            match self.frame_channel {
                Some(channel) => budget.repay(channel, step),
                None => budget.repay_control(step),
            }
        }
    }

    /// Reads the header of the frame that begins here.
    #[cfg_attr(not(feature = "spdy"), expect(unused_variables))]
    fn enter(&mut self, frame: &[u8], format: Format, budget: &Budget) {
        #[cfg(feature = "spdy")]
        if format.has_streams() {
            return self.enter_stream(frame, format, budget);
        }
        let (head, payload) = read_frame_len(frame);
        let (fin, opcode) = (frame[0] & 0x80 != 0, frame[0] & 0x0f);
        self.frame_left = head + payload as usize;
        self.frame_channel = match opcode {
            0 => self.message_channel,
            1 | 2 => Some(format.channel(frame.get(head).copied().unwrap_or(0))),
            _ => None,
        };
        if opcode < 8 {
            self.message_channel = if fin { None } else { self.frame_channel };
        }
    }

    /// Reads the head of the SPDY frame that begins here, inside its WebSocket frame if there is one.
    #[cfg(feature = "spdy")]
    #[inline(never)]
    fn enter_stream(&mut self, frame: &[u8], format: Format, budget: &Budget) {
        let (head, payload) = match format.is_web_socket() {
            true => read_frame_len(frame),
            false => (0, 0),
        };
        if format.is_web_socket() && frame[0] & 0x0f >= 8 {
            self.frame_left = head + payload as usize;
            self.frame_channel = None;
            return;
        }
        let (stream, len) = spdy::own_frame(&frame[head..]);
        self.frame_left = match format.is_web_socket() {
            // Several control frames may share a message.
            true => head + payload as usize,
            false => spdy::HEAD + len,
        };
        // This end never sends an empty DATA frame, except as the end of a stream, which is not
        // counted as data.
        self.frame_channel = stream
            .filter(|_| len > 0)
            .and_then(|stream| budget.channel_of(stream));
    }

    /// Advances to the end of all queued data, without going through it frame by frame.
    pub(super) fn advance_all(&mut self, budget: &mut Budget) {
        self.frame_left = 0;
        self.message_channel = None;
        budget.leave_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{OpCode, frame_head};

    /// Returns two fragments of channel 1, a control frame, and an empty message of channel 0.
    fn stream(budget: &mut Budget) -> Vec<u8> {
        let mut out = Vec::new();
        frame_head(&mut out, false, OpCode::Binary, 3);
        out.extend([1, 7, 7]);
        frame_head(&mut out, true, OpCode::Continuation, 2);
        out.extend([0, 0]);
        budget.accept(1, 4, 9);
        frame_head(&mut out, true, OpCode::Close, 2);
        out.extend([3, 232]);
        budget.accept_control(4);
        frame_head(&mut out, true, OpCode::Binary, 1);
        out.push(0);
        budget.accept(0, 0, 3);
        out
    }

    #[test]
    fn each_byte_goes_back_to_the_channel_that_wrote_it() {
        for cut in 1..=16 {
            let mut budget = Budget::new(2, 100, 100);
            let mut cursor = Cursor::default();
            let stream = stream(&mut budget);
            let mut at = 0;
            while at < stream.len() {
                let n = cut.min(stream.len() - at);
                cursor.advance(n, &stream[at..], Format::Binary, &mut budget);
                at += n;
                assert_eq!(budget.queued_on(1), 9_usize.saturating_sub(at), "{cut}");
                assert_eq!(budget.queued_on(0), 16 - at.max(13), "{cut}");
                assert_eq!(budget.queued(), stream.len() - at, "{cut}");
            }
            assert_eq!(cursor.frame_left(), 0);
        }
    }

    #[test]
    fn a_cursor_knows_how_much_of_a_frame_is_left() {
        let mut budget = Budget::new(2, 100, 100);
        let mut cursor = Cursor::default();
        let stream = stream(&mut budget);
        cursor.advance(1, &stream, Format::Binary, &mut budget);
        assert_eq!(cursor.frame_left(), 4);
        cursor.advance(4, &stream[1..], Format::Binary, &mut budget);
        assert_eq!(cursor.frame_left(), 0);
        cursor.advance_all(&mut budget);
        assert_eq!((cursor.frame_left(), budget.queued()), (0, 0));
    }
}
