//! Layers that decide who gets a session.
//!
//! | file | where it belongs | what it decides |
//! |---|---|---|
//! | `bearer` | outside of `WsStreamLayer`, outermost | where a browser's token goes |
//! | `intent` | outside, before authorisation | what kind of upgrade a request asks for |
//! | `origin` | outside | whose pages may connect, for a route |
//! | `limit` | inside | how many sessions of one user there may be |
//! | `permits` | inside | the same, over sessions of different kinds |
//! | `rate` | inside | how many sessions may begin in a time |

mod bearer;
mod intent;
mod limit;
mod origin;
mod permits;
mod rate;

pub use self::{
    bearer::{BearerSubprotocol, BearerSubprotocolFuture, BearerSubprotocolLayer},
    intent::{UpgradeIntent, UpgradeIntentLayer, UpgradeIntentService},
    limit::{SessionLimit, SessionLimitFuture, SessionLimitLayer},
    origin::{OriginPolicyLayer, OriginPolicyService},
    permits::{SessionPermit, SessionPermits},
    rate::{SessionRateLimit, SessionRateLimitFuture, SessionRateLimitLayer},
};
