use std::ops::AddAssign;

/// The amount of data in one direction, counted as payload: decoded, and without channel bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// The number of messages. A fragmented message counts once.
    pub messages: u64,
    /// The number of bytes of payload.
    pub bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}
