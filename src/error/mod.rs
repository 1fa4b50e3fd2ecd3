//! Why a session ended, and how errors are looked into and shown.
//!
//! Imports only `unwind` and `close_reason`: every other module may name an [`EndCause`].

mod end_cause;
mod report;

pub use self::end_cause::EndCause;
#[cfg(any(feature = "portforward", feature = "remotecommand"))]
pub(crate) use self::report::text;
pub(crate) use self::report::{Report, chain};

/// A boxed error, as tower's middleware uses it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
