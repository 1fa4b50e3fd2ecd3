//! Layers that decide which requests get a session.
//!
//! | type | position | what it does |
//! |---|---|---|
//! | [`BearerSubprotocolLayer`] | outermost, outside of [`WsStreamLayer`](crate::WsStreamLayer) | moves a browser's token from the subprotocols to the `Authorization` header |
//! | [`UpgradeIntentLayer`] | outside, before authorisation | tells authorisation which kind of [upgrade](UpgradeIntent) a request asks for |
//! | [`SessionLimitLayer`] | inside | limits how many sessions a user, or another key, may have at once |
//! | [`SessionPermits`] | inside | shares the limit of a [`SessionLimitLayer`] among sessions of different kinds |
//! | [`SessionRateLimitLayer`] | inside | limits how many sessions may begin in a window of time |
//!
//! Both limits use one service, [`Admission`], with different rules, [`PerKey`] and [`Rate`]. They
//! refuse with 429 before the upgrade. The guide has a
//! [table](crate::guide::layers#which-side-of-the-layer) of these layers and tower's own, and the
//! [order](crate::guide::layers#the-order-inside) in which they belong. An
//! [`OriginPolicy`](crate::policy::OriginPolicy) decides which web pages may connect.
//!
//! # Examples
//!
//! A server for browsers: who may begin a session is decided outside, before the upgrade; how many may be
//! open, and begin, is counted inside.
//!
//! ```
//! use std::time::Duration;
//!
//! use tower::ServiceBuilder;
//! use tower_wsstream::{
//!     BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer,
//!     access::{
//!         BearerSubprotocolLayer, SessionLimitLayer, SessionRateLimitLayer, UpgradeIntentLayer,
//!     },
//! };
//!
//! /// Inserted into the request's extensions by the layer that checks tokens.
//! #[derive(Clone, PartialEq, Eq, Hash)]
//! struct User(String);
//!
//! async fn session(channels: ChannelSet) -> Result<(), BoxError> {
//!     Ok(())
//! }
//!
//! # fn main() -> Result<(), tower_wsstream::ConfigError> {
//! let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
//! let service = ServiceBuilder::new()
//!     .layer(BearerSubprotocolLayer::new())
//!     .layer(UpgradeIntentLayer::new())
//!     // Authentication and authorisation go here.
//!     .layer(WsStreamLayer::new(protocols))
//!     .load_shed()
//!     .layer(SessionLimitLayer::new(4, |channels: &ChannelSet| {
//!         channels.request()?.extensions.get::<User>().cloned()
//!     }))
//!     .layer(SessionRateLimitLayer::new(20, Duration::from_secs(1)))
//!     .concurrency_limit(64)
//!     .service_fn(session);
//! # let _ = service;
//! # Ok(())
//! # }
//! ```

mod admission;
mod bearer;
mod intent;

pub use self::{
    admission::{
        Admission, AdmissionFuture, Admit, PerKey, Rate, SessionLimit, SessionLimitFuture,
        SessionLimitLayer, SessionPermit, SessionPermits, SessionRateLimit, SessionRateLimitFuture,
        SessionRateLimitLayer,
    },
    bearer::{BearerSubprotocol, BearerSubprotocolFuture, BearerSubprotocolLayer},
    intent::{UpgradeIntent, UpgradeIntentLayer, UpgradeIntentService},
};
