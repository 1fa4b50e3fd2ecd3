//! Framing of RFC 6455, without I/O and without an allocation per frame.
//!
//! | module | what it does | RFC 6455 |
//! |---|---|---|
//! | [`header`] | parses the head of a frame, strictly | 5.2 |
//! | [`mask`] | holds payload bytes that are unmasked while they are copied | 5.3 |
//! | [`utf8`] | checks text as it arrives, across pieces and fragments | 8.1 |
//! | [`decoder`] | turns bytes into messages and control frames | 5.4, 5.5 |
//! | [`sink`] | receives the output of the decoder | |
//! | [`encoder`] | writes the heads of the frames that we send | 5.2 |
//! | [`close`] | parses and builds the payload of a Close frame | 5.5.1, 7.4 |
//! | [`error`] | describes a fault of the peer | 7.4.1 |
//!
//! A decoder that works message by message has to buffer a whole message before its first byte can
//! be used. This one passes a payload on in the pieces in which it arrived, so memory is bounded by
//! the room of the sink and not by the length that a head announces.
//!
//! Nothing in here shares code with tungstenite, which therefore is a fair oracle: `differential`
//! feeds the same bytes to both. `splits` cuts each kind of frame at each byte.

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
#[cfg(any(test, feature = "__fuzz"))]
#[cfg_attr(not(test), allow(dead_code, reason = "most of it is for tests"))]
pub(crate) mod fixture;
#[cfg(test)]
mod splits;

#[cfg(feature = "spdy")]
pub(crate) use self::encoder::set_frame_len;
pub(crate) use self::{
    close::{ClosePayload, close_payload, is_valid_close_code},
    decoder::Decoder,
    encoder::{frame_head, head_len, read_frame_len},
    error::FrameError,
    header::{OpCode, Role},
    mask::Masked,
    sink::{Control, MessageKind, Sink},
};
