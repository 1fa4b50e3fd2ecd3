use bytes::Bytes;

use crate::session::CloseReason;

/// What the client received.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A message of a channel, decoded; of channel 0 where messages name none.
    Message(u8, Bytes),
    /// A message of a base64 subprotocol that is not base64.
    Invalid,
    /// A Close frame.
    Closed {
        /// Its code, if it had one.
        code: Option<u16>,
        /// Its reason; empty where it had none.
        reason: CloseReason,
    },
    /// The connection ended without a Close frame, or after it.
    Lost,
}
