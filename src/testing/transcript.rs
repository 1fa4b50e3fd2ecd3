use bytes::Bytes;

use crate::{Status, session::CloseReason};

/// Everything that [`Client::read_to_end`](super::Client::read_to_end) received.
///
/// It does not contain messages that [`receive`](super::Client::receive) returned before.
///
/// # Examples
///
/// ```
/// use tower_wsstream::testing::Transcript;
///
/// /// The answers that a test of a command usually wants.
/// fn succeeded(told: &Transcript) -> bool {
///     told.exit_code() == Some(0) && told.close_code == Some(1000) && told.channel(2).is_empty()
/// }
/// # assert!(!succeeded(&Transcript::default()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transcript {
    /// The decoded messages in order, including empty ones such as the ready message of exec
    /// and attach.
    pub messages: Vec<(u8, Bytes)>,
    /// The number of messages that could not be decoded.
    pub invalid: usize,
    /// Set if a Close frame arrived.
    pub closed: bool,
    /// The code of the Close frame, if it had one.
    pub close_code: Option<u16>,
    /// The reason of the Close frame, which is empty if it had none.
    pub close_reason: CloseReason,
}

impl Transcript {
    /// Returns the bytes of all messages on one channel.
    pub fn channel(&self, channel: u8) -> Vec<u8> {
        let messages = self.messages.iter().filter(|(id, _)| *id == channel);
        messages.flat_map(|(_, payload)| payload).copied().collect()
    }

    /// Returns the Status on the error channel of v4 and v5.
    pub fn status(&self) -> Option<Status> {
        Status::from_json(&self.channel(3)).ok()
    }

    /// Returns the exit code in the Status.
    pub fn exit_code(&self) -> Option<u8> {
        self.status()?.exit_code()
    }
}
