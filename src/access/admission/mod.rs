//! Limits on the sessions that are open at once, and on those that begin in a window of time.
//!
//! | file | what is in it |
//! |---|---|
//! | `limit` | the layer and the rule for sessions at once, by key |
//! | `rate` | the layer and the rule for sessions that begin in a window of time |
//! | `permits` | a limit shared by sessions of different kinds, and its permit |
//! | `held` | the count of permits that each key holds |
//! | `window` | the count of sessions that began in a window |
//! | `service`, `future` | the service and the future of both layers, and the trait of their rules |

mod future;
mod held;
mod limit;
mod permits;
mod rate;
mod service;
mod window;

pub use self::{
    future::AdmissionFuture,
    limit::{PerKey, SessionLimit, SessionLimitFuture, SessionLimitLayer},
    permits::{SessionPermit, SessionPermits},
    rate::{Rate, SessionRateLimit, SessionRateLimitFuture, SessionRateLimitLayer},
    service::{Admission, Admit},
};
