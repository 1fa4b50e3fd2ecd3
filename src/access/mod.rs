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
