use std::ops::AddAssign;

/// The data of one direction, counted as payload: decoded, and without channel bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Number of messages. One in fragments counts once.
    pub messages: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}
