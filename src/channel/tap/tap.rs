use std::{fmt, sync::Arc};

use super::{
    TapReader,
    records::{Overflow, Records},
};
use crate::channel::ChannelSet;

/// The default capacity of the queue. It is the size of a receive window, so that a short pause of
/// the reader does not stall the session.
const CAPACITY: usize = 256 * 1024;

/// One end of a recording. A [`TapLayer`](super::TapLayer) attaches it to a session, whose data
/// then arrives at the [`TapReader`] that was created with it.
///
/// If it is dropped without a session, its reader ends at once.
#[must_use = "a tap records nothing unless it is passed to a `TapLayer`"]
pub struct Tap {
    records: Arc<Records>,
}

impl Tap {
    /// Creates a tap and its reader, with a queue of 256 KiB.
    pub fn new(overflow: Overflow) -> (Self, TapReader) {
        Self::with_capacity(overflow, CAPACITY)
    }

    /// Creates a tap and its reader, with a queue of this many bytes; see the [module](super).
    /// It holds at least one record.
    pub fn with_capacity(overflow: Overflow, bytes: usize) -> (Self, TapReader) {
        let records = Arc::new(Records::new(overflow, bytes));
        let reader = TapReader::new(Arc::clone(&records));
        (Self { records }, reader)
    }

    /// Attaches the tap to the channels that are still in the set.
    pub(super) fn attach(self, channels: &mut ChannelSet) {
        channels.tap(&self.records);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.records.remove_source(None);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("records", &self.records)
            .finish()
    }
}
