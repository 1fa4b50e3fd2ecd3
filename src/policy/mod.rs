//! Limits of a session's time, size and speed, and the web pages that may begin one.
//!
//! | policy | limits | for all sessions of a layer |
//! |---|---|---|
//! | [`IdleTimeout`] | the time without data | [`SessionConfig::idle_timeout`](crate::SessionConfig::idle_timeout) |
//! | [`TimeLimit`], [`ValidUntil`] | the time as a whole | [`SessionConfig::time_limit`](crate::SessionConfig::time_limit) |
//! | [`KeepAlive`] | the silence of a peer, by Pings | [`SessionConfig::keep_alive`](crate::SessionConfig::keep_alive) |
//! | [`Limits`] | the memory that a peer can make a session hold | [`SessionConfig::limits`](crate::SessionConfig::limits) |
//! | [`ByteRate`] | the bytes a second in each direction | [`SessionConfig::byte_rate`](crate::SessionConfig::byte_rate) |
//! | [`OriginPolicy`] | the pages that may connect | [`SessionConfig::origin`](crate::SessionConfig::origin) |
//!
//! Each of these types is a request extension as well, which overrides the layer's setting for one
//! session. [`PolicyLayer`] inserts it for a route. How many sessions there may be is decided by the
//! layers of [`access`](crate::access).
//!
//! Inside, policies are decisions over an `Instant` that they are given: they have no socket, clock
//! or task.

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
