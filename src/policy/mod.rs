//! Limits on a session's time, memory and speed, and the web pages that may open one.
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
//! session. [`PolicyLayer`] inserts it for a route. The layers of [`access`](crate::access) limit
//! the number of sessions.
//!
//! Internally, a policy decides from an `Instant` that its caller passes in. It has no socket, clock
//! or task of its own.

mod byte_rate;
mod deadlines;
mod keep_alive;
mod layer;
mod limits;
mod origin;
mod pause;
mod service;
mod session;
mod time;

pub(crate) use self::{
    byte_rate::Bucket,
    deadlines::{Clock, Deadline, Deadlines},
    keep_alive::Beats,
    layer::Sealed,
    pause::{INTERVALS_PER_PONG, PAUSE_INTERVAL},
    session::SessionPolicy,
    time::after,
};
pub use self::{
    byte_rate::ByteRate,
    keep_alive::KeepAlive,
    layer::{IdleTimeoutLayer, Policy, PolicyLayer},
    limits::Limits,
    origin::OriginPolicy,
    service::PolicyService,
    time::{IdleTimeout, TimeLimit, ValidUntil},
};
