//! What an operator may choose about time, as decisions over an `Instant`
//! that is handed in: no socket, no clock, no task.

mod idle;
mod keep_alive;
mod layers;
mod pause;
mod timers;

pub(crate) use self::{
    idle::Idle,
    keep_alive::{Beat, Beats},
    pause::Pause,
    timers::after,
};
pub use self::{
    idle::IdleTimeout,
    keep_alive::KeepAlive,
    layers::{IdleTimeoutLayer, IdleTimeoutService},
};
