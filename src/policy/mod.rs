//! What an operator may choose about a session's time and size, as decisions over
//! an `Instant` that is handed in: no socket, no clock, no task.

mod byte_rate;
mod idle;
mod keep_alive;
mod layer;
mod limits;
mod origin;
mod pause;
mod session;
mod time_limit;
mod timers;

pub(crate) use self::{
    byte_rate::Bucket,
    idle::Idle,
    keep_alive::{Beat, Beats},
    layer::Sealed,
    pause::Pause,
    session::SessionPolicy,
    timers::after,
};
pub use self::{
    byte_rate::ByteRate,
    idle::IdleTimeout,
    keep_alive::KeepAlive,
    layer::{IdleTimeoutLayer, Policy, PolicyLayer, PolicyService},
    limits::Limits,
    origin::OriginPolicy,
    time_limit::{TimeLimit, ValidUntil},
};
