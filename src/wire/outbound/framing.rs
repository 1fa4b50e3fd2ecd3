//! The fragmentation of messages into frames, and the heads of frames that carry streams.

#[cfg(feature = "spdy")]
use crate::{frame::frame_head, spdy};
use crate::{
    frame::{OpCode, head_len},
    protocol::Format,
};

/// The payload of each frame of a large message. Control frames can go between two frames.
pub(super) const FRAGMENT: usize = 32 * 1024;

/// The payload of such a frame in base64. It is a multiple of three, so that only the last frame is
/// padded, and becomes 32 KiB of text.
pub(super) const FRAGMENT_BASE64: usize = 24 * 1024;

impl Format {
    /// Returns the opcode of a message's first frame.
    pub(super) fn opcode(self) -> OpCode {
        match self.is_base64() {
            true => OpCode::Text,
            false => OpCode::Binary,
        }
    }

    /// Returns the payload of each frame of a large message, before encoding.
    pub(super) fn fragment(self) -> usize {
        match self.is_base64() {
            true => FRAGMENT_BASE64,
            false => FRAGMENT,
        }
    }

    /// Returns the length of the head of a WebSocket frame, or 0 if there is no WebSocket.
    pub(super) fn frame_head_len(self, payload: usize) -> usize {
        match self.is_web_socket() {
            true => head_len(payload as u64),
            false => 0,
        }
    }

    /// Returns the length on the wire of a message of `len` bytes, in fragments if it is large.
    pub(super) fn message_len(self, len: usize) -> usize {
        let (whole, rest) = (len / self.fragment(), len % self.fragment());
        let frame = |payload: usize| payload + self.frame_head_len(payload);
        let full = self.encoded_len(self.fragment());
        let rest_len = self.encoded_len(rest);
        let prefix = self.prefix_len();
        match (whole, rest) {
            (_, 0) if self.has_streams() => whole * frame(prefix + full),
            (_, _) if self.has_streams() => whole * frame(prefix + full) + frame(prefix + rest),
            (0, _) => frame(prefix + rest_len),
            (_, 0) => frame(prefix + full) + (whole - 1) * frame(full),
            (_, _) => frame(prefix + full) + (whole - 1) * frame(full) + frame(rest_len),
        }
    }
}

/// The heads of the frames of streams.
#[cfg(feature = "spdy")]
impl Format {
    /// Appends the head of a WebSocket message, if there is a WebSocket.
    pub(super) fn message_head(self, len: usize, out: &mut Vec<u8>) {
        if self.is_web_socket() {
            frame_head(out, true, OpCode::Binary, len as u64);
        }
    }

    /// Appends the head of a DATA frame, inside a WebSocket frame if there is one.
    pub(super) fn data_head(self, stream: u32, len: usize, out: &mut Vec<u8>) {
        self.message_head(spdy::HEAD + len, out);
        spdy::data_head(out, stream, false, len);
    }
}
