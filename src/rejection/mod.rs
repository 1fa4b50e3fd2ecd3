//! Refusals: why a request gets no session, and the answer that says so.

#[allow(
    clippy::module_inception,
    reason = "the folder has other files about its one noun"
)]
mod rejection;

pub use self::rejection::{Rejection, RejectionKind};
