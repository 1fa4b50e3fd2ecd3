//! The streams of a SPDY session: from frames to the pipes of channels, and to the service.
//!
//! | file | what it is |
//! |---|---|
//! | `handoff.rs` | connections to the service, and its verdicts back |

mod handoff;

pub(crate) use self::handoff::{Answer, Handoff, NewPair, NewPairs, handoff};

/// The most pairs of streams that are open at once. Each takes two channels, whose numbers are below
/// 254.
pub(crate) const MAX_PAIRS: usize = 127;
