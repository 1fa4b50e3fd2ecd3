use super::{error::FrameError, header::OpCode, mask::Masked};

/// The kind of payload that a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    /// UTF-8, which is checked byte by byte as it arrives.
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
    /// A Ping, to be answered by a Pong with the same payload.
    Ping(&'a [u8]),
    /// A Pong, either unsolicited or the answer to a Ping.
    Pong(&'a [u8]),
    /// A Close, with its code and reason if it has any. The decoder reports nothing after it.
    Close(Option<(u16, &'a str)>),
}

/// Receives the output of a [`Decoder`](super::Decoder).
///
/// A message is passed in one call of [`message`](Sink::message), or in one call of
/// [`begin`](Sink::begin), any number of calls of [`payload`](Sink::payload) and one of
/// [`end`](Sink::end). Control frames come where the peer put them. An error of any method ends the
/// decoding for good.
pub(crate) trait Sink {
    /// An error of the sink itself, or of the peer.
    type Error: From<FrameError>;

    /// Starts a message.
    fn begin(&mut self, kind: MessageKind) -> Result<(), Self::Error>;

    /// Returns how many payload bytes of the current message the sink can take now.
    ///
    /// The number may depend on earlier bytes, so the decoder asks before every piece. 0 pauses the
    /// decoder.
    fn room(&mut self) -> usize;

    /// Takes the next bytes of the current message. There is at least one, and there are at most as
    /// many as [`room`](Sink::room) has just returned.
    fn payload(&mut self, piece: Masked<'_>) -> Result<(), Self::Error>;

    /// Ends the current message.
    fn end(&mut self) -> Result<(), Self::Error>;

    /// Takes a whole message in one step. It has 1 to 125 bytes in one frame, and its text is
    /// already checked.
    ///
    /// Returns `false` if there is no room for all of it. The sink must not have taken anything
    /// then, and the decoder calls `begin` instead.
    fn message(&mut self, kind: MessageKind, piece: Masked<'_>) -> Result<bool, Self::Error>;

    /// Takes a control frame, which may come between the fragments of a message. The sink cannot
    /// postpone it.
    fn control(&mut self, control: Control<'_>) -> Result<(), Self::Error>;
}
