use crate::{
    frame::{OpCode, head_len},
    protocol::Format,
};

/// Source bytes in a frame of a large message. Control frames fit between two.
pub(super) const FRAGMENT: usize = 32 * 1024;

/// The same for base64: a multiple of three, so that only the last is padded,
/// and 32 KiB of text.
pub(super) const FRAGMENT_BASE64: usize = 24 * 1024;

impl Format {
    pub(super) fn opcode(self) -> OpCode {
        match self.is_base64() {
            true => OpCode::Text,
            false => OpCode::Binary,
        }
    }

    pub(super) fn fragment(self) -> usize {
        match self.is_base64() {
            true => FRAGMENT_BASE64,
            false => FRAGMENT,
        }
    }

    /// Bytes on the wire of a message in fragments.
    pub(super) fn message_len(self, len: usize) -> usize {
        let (whole, rest) = (len / self.fragment(), len % self.fragment());
        let frame = |payload: usize| payload + head_len(payload as u64);
        let full = self.encoded_len(self.fragment());
        let rest_len = self.encoded_len(rest);
        let prefix = self.prefix_len();
        match (whole, rest) {
            (0, _) => frame(prefix + rest_len),
            (_, 0) => frame(prefix + full) + (whole - 1) * frame(full),
            (_, _) => frame(prefix + full) + (whole - 1) * frame(full) + frame(rest_len),
        }
    }
}
