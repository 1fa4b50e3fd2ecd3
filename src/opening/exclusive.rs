use std::sync::{Mutex, PoisonError};

/// A value that can only be reached through its owner.
///
/// This makes a value `Sync` that is only `Send`, as the futures of most services are. The mutex is
/// never locked.
pub(super) struct Exclusive<T> {
    value: Mutex<T>,
}

impl<T> Exclusive<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
        }
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        // Never poisoned, because it is never locked.
        self.value.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn into_inner(self) -> T {
        self.value
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
