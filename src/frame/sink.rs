use super::{error::FrameError, header::OpCode, mask::Masked};

/// The kind of payload that a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    /// UTF-8, checked byte by byte as it streams.
    Text,
    /// Any bytes.
    Binary,
}

impl From<MessageKind> for OpCode {
    fn from(kind: MessageKind) -> OpCode {
        match kind {
            MessageKind::Text => OpCode::Text,
            MessageKind::Binary => OpCode::Binary,
        }
    }
}

/// A control frame with its payload unmasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    /// A Ping, to be answered with a Pong of the same payload.
    Ping(&'a [u8]),
    /// A Pong: the answer to a Ping, or unsolicited.
    Pong(&'a [u8]),
    /// A Close, with code and reason if it has any. A decoder reports nothing after it.
    Close(Option<(u16, &'a str)>),
}

/// Receives the output of a [`Decoder`](super::Decoder).
///
/// A message arrives either as one [`message`](Sink::message), or as one
/// [`begin`](Sink::begin), any number of [`payload`](Sink::payload) and one
/// [`end`](Sink::end), with control frames wherever the peer put them. An error
/// from any method ends decoding for good.
pub(crate) trait Sink {
    /// An error of the sink itself, or of the peer.
    type Error: From<FrameError>;

    /// Starts a message.
    fn begin(&mut self, kind: MessageKind) -> Result<(), Self::Error>;

    /// Returns how many payload bytes of the current message can be taken now.
    ///
    /// It may depend on the bytes that came before, and is called again before
    /// every piece. 0 pauses the decoder.
    fn room(&mut self) -> usize;

    /// Takes the next bytes of the current message: at least one, and at most as
    /// many as [`room`](Sink::room) has just returned.
    fn payload(&mut self, piece: Masked<'_>) -> Result<(), Self::Error>;

    /// Ends the current message.
    fn end(&mut self) -> Result<(), Self::Error>;

    /// Takes a whole message in one step: unfragmented, 1 to 125 bytes, text
    /// already checked.
    ///
    /// Returns `false` if there is no room for all of it. Nothing was taken then,
    /// and the decoder goes through `begin` instead.
    fn message(&mut self, kind: MessageKind, piece: Masked<'_>) -> Result<bool, Self::Error>;

    /// Takes a control frame, which may come between the fragments of a message.
    /// It cannot be put off.
    fn control(&mut self, control: Control<'_>) -> Result<(), Self::Error>;
}
