use std::ops::AddAssign;

/// What went one way: payload as the service has it, decoded and without channel bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages; one in fragments is one.
    pub messages: u64,
    /// Bytes of their payload.
    pub bytes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}
