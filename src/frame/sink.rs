use super::{error::FrameError, header::OpCode, mask::Masked};

/// What kind of payload a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    /// Checked to be UTF-8, byte by byte as it streams.
    Text,
    /// Anything.
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

/// A control frame, its payload unmasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    /// To be answered with a Pong of the same payload.
    Ping(&'a [u8]),
    /// The answer to a Ping, or unasked.
    Pong(&'a [u8]),
    /// Code and reason, if the frame has any. The last thing a decoder reports.
    Close(Option<(u16, &'a str)>),
}

/// Takes what a [`Decoder`](super::Decoder) finds.
///
/// A message arrives either as one [`message`](Sink::message), or as one
/// [`begin`](Sink::begin), any number of [`payload`](Sink::payload) and one
/// [`end`](Sink::end), with control frames wherever the peer put them. An error
/// from any method ends the decoding for good.
pub(crate) trait Sink {
    /// The sink's own failures, and the peer's.
    type Error: From<FrameError>;

    /// A message starts.
    fn begin(&mut self, kind: MessageKind) -> Result<(), Self::Error>;

    /// How many payload bytes of the current message can be taken now.
    ///
    /// It may depend on the bytes that came before, and is asked again before
    /// every piece. 0 pauses the decoder.
    fn room(&mut self) -> usize;

    /// The next bytes of the current message: at least one, and at most as many
    /// as [`room`](Sink::room) has just reported.
    fn payload(&mut self, piece: Masked<'_>) -> Result<(), Self::Error>;

    /// The current message is over.
    fn end(&mut self) -> Result<(), Self::Error>;

    /// A whole message in one step: unfragmented, 1 to 125 bytes, text already
    /// checked.
    ///
    /// `false` means that there is no room for all of it and nothing was taken:
    /// the decoder then goes through `begin`.
    fn message(&mut self, kind: MessageKind, piece: Masked<'_>) -> Result<bool, Self::Error>;

    /// A control frame. It comes between the fragments of a message where the
    /// peer has put it there, and cannot be put off.
    fn control(&mut self, control: Control<'_>) -> Result<(), Self::Error>;
}
