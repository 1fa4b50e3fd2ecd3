//! What writers, mux and driver share.

mod chunk;
mod control;
mod outbox;
mod pipe;
mod reserve;
mod shared;
mod stock;
mod traffic;
mod transport;
mod turn;

pub use self::traffic::Traffic;
pub(crate) use self::{
    chunk::{CHUNK, Chunk},
    outbox::Format,
    pipe::{End, Take, fill},
    reserve::{StallReserve, TotalReserve},
    shared::{Progress, Shared, WRITE_CUT, WireConfig},
    transport::{ReadHalf, Transport},
    turn::Turn,
};
#[cfg(feature = "__bench")]
pub(crate) use self::{
    outbox::{FLUSH, Outbox},
    pipe::Pipe,
};
