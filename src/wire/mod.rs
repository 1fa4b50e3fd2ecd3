//! The state that the user's handles and the driver share: an inbound pipe for each channel, one
//! outbound queue, and the turn that wakes the session's task.

#[cfg(test)]
pub(crate) mod fixture;
mod inbound;
mod outbound;
mod stock;
mod sync;
mod traffic;
mod transport;
mod turn;
mod wire;

pub use self::traffic::Traffic;
#[cfg(feature = "__bench")]
pub(crate) use self::{
    inbound::Pipe,
    outbound::{FLUSH, SendQueue},
};
pub(crate) use self::{
    inbound::{CHUNK, Chunk, End, StallReserve, Take, TotalReserve, fill},
    outbound::{Condition, Due, Progress, WRITE_CUT},
    transport::{ReadHalf, Transport},
    turn::Turn,
    wire::{Wire, WireConfig},
};
