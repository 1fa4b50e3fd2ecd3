//! Refusals of a request before the upgrade, and the answers that they become.
//!
//! | file | contents |
//! |---|---|
//! | `rejection` | the type, which users build and read |
//! | `refusals` | every refusal of our own: text, status, headers |
//! | `known` | the errors that stand for a refusal or for the end of a session |
//! | `answer` | the HTTP response of a refusal, by version |

mod answer;
pub(crate) mod known;
mod refusals;
mod rejection;

#[cfg(test)]
mod tests;

pub(crate) use self::refusals::UpgradeTo;
pub use self::rejection::{Rejection, RejectionKind};
