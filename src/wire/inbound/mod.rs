//! From the driver to the readers: a queue for each channel, and what they may take beyond
//! their windows.

mod chunk;
mod front;
mod pipe;
mod reserve;

#[cfg(feature = "__bench")]
pub(crate) use self::pipe::Pipe;
pub(crate) use self::{
    chunk::{CHUNK, Chunk},
    front::Inbound,
    pipe::{End, Take, fill},
    reserve::{StallReserve, TotalReserve},
};
