use bytes::Bytes;

use crate::session::CloseReason;

/// A message that the client received, or the end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A decoded message of a channel; of channel 0 if messages name no channel.
    Message(u8, Bytes),
    /// A message of a base64 subprotocol that is not valid base64.
    Invalid,
    /// A Close frame.
    Closed {
        /// Its code, if it had one.
        code: Option<u16>,
        /// Its reason; empty if it had none.
        reason: CloseReason,
    },
    /// The connection ended without a Close frame, or after it.
    Lost,
}
