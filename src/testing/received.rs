use bytes::Bytes;

use crate::session::CloseReason;

/// A message that the client received, or the end of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Received {
    /// A decoded message, with the number of its channel, which is 0 if messages have none.
    Message(u8, Bytes),
    /// A message of a base64 subprotocol that is not valid base64.
    Invalid,
    /// A Close frame.
    Closed {
        /// The code of the frame, if it had one.
        code: Option<u16>,
        /// The reason of the frame, which is empty if it had none.
        reason: CloseReason,
    },
    /// The connection ended without a Close frame, or after it.
    Lost,
}
