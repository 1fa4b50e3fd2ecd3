use std::time::Duration;

/// The time that kubectl may need to set up its streams after its first Pong.
const SETTLE: Duration = Duration::from_millis(20);

/// The longest time for which output is held. A client that never answers a Ping is delayed by a
/// quarter of a second once.
const AT_MOST: Duration = Duration::from_millis(250);

/// The rule for releasing output that a session holds.
///
/// kubectl up to 1.33 drops messages that arrive before it has set up its streams. This costs 1 to
/// 2 % of short commands their output or exit code. With
/// [`Session::hold_output`](crate::Session::hold_output), the session sends a Ping right after the
/// 101, and releases its output as soon as there is proof that the client reads.
///
/// # Examples
///
/// A service that talks first, to clients that may not be ready:
///
/// ```
/// use std::time::Duration;
/// use tokio::io::AsyncWriteExt;
/// use tower_wsstream::{BoxError, ChannelSet, session::Hold};
///
/// async fn greet(mut channels: ChannelSet) -> Result<(), BoxError> {
///     let (settle, at_most) = (Duration::from_millis(50), Duration::from_secs(1));
///     channels.session().hold_output(Hold::until_peer_reads(settle, at_most));
///     let mut out = channels.take_writer(1).ok_or("no channel 1")?;
///     out.write_all(b"hello").await?;
///     Ok(())
/// }
/// # let _ = greet;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    pub(crate) settle: Duration,
    pub(crate) at_most: Duration,
}

impl Default for Hold {
    /// Holds output until the peer reads, with the times that an unmodified kubectl needs: 20 ms to
    /// settle, and 250 ms at most.
    fn default() -> Self {
        Self::until_peer_reads(SETTLE, AT_MOST)
    }
}

impl Hold {
    /// Holds output until the client's first data message, or until `settle` after its first Pong,
    /// but no longer than `at_most` after the upgrade.
    ///
    /// The CLOSE of a channel is a data message, too. A Pong proves that the client's read loop is
    /// running. `settle` is the time that the client may need after that until it is ready for data.
    pub fn until_peer_reads(settle: Duration, at_most: Duration) -> Self {
        Self { settle, at_most }
    }
}
