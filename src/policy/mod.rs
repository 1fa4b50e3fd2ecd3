//! What an operator may choose about a session's time and size, as decisions over
//! an `Instant` that is handed in: no socket, no clock, no task.

mod byte_rate;
mod idle;
mod keep_alive;
mod layers;
mod limits;
mod pause;
mod session;
mod time_limit;
mod timers;

pub(crate) use self::{
    byte_rate::Bucket,
    idle::Idle,
    keep_alive::{Beat, Beats},
    layers::Sealed,
    pause::Pause,
    session::SessionPolicy,
    timers::after,
};
pub use self::{
    byte_rate::ByteRate,
    idle::IdleTimeout,
    keep_alive::KeepAlive,
    layers::{IdleTimeoutLayer, IdleTimeoutService, Policy, PolicyLayer, PolicyService},
    limits::Limits,
    time_limit::{TimeLimit, ValidUntil},
};
