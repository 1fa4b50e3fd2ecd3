//! The taps of a handle.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;

use super::{
    record::Direction,
    records::{Passing, Records},
};

/// A tap on one side of a channel, and the list of the other taps on the same side. There is one
/// for each layer.
pub(in crate::channel) struct Tapped {
    records: Arc<Records>,
    place: usize,
    channel: u8,
    direction: Direction,
    next: Option<Box<Tapped>>,
}

impl Tapped {
    /// Adds a tap to the front of the list.
    pub(in crate::channel) fn add(
        taps: &mut Option<Box<Self>>,
        records: &Arc<Records>,
        channel: u8,
        direction: Direction,
    ) {
        let next = taps.take();
        *taps = Some(Box::new(Self {
            records: Arc::clone(records),
            place: records.add_source(),
            channel,
            direction,
            next,
        }));
    }

    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |tap| tap.next.as_deref())
    }

    /// Waits until every tap has room. This reserves no room, so there is nothing to give back
    /// while it is pending.
    pub(in crate::channel) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut full = false;
        for tap in self.all() {
            full |= tap.records.poll_room(tap.place, cx).is_pending();
        }
        if full { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Records a copy of a slice.
    #[cold]
    pub(in crate::channel) fn copy(&self, slice: &[u8]) {
        self.record(Passing::Slice(slice));
    }

    /// Records bytes that keep `held` bytes of memory from being freed.
    pub(in crate::channel) fn share(&self, bytes: Bytes, held: usize) {
        self.record(Passing::Shared { bytes, held });
    }

    fn record(&self, mut passing: Passing<'_>) {
        if passing.is_empty() {
            return;
        }
        for tap in self.all() {
            tap.records.push(tap.channel, tap.direction, &mut passing);
        }
    }
}

impl Drop for Tapped {
    fn drop(&mut self) {
        self.records.remove_source(Some(self.place));
    }
}
