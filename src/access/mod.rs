//! Layers that decide who gets a session.
//!
//! | file | where it belongs | what it decides |
//! |---|---|---|
//! | `origin` | outside | whose pages may connect, for a route |
//! | `rate` | inside | how many sessions may begin in a time |

mod origin;
mod rate;

pub use self::{
    origin::{OriginPolicyLayer, OriginPolicyService},
    rate::{SessionRateLimit, SessionRateLimitFuture, SessionRateLimitLayer},
};
