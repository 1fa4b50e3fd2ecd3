//! Layers that decide who gets a session.
//!
//! | file | where it belongs | what it decides |
//! |---|---|---|
//! | `bearer` | outside of `WsStreamLayer`, outermost | where a browser's token goes |
//! | `intent` | outside, before authorisation | what kind of upgrade a request asks for |
//! | `admission::limit` | inside | how many sessions of one user there may be |
//! | `admission::permits` | inside | the same, over sessions of different kinds |
//! | `admission::rate` | inside | how many sessions may begin in a time |

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
