//! From the writers to the transport: one queue behind one lock.

mod control;
mod queue;
mod shared;

#[cfg(feature = "__bench")]
pub(crate) use self::queue::{FLUSH, Outbox};
pub(crate) use self::shared::{Progress, Shared, WRITE_CUT, WireConfig};
