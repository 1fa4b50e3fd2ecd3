//! The cause of a session's end, and helpers that inspect errors and format them.
//!
//! This module imports only `unwind` and `close_reason`, so that every other module can name an
//! [`EndCause`].

mod boxed;
mod end_cause;
mod report;

#[cfg(any(feature = "portforward", feature = "remotecommand"))]
pub(crate) use self::report::text;
pub(crate) use self::report::{Report, chain};
pub use self::{boxed::BoxError, end_cause::EndCause};
