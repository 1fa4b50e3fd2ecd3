//! Refusals: why a request gets no session, and the answer that says so.
//!
//! | file | noun |
//! |---|---|
//! | `rejection` | the type, which users build and read |
//! | `refusals` | every refusal of our own: text, status, headers |
//! | `known` | the errors that stand for a refusal or for the end of a session |
//! | `answer` | a refusal as an HTTP response, by version |

mod answer;
pub(crate) mod known;
mod refusals;
mod rejection;

#[cfg(test)]
mod tests;

pub use self::rejection::{Rejection, RejectionKind};
