//! From the writers to the transport: one queue behind one lock.

mod control;
mod outbound;
mod queue;

pub(crate) use self::outbound::{Outbound, Progress, WRITE_CUT, WireConfig};
#[cfg(feature = "__bench")]
pub(crate) use self::queue::{FLUSH, Outbox};
