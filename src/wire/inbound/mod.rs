//! The way from the driver to the readers: a pipe for each channel, and a reserve for windows that
//! stay full for a long time.

mod chunk;
mod inbound;
#[cfg(all(test, wsstream_loom))]
mod interleavings;
mod pipe;
mod reserve;
#[cfg(feature = "spdy")]
mod slots;

#[cfg(feature = "__bench")]
pub(crate) use self::pipe::Pipe;
pub(crate) use self::{
    chunk::{CHUNK, Chunk},
    inbound::Inbound,
    pipe::{End, Take, fill},
    reserve::{StallReserve, TotalReserve},
};
