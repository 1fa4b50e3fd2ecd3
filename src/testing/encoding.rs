//! The encoding of messages in the selected subprotocol, from the client's side.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Frame, Received};
use crate::protocol::{ChannelProtocolConfig, Format, subprotocols};

/// The form of messages on the wire, and whether the subprotocol has half-close.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageEncoding {
    format: Format,
    pub(super) half_close: bool,
}

impl MessageEncoding {
    /// Returns the encoding of a subprotocol, for which the server has `config`.
    ///
    /// For the names of Kubernetes, `config` is ignored: like a real client, this one knows what they
    /// mean, so a server with a wrong table does not pass a test. All other names come from the table
    /// of the service under test.
    pub(super) fn of(subprotocol: &str, config: Option<&ChannelProtocolConfig>) -> Self {
        let (format, half_close) = match (subprotocol, config) {
            (subprotocols::BASE64_CHANNEL | subprotocols::V4_BASE64, _) => (Format::Base64, false),
            (subprotocols::CHANNEL | subprotocols::V2 | subprotocols::V3 | subprotocols::V4, _) => {
                (Format::Binary, false)
            }
            (subprotocols::V5, _) => (Format::Binary, true),
            (_, Some(config)) => (config.format(), config.supports_half_close()),
            (_, None) => (Format::Binary, false),
        };
        Self { format, half_close }
    }

    pub(super) fn encode(self, channel: u8, payload: &[u8]) -> Frame {
        match self.format {
            Format::Binary => {
                let mut message = BytesMut::with_capacity(1 + payload.len());
                message.put_u8(channel);
                message.put_slice(payload);
                Frame::binary(message)
            }
            Format::Base64 => {
                let prefix = char::from(channel.wrapping_add(b'0'));
                Frame::text(format!("{prefix}{}", STANDARD.encode(payload)))
            }
            Format::BareBinary => Frame::binary(payload.to_vec()),
            Format::BareBase64 => Frame::text(STANDARD.encode(payload)),
            // The client of `testing` speaks no SPDY. Its frames are the payload of messages.
            #[cfg(feature = "spdy")]
            Format::Tunnel | Format::Spdy => Frame::binary(payload.to_vec()),
        }
    }

    /// Decodes a message. Returns `None` if it lacks its channel byte, and is to be ignored.
    pub(super) fn decode(self, mut message: Bytes) -> Option<Received> {
        let channel = match (self.format.has_channels(), message.is_empty()) {
            (true, true) => return None,
            (true, false) => self.format.channel(message.split_to(1)[0]),
            (false, _) => 0,
        };
        if !self.format.is_base64() {
            return Some(Received::Message(channel, message));
        }
        Some(match STANDARD.decode(message) {
            Ok(decoded) => Received::Message(channel, decoded.into()),
            Err(_) => Received::Invalid,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ChannelType, Encoding};

    fn config(encoding: Encoding) -> ChannelProtocolConfig {
        ChannelProtocolConfig::new(encoding, [ChannelType::ReadWrite; 3])
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let binary = config(Encoding::Binary);
        let base64 = config(Encoding::Base64);
        for (config, channel) in [
            (binary.clone(), 2),
            (base64.clone(), 2),
            (binary.bare(), 0),
            (base64.bare(), 0),
        ] {
            let encoding = MessageEncoding::of("v1.example.com", Some(&config));
            let frame = encoding.encode(2, b"ab").into_tungstenite();
            let message = frame.into_payload();
            let received = Received::Message(channel, Bytes::from("ab"));
            assert_eq!(encoding.decode(message), Some(received), "{config:?}");
        }
    }

    #[test]
    fn the_server_is_not_believed_about_names_of_kubernetes() {
        let wrong = config(Encoding::Base64);
        let encoding = MessageEncoding::of(subprotocols::V5, Some(&wrong));
        assert_eq!(encoding.format, Format::Binary);
        assert!(encoding.half_close);
    }
}
