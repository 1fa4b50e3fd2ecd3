//! How many sessions may be open, and how many may begin in a time.

mod limit;
mod permits;
mod rate;

pub use self::{
    limit::{SessionLimit, SessionLimitFuture, SessionLimitLayer},
    permits::{SessionPermit, SessionPermits},
    rate::{SessionRateLimit, SessionRateLimitFuture, SessionRateLimitLayer},
};
