//! From the driver to the readers: a queue for each channel, and what they may take beyond
//! their windows.

mod chunk;
mod front;
mod pipe;
mod reserve;

pub(crate) use self::{
    chunk::{CHUNK, Chunk},
    front::Inbound,
    pipe::{End, Pipe, Take, fill},
    reserve::{StallReserve, TotalReserve},
};
