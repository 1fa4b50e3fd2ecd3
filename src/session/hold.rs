use std::time::Duration;

/// Keeps a session's output back until its peer is seen to read.
///
/// kubectl up to 1.33 drops messages that arrive before it has set up its
/// streams, which costs some 1 to 2 % of short commands their output or exit
/// code. With [`Session::hold_output`](crate::Session::hold_output) the session
/// sends a Ping right behind the 101 and lets go of its output as soon as
/// there is proof that the client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub(crate) settle: Duration,
    pub(crate) at_most: Duration,
}

impl Hold {
    /// Holds until the client's first data message (a CLOSE counts), or until
    /// `settle` after its first Pong, but not longer than `at_most` after the
    /// upgrade.
    ///
    /// A Pong proves that the client's read loop runs; `settle` is what it may
    /// need beyond that to be ready for data.
    pub fn until_peer_reads(settle: Duration, at_most: Duration) -> Self {
        Self { settle, at_most }
    }
}
