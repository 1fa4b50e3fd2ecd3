//! From the writers to the transport: one queue behind one lock.

mod attention;
mod control;
mod framing;
mod gate;
mod intake;
mod out;
mod outbound;
mod queue;
mod waiting;

#[cfg(feature = "__bench")]
pub(crate) use self::queue::{FLUSH, Outbox};
pub(crate) use self::{
    out::Progress,
    outbound::{Outbound, WRITE_CUT},
};
