//! What writers, mux and driver share.

mod control;
mod outbox;
mod pipe;
mod reserve;
mod shared;
mod stock;
mod transport;
mod turn;

pub(crate) use self::{
    outbox::Format,
    pipe::{Chunk, End, Take, fill},
    reserve::{StallReserve, TotalReserve},
    shared::{Progress, Shared, WireConfig},
    transport::{ReadHalf, Transport},
    turn::Turn,
};
