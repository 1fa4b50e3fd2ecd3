//! An operator's choices about a session's time and size, as decisions over
//! an `Instant` that is handed in: no socket, no clock, no task.

mod byte_rate;
mod deadlines;
mod keep_alive;
mod layer;
mod limits;
mod origin;
mod pause;
mod session;
mod time;

pub(crate) use self::{
    byte_rate::Bucket,
    deadlines::{Clock, Deadline, Deadlines},
    keep_alive::Beats,
    layer::Sealed,
    pause::PAUSE_INTERVAL,
    session::SessionPolicy,
    time::after,
};
pub use self::{
    byte_rate::ByteRate,
    keep_alive::KeepAlive,
    layer::{IdleTimeoutLayer, Policy, PolicyLayer, PolicyService},
    limits::Limits,
    origin::OriginPolicy,
    time::{IdleTimeout, TimeLimit, ValidUntil},
};
