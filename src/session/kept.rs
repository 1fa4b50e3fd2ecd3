//! The values that a session keeps until its connection is closed.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::unwind::drop_quietly;

/// A value of any type.
type Value = Box<dyn Send>;

/// Values that are dropped together, once.
#[derive(Default)]
pub(super) struct Kept {
    values: Mutex<Values>,
}

enum Values {
    Kept(Vec<Value>),
    Released,
}

impl Default for Values {
    fn default() -> Self {
        Self::Kept(Vec::new())
    }
}

impl Kept {
    /// Keeps a value, or drops it at once if the others have been dropped.
    pub(super) fn keep(&self, value: Value) {
        let late = match &mut *self.lock() {
            Values::Kept(values) => {
                values.push(value);
                None
            }
            Values::Released => Some(value),
        };
        drop_all(late);
    }

    /// Drops all values. They may own a handle to the session, which would otherwise own itself.
    pub(super) fn release(&self) {
        let values = mem::replace(&mut *self.lock(), Values::Released);
        if let Values::Kept(values) = values {
            drop_all(values);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Values> {
        // A poisoned lock is fine: nothing under it panics between two steps of one change.
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops values without the lock, because their drop is the user's code.
fn drop_all(values: impl IntoIterator<Item = Value>) {
    for value in values {
        drop_quietly(value, "a value that a session has kept");
    }
}
