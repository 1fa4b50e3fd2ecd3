//! The form of a message on the wire: its channel and its encoding.

use super::base64;
#[cfg(feature = "spdy")]
use crate::spdy;

/// The form of a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A binary message: the channel's byte, then the payload.
    Binary,
    /// A text message: the channel's character, then base64.
    Base64,
    /// A binary message that consists of payload only, for channel 0.
    BareBinary,
    /// A text message that consists of base64 only, for channel 0.
    BareBase64,
    /// A binary message that consists of a SPDY frame, whose stream stands for the channel.
    #[cfg(feature = "spdy")]
    Tunnel,
    /// A SPDY frame without a WebSocket around it.
    #[cfg(feature = "spdy")]
    Spdy,
}

impl Format {
    /// Returns whether the payload is sent as base64, in text messages.
    pub(crate) fn is_base64(self) -> bool {
        matches!(self, Self::Base64 | Self::BareBase64)
    }

    /// Returns whether a message begins with its channel's number.
    pub(crate) fn has_channels(self) -> bool {
        matches!(self, Self::Binary | Self::Base64)
    }

    /// Returns whether each channel is a SPDY stream.
    #[inline]
    pub(crate) fn has_streams(self) -> bool {
        #[cfg(feature = "spdy")]
        return matches!(self, Self::Tunnel | Self::Spdy);
        #[cfg(not(feature = "spdy"))]
        false
    }

    /// Returns whether frames are those of a WebSocket.
    pub(crate) fn is_web_socket(self) -> bool {
        #[cfg(feature = "spdy")]
        return self != Self::Spdy;
        #[cfg(not(feature = "spdy"))]
        true
    }

    /// Appends the prefix of a message on this channel.
    pub(crate) fn push_prefix(self, channel: u8, out: &mut Vec<u8>) {
        match self {
            Self::Binary => out.push(channel),
            Self::Base64 => out.push(channel.wrapping_add(b'0')),
            _ => {}
        }
    }

    /// Returns the length of the prefix of a message.
    pub(crate) fn prefix_len(self) -> usize {
        #[cfg(feature = "spdy")]
        if self.has_streams() {
            return spdy::HEAD;
        }
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

    /// Returns the length on the wire of a payload of `len` bytes.
    pub(crate) fn encoded_len(self, len: usize) -> usize {
        match self.is_base64() {
            true => base64::encoded_len(len),
            false => len,
        }
    }
}
