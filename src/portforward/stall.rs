use std::time::Duration;

/// The treatment of a connection over SPDY whose data the service does not read.
///
/// SPDY as it is in use has no flow control. Once such a connection has filled its window and the
/// [stall reserve](crate::policy::Limits::stall_reserve) of the session, which is lent as fast as data
/// arrives, the session is not read any more, so all of its connections stand still.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use tower_wsstream::portforward::{Protocols, Stall};
///
/// // Before kubectl gives up on connections that it opens meanwhile.
/// let stall = Stall::ResetAfter(Duration::from_secs(20));
/// let protocols = Protocols::default().on_stall(stall);
/// # let _ = protocols;
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "spdy")))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stall {
    /// The session waits until the service reads. This is the default: no data is lost.
    ///
    /// The connection keeps its part of the reserve until then, or until the service drops its
    /// reader, even if the client has ended or reset the connection.
    #[default]
    Wait,
    /// The connection is reset if it has had data beyond its window for this long, and nothing of it
    /// was read meanwhile. It does not matter whether it holds up the session, or whether the client
    /// has ended it. The other connections continue. Its data that was not read is discarded, and
    /// reads and writes of its service fail.
    ///
    /// The time begins anew whenever something is read. With zero, a connection is reset as soon as
    /// its data goes beyond the window.
    ///
    /// Data counts as read in pieces of 16 KiB, in which room returns. A service that needs longer
    /// than this for such a piece is treated like one that does not read. If it has begun a piece, it
    /// can read the rest of that one before its reads fail.
    ///
    /// kubectl gives up after 30 seconds on connections that it opens during the stall, so a shorter
    /// time lets them through.
    ResetAfter(Duration),
}

impl Stall {
    pub(super) fn reset_after(self) -> Option<Duration> {
        match self {
            Self::Wait => None,
            Self::ResetAfter(time) => Some(time),
        }
    }
}
