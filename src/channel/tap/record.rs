//! The records of a tap.

use std::fmt;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::EndCause;

/// One event that a [`Tap`](crate::channel::tap::Tap) has recorded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// Bytes that the service read or wrote.
    Payload(Payload),
    /// The last record of a session.
    End(End),
}

/// Decoded bytes of one channel, in the pieces in which the service read or wrote them.
///
/// An empty read or message has no record.
#[derive(Clone)]
#[non_exhaustive]
pub struct Payload {
    /// The number of the channel.
    pub channel: u8,
    /// The direction of the bytes.
    pub direction: Direction,
    /// The time when the service took the bytes, or when they were accepted. It is never earlier
    /// than that of the previous record.
    pub time: Instant,
    /// The bytes. The memory is shared with the service if it handles them as `Bytes` too.
    pub bytes: Bytes,
    /// Payloads that were lost between the previous record and this one.
    pub lost: Lost,
}

/// The end of a session: it is over, and no handle is left that could read or write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// The cause of the session's end, as [`Session::ended`](crate::Session::ended) returns it.
    pub cause: EndCause,
    /// Payloads that were lost after the last record.
    pub lost: Lost,
}

/// The direction in which bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer to the service.
    Inbound,
    /// From the service to the peer.
    Outbound,
}

/// The number of payloads that a tap did not record because its queue was full
/// ([`Overflow::Lossy`](crate::channel::tap::Overflow)).
///
/// # Examples
///
/// ```
/// use tower_wsstream::channel::tap::{Lost, Record};
///
/// /// The note that a recording needs where something is missing.
/// fn gap(record: &Record) -> Option<String> {
///     let lost = match record {
///         Record::Payload(it) => it.lost,
///         Record::End(end) => end.lost,
///         _ => Lost::default(),
///     };
///     (lost != Lost::default()).then(|| format!("[{} bytes are missing]", lost.bytes))
/// }
/// # let _ = gap;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// The number of payloads.
    pub payloads: u64,
    /// The number of bytes in them.
    pub bytes: u64,
}

impl Lost {
    pub(super) fn count(&mut self, len: usize) {
        self.payloads += 1;
        self.bytes = self.bytes.saturating_add(len as u64);
    }
}

/// Shows the number of bytes instead of the bytes, which may be a password.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload")
            .field("channel", &self.channel)
            .field("direction", &self.direction)
            .field("time", &self.time)
            .field("len", &self.bytes.len())
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}
