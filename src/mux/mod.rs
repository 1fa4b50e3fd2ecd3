//! The demultiplexer, which turns pieces of messages into bytes of channels.
//!
//! It has no socket and no clock, and spawns nothing. Before every piece, the decoder asks how many
//! bytes there is room for. The answer 0 pauses reading, and is only given if the next payload byte
//! belongs to a channel that is full.
//!
//! `mux` chooses the channel of each message, and `inlet` fills the channel's pipe.

mod inlet;
mod mux;

#[cfg(test)]
mod tests;

#[cfg(feature = "spdy")]
pub(crate) use self::inlet::Inlet;
pub(crate) use self::mux::{Heard, Mux};
