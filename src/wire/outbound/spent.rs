//! The user's payloads that have left.

use bytes::Bytes;

use crate::{unwind::drop_quietly, wire::stock};

/// The name in the log of a value that panics while it is dropped.
pub(super) const PAYLOAD: &str = "the owner of a payload";

/// Payloads that the queue no longer needs.
///
/// `Bytes::from_owner` turns any value into a payload, so dropping a payload may run the user's code.
/// This code may panic, and may drop or poll a writer of the same session. The list is therefore
/// dropped outside the lock.
#[derive(Debug, Default)]
#[must_use = "must be dropped outside the lock"]
pub(super) struct Spent {
    payloads: Vec<Bytes>,
}

impl Spent {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.payloads.is_empty()
    }

    pub(super) fn push(&mut self, payload: Bytes) {
        if self.payloads.capacity() == 0 {
            self.payloads = stock::take_spent();
        }
        self.payloads.push(payload);
    }
}

impl Drop for Spent {
    fn drop(&mut self) {
        let mut payloads = std::mem::take(&mut self.payloads);
        if payloads.capacity() == 0 {
            return;
        }
        for payload in payloads.drain(..) {
            drop_quietly(payload, PAYLOAD);
        }
        stock::give_spent(payloads);
    }
}
