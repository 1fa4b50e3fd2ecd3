//! The form of a message on the wire.

use super::base64;

/// The form of a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A binary message: the channel's byte, then the payload.
    Binary,
    /// A text message: the channel's character, then base64.
    Base64,
    /// A binary message that is all payload. It belongs to channel 0.
    BareBinary,
    /// A text message that is all base64. It belongs to channel 0.
    BareBase64,
}

impl Format {
    /// Returns whether payload travels as base64, in text.
    pub(crate) fn is_base64(self) -> bool {
        matches!(self, Self::Base64 | Self::BareBase64)
    }

    /// Returns whether a message begins with its channel.
    pub(crate) fn has_channels(self) -> bool {
        matches!(self, Self::Binary | Self::Base64)
    }

    /// Appends the beginning of a message of this channel.
    pub(crate) fn push_prefix(self, channel: u8, out: &mut Vec<u8>) {
        match self {
            Self::Binary => out.push(channel),
            Self::Base64 => out.push(channel.wrapping_add(b'0')),
            _ => {}
        }
    }

    /// Returns the length of that prefix.
    pub(crate) fn prefix_len(self) -> usize {
        usize::from(self.has_channels())
    }

    /// Returns the channel of a message that begins with this byte.
    pub(crate) fn channel(self, first: u8) -> u8 {
        match self {
            Self::Binary => first,
            Self::Base64 => first.wrapping_sub(b'0'),
            _ => 0,
        }
    }

    /// Returns the length of a payload of `len` bytes on the wire.
    pub(crate) fn encoded_len(self, len: usize) -> usize {
        match self.is_base64() {
            true => base64::encoded_len(len),
            false => len,
        }
    }
}
