//! How a message of the subprotocol looks on the wire.

use super::base64;

/// How a message looks on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A binary message: the channel's byte, then the payload.
    Binary,
    /// A text message: the channel's character, then base64.
    Base64,
    /// A binary message that is all payload, of the only channel there is.
    BareBinary,
    /// A text message that is all base64, likewise.
    BareBase64,
}

impl Format {
    /// Whether payload travels as base64, in text.
    pub(crate) fn is_base64(self) -> bool {
        matches!(self, Self::Base64 | Self::BareBase64)
    }

    /// Whether a message begins with its channel.
    pub(crate) fn has_channels(self) -> bool {
        matches!(self, Self::Binary | Self::Base64)
    }

    /// What a message of this channel begins with.
    pub(crate) fn push_prefix(self, channel: u8, out: &mut Vec<u8>) {
        match self {
            Self::Binary => out.push(channel),
            Self::Base64 => out.push(channel.wrapping_add(b'0')),
            _ => {}
        }
    }

    pub(crate) fn prefix_len(self) -> usize {
        usize::from(self.has_channels())
    }

    pub(crate) fn channel(self, first: u8) -> u8 {
        match self {
            Self::Binary => first,
            Self::Base64 => first.wrapping_sub(b'0'),
            _ => 0,
        }
    }

    pub(crate) fn encoded_len(self, len: usize) -> usize {
        match self.is_base64() {
            true => base64::encoded_len(len),
            false => len,
        }
    }
}
