//! The way from the writers to the transport: one queue behind one lock.

mod attention;
mod budget;
mod control;
mod cursor;
mod framing;
mod gate;
mod intake;
mod out;
mod outbound;
mod queue;
mod spent;
mod waiting;

#[cfg(feature = "__bench")]
pub(crate) use self::queue::{FLUSH, SendQueue};
pub(crate) use self::{
    intake::Condition,
    out::Progress,
    outbound::{Due, Outbound, WRITE_CUT},
};
