//! Layers that decide which requests get a session.
//!
//! | layer | position | decides |
//! |---|---|---|
//! | [`BearerSubprotocolLayer`] | outermost, outside of [`WsStreamLayer`](crate::WsStreamLayer) | moves a browser's token from the subprotocols to the `Authorization` header |
//! | [`UpgradeIntentLayer`] | outside, before authorisation | tells authorisation which kind of [upgrade](UpgradeIntent) a request asks for |
//! | [`SessionLimitLayer`] | inside | how many sessions a user, or another key, may have at once |
//! | [`SessionPermits`] | inside | the limit of a [`SessionLimitLayer`], shared by sessions of different kinds |
//! | [`SessionRateLimitLayer`] | inside | how many sessions may begin in a window of time |
//!
//! The two limits are one service, [`Admission`], over different rules. Both refuse with 429 before
//! the upgrade. The guide has a [table](crate::guide::layers#which-side-of-the-layer) of these and
//! of tower's own layers, and the order that they belong in. Which web pages may connect is set by
//! an [`OriginPolicy`](crate::policy::OriginPolicy).

mod admission;
mod bearer;
mod intent;

pub use self::{
    admission::{
        Admission, AdmissionFuture, SessionLimit, SessionLimitFuture, SessionLimitLayer,
        SessionPermit, SessionPermits, SessionRateLimit, SessionRateLimitFuture,
        SessionRateLimitLayer,
    },
    bearer::{BearerSubprotocol, BearerSubprotocolFuture, BearerSubprotocolLayer},
    intent::{UpgradeIntent, UpgradeIntentLayer, UpgradeIntentService},
};
