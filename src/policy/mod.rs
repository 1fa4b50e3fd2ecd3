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
//!
//! # Examples
//!
//! The settings of a layer, others for one route, and others again for one user:
//!
//! ```
//! use std::time::Duration;
//!
//! use http::Request;
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, ChannelProtocols, ChannelSet, ChannelType, SessionConfig, WsStreamLayer,
//!     policy::{ByteRate, IdleTimeout, IdleTimeoutLayer, KeepAlive, Limits, OriginPolicy, PolicyLayer},
//! };
//!
//! async fn session(channels: ChannelSet) -> Result<(), BoxError> {
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), tower_wsstream::ConfigError> {
//! let minutes = |n: u64| Duration::from_secs(n * 60);
//! let config = SessionConfig::default()
//!     .idle_timeout(minutes(60))
//!     .time_limit(minutes(8 * 60))
//!     .keep_alive(KeepAlive::every(minutes(1)))
//!     .limits(Limits::default().stall_reserve(1 << 20))
//!     .origin(OriginPolicy::allow_list(["https://console.example.com"])?);
//! config.check()?;
//!
//! let protocols = ChannelProtocols::standard([ChannelType::ReadWrite])?;
//! let sessions = ServiceBuilder::new()
//!     .layer(WsStreamLayer::new(protocols).config(config))
//!     .service_fn(session);
//! // This route is for visitors.
//! let visitors = ServiceBuilder::new()
//!     .layer(PolicyLayer::new(ByteRate::default().outbound(1 << 20)))
//!     .layer(IdleTimeoutLayer::new(minutes(5)))
//!     .service(sessions);
//!
//! // A layer that knows the user, between the two, decides for this request alone.
//! fn admit<B>(request: &mut Request<B>, is_operator: bool) {
//!     if is_operator {
//!         request.extensions_mut().insert(IdleTimeout(None));
//!     }
//! }
//! # let _ = (visitors, admit::<()>);
//! # Ok(())
//! # }
//! ```

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
