use std::time::Duration;

/// The time that kubectl may need between its first Pong and the setup of its streams.
const SETTLE: Duration = Duration::from_millis(20);

/// The longest time that output is held. A client that never answers a Ping loses a quarter of
/// a second once.
const AT_MOST: Duration = Duration::from_millis(250);

/// How long a session holds its output, at the most until the peer is known to read.
///
/// kubectl up to 1.33 drops messages that arrive before it has set up its streams, which costs
/// 1 to 2 % of short commands their output or exit code. With
/// [`Session::hold_output`](crate::Session::hold_output) the session sends a Ping right behind
/// the 101, and releases its output as soon as there is proof that the client reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub(crate) settle: Duration,
    pub(crate) at_most: Duration,
}

impl Default for Hold {
    /// Holds until the peer reads, with the times that an unmodified kubectl needs: 20 ms to
    /// settle, and 250 ms at most.
    fn default() -> Self {
        Self::until_peer_reads(SETTLE, AT_MOST)
    }
}

impl Hold {
    /// Holds output until the client's first data message (a CLOSE counts), or until `settle`
    /// after its first Pong, but no longer than `at_most` after the upgrade.
    ///
    /// A Pong proves that the client's read loop runs. `settle` is the time that the client may
    /// need beyond that to be ready for data.
    pub fn until_peer_reads(settle: Duration, at_most: Duration) -> Self {
        Self { settle, at_most }
    }
}
