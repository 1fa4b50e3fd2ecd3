//! RFC 6455 framing, without I/O and without an allocation per frame.
//!
//! | module | what it does | RFC 6455 |
//! |---|---|---|
//! | [`header`] | reads the head of a frame, strictly | 5.2 |
//! | [`mask`] | payload bytes that are still masked, unmasked while they are copied | 5.3 |
//! | [`utf8`] | checks text as it streams, across pieces and fragments | 8.1 |
//! | [`decoder`] | bytes in, messages and control frames out | 5.4, 5.5 |
//! | [`sink`] | receives the output of the decoder | |
//! | [`encoder`] | heads of the frames that we send | 5.2 |
//! | [`close`] | the payload of a Close frame, both ways | 5.5.1, 7.4 |
//! | [`error`] | a fault of the peer | 7.4.1 |
//!
//! An engine that works message by message has to buffer a whole message before
//! its first byte can be used. Here a payload is passed on in the pieces in which
//! it arrived, so memory is bounded by the room of the sink and not by the length
//! that a header announces.
//!
//! Nothing in here shares code with tungstenite, which makes that a fair oracle:
//! `differential` feeds the same bytes to both.

mod close;
mod decoder;
mod encoder;
mod error;
mod header;
mod mask;
mod sink;
mod utf8;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod fixture;

pub(crate) use self::{
    close::{ClosePayload, close_payload, is_valid_close_code},
    decoder::Decoder,
    encoder::{frame_head, head_len, read_frame_len},
    error::FrameError,
    header::{OpCode, Role},
    mask::Masked,
    sink::{Control, MessageKind, Sink},
};
