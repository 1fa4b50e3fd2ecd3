//! Layers that decide who gets a session.
//!
//! | file | where it belongs | what it decides |
//! |---|---|---|
//! | `rate` | inside of `WsStreamLayer` | how many sessions may begin in a time |

mod rate;

pub use self::rate::{SessionRateLimit, SessionRateLimitFuture, SessionRateLimitLayer};
