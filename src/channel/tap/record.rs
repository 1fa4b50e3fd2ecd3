//! What a tap tells of a session.

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::EndCause;

/// One thing that a [`Tap`](crate::tap::Tap) has seen.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Record {
    /// Bytes that the service had or said.
    Payload(Payload),
    /// The last record of a session.
    End(End),
}

/// Bytes of one channel: decoded, and in the pieces in which the service took or
/// wrote them.
///
/// An empty read or message is none.
#[derive(Clone)]
#[non_exhaustive]
pub struct Payload {
    /// The number of the channel.
    pub channel: u8,
    /// Who sent the bytes.
    pub direction: Direction,
    /// When the service took them, or had them accepted. Never before that of the
    /// record before it.
    pub time: Instant,
    /// The bytes. Where the service has them as `Bytes` itself, the same memory.
    pub bytes: Bytes,
    /// What was lost between the record before this one and this one.
    pub lost: Lost,
}

/// The end of a session: it is over, and nobody is left who could read or write.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct End {
    /// Why the session ended, as [`Session::ended`](crate::Session::ended) tells it.
    pub cause: EndCause,
    /// What was lost behind the last payload.
    pub lost: Lost,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer to the service.
    Inbound,
    /// From the service to the peer.
    Outbound,
}

/// What a tap has not recorded, because its queue was full
/// ([`Overflow::Lossy`](crate::tap::Overflow)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// So many payloads.
    pub payloads: u64,
    /// The bytes in them.
    pub bytes: u64,
}

impl Lost {
    pub(super) fn count(&mut self, len: usize) {
        self.payloads += 1;
        self.bytes = self.bytes.saturating_add(len as u64);
    }
}

/// Shows how many bytes there are, and none of them: they may be a password.
impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Payload")
            .field("channel", &self.channel)
            .field("direction", &self.direction)
            .field("time", &self.time)
            .field("len", &self.bytes.len())
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}
