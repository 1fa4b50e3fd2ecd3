//! Memory of the user's that has left.

use bytes::Bytes;

use crate::{unwind::drop_quietly, wire::stock};

/// Payloads that the queue no longer needs.
///
/// `Bytes::from_owner` makes a payload of any value, so dropping one may run the user's code: it
/// may panic, and it may drop or poll a writer of the same session. A list is therefore dropped
/// outside the lock.
#[derive(Debug, Default)]
#[must_use = "it is dropped outside the lock"]
pub(super) struct Spent {
    payloads: Vec<Bytes>,
}

impl Spent {
    pub(super) fn push(&mut self, payload: Bytes) {
        if self.payloads.capacity() == 0 {
            self.payloads = stock::take_spent();
        }
        self.payloads.push(payload);
    }
}

impl Drop for Spent {
    #[inline]
    fn drop(&mut self) {
        if self.payloads.capacity() > 0 {
            release(std::mem::take(&mut self.payloads));
        }
    }
}

/// Apart, because nearly every list is empty: they are taken for each message.
#[inline(never)]
fn release(mut payloads: Vec<Bytes>) {
    for payload in payloads.drain(..) {
        drop_quietly(payload, "the owner of a payload");
    }
    stock::give_spent(payloads);
}
