use bytes::Bytes;
use tokio_tungstenite::tungstenite::{
    self,
    protocol::frame::{FrameHeader, coding::OpCode},
};

/// A frame for tests of a client that breaks the rules.
///
/// Opcode and payload are arbitrary. The frame itself is well formed, and is masked when it is
/// [sent](super::Client::send_frame).
///
/// # Examples
///
/// ```
/// use tower_wsstream::testing::Frame;
///
/// // A text message that is not UTF-8.
/// let text = Frame::text(&[0xff][..]);
/// // A message whose second half never arrives.
/// let half = Frame::binary("\0half").fin(false);
/// // A continuation without a message.
/// let continuation = Frame::new(0, "more");
/// # let _ = (text, half, continuation);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    fin: bool,
    opcode: u8,
    payload: Bytes,
}

impl Frame {
    /// Creates a frame with any opcode from 0 to 15, including reserved ones (RFC 6455, section 5.2).
    ///
    /// # Panics
    /// Panics if the opcode is larger than 15, because a frame has only 4 bits for it.
    #[track_caller]
    pub fn new(opcode: u8, payload: impl Into<Bytes>) -> Self {
        assert!(opcode <= 0xf, "opcode {opcode} does not fit into 4 bits");
        Self {
            fin: true,
            opcode,
            payload: payload.into(),
        }
    }

    /// Creates a text message.
    pub fn text(payload: impl Into<Bytes>) -> Self {
        Self::new(1, payload)
    }

    /// Creates a binary message.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self::new(2, payload)
    }

    /// Sets whether this is the last frame of its message. Default `true`.
    #[must_use]
    pub fn fin(mut self, fin: bool) -> Self {
        self.fin = fin;
        self
    }

    pub(super) fn into_tungstenite(self) -> tungstenite::protocol::frame::Frame {
        // Not `Frame::message`, which accepts only the opcodes of data.
        let header = FrameHeader {
            is_final: self.fin,
            opcode: OpCode::from(self.opcode),
            ..FrameHeader::default()
        };
        tungstenite::protocol::frame::Frame::from_payload(header, self.payload)
    }

    /// Returns the bytes of a frame that announces `missing` more bytes of payload than it has.
    pub(super) fn cut_off(mut self, missing: usize) -> Result<Vec<u8>, tungstenite::Error> {
        /// The masking key. tungstenite masks only frames that it sends itself, and any key will do.
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

        self.payload = [&self.payload, vec![b'A'; missing].as_slice()]
            .concat()
            .into();
        let mut frame = self.into_tungstenite();
        frame.header_mut().mask = Some(MASK);
        let mut bytes = Vec::new();
        frame.format(&mut bytes)?;
        bytes.truncate(bytes.len() - missing);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_of_four_bits_is_kept() {
        for opcode in 0..=0xf {
            let frame = Frame::new(opcode, "").into_tungstenite();
            assert_eq!(u8::from(frame.header().opcode), opcode);
        }
    }

    #[test]
    #[should_panic(expected = "4 bits")]
    fn an_opcode_of_five_bits_panics() {
        let _ = Frame::new(0x12, "");
    }
}
