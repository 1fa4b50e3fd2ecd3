use bytes::Bytes;
use tokio_tungstenite::tungstenite::{self, protocol::frame::coding::OpCode};

/// A frame of a client, for tests of a client that breaks the rules.
///
/// Opcode and payload can be anything; the frame itself is well formed, and is masked when it
/// is [sent](super::Client::send_frame).
///
/// # Examples
///
/// ```
/// use tower_wsstream::testing::Frame;
///
/// // Text that is not UTF-8.
/// let text = Frame::text(&[0xff][..]);
/// // A message whose second half never comes.
/// let half = Frame::binary("\0half").fin(false);
/// // A continuation of nothing.
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
    /// Creates a frame with any opcode (RFC 6455, section 5.2), of which 4 bits are sent.
    pub fn new(opcode: u8, payload: impl Into<Bytes>) -> Self {
        Self {
            fin: true,
            opcode: opcode & 0xf,
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
        tungstenite::protocol::frame::Frame::message(
            self.payload,
            OpCode::from(self.opcode),
            self.fin,
        )
    }

    /// Returns the bytes of this frame when a client has sent all of it but the last `missing`
    /// bytes of its payload, which were `A`s.
    pub(super) fn cut_off(mut self, missing: usize) -> Result<Vec<u8>, tungstenite::Error> {
        /// tungstenite masks frames that it sends itself; any key will do for this one.
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
