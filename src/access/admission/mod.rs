//! Limits on how many sessions there may be, and on how many may begin in a time.
//!
//! | file | what is in it |
//! |---|---|
//! | `limit` | the layer for sessions at once, by key |
//! | `rate` | the layer for sessions that begin in a window of time |
//! | `permits` | one limit over sessions of different kinds, and its permit |
//! | `held` | how many permits each key holds |
//! | `window` | how many sessions a window still admits |
//! | `service`, `future` | the service and the future of both layers |

mod future;
mod held;
mod limit;
mod permits;
mod rate;
mod service;
mod window;

pub use self::{
    future::AdmissionFuture,
    limit::{SessionLimit, SessionLimitFuture, SessionLimitLayer},
    permits::{SessionPermit, SessionPermits},
    rate::{SessionRateLimit, SessionRateLimitFuture, SessionRateLimitLayer},
    service::Admission,
};
