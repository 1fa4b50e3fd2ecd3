use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::unwind::{catch, drop_quietly};

/// Names the value in the log; see [`drop_quietly`].
const KEY: &str = "the key of a session";

/// Counts the permits that each key holds. Keys that hold none are not kept: clients may choose
/// their keys.
pub(super) struct HeldPermits<K> {
    most: usize,
    counts: Mutex<HashMap<K, usize>>,
}

impl<K> HeldPermits<K> {
    /// Creates a limit of `most` permits for each key.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            counts: Mutex::default(),
        }
    }

    /// Returns how many permits a key may hold.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// Locks the counts. A poisoned lock is as good as any other: a key that panics while it is
    /// compared has not changed anything yet.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> HeldPermits<K> {
    /// Acquires a permit, or returns `None` where the key holds all of its permits.
    pub(super) fn acquire(self: &Arc<Self>, key: K) -> Option<Permit<K>> {
        let mut counts = self.lock();
        match counts.get_mut(&key) {
            Some(count) if *count < self.most => *count += 1,
            None if self.most > 0 => {
                counts.insert(key.clone(), 1);
            }
            _ => return None,
        }
        drop(counts);
        Some(Permit {
            held: Arc::clone(self),
            key: Some(key),
        })
    }
}

impl<K: Hash + Eq> HeldPermits<K> {
    /// Releases a permit. Returns the map's key if the permit was the key's last one, so that no
    /// key is dropped under the lock.
    fn release(&self, key: &K) -> Option<K> {
        let mut counts = self.lock();
        match counts.get_mut(key) {
            Some(count) if *count > 1 => {
                *count -= 1;
                None
            }
            _ => counts.remove_entry(key).map(|(key, _)| key),
        }
    }
}

/// A permit of a key. Dropping it releases it.
pub(super) struct Permit<K: Hash + Eq> {
    held: Arc<HeldPermits<K>>,
    /// `Some` until it is dropped.
    key: Option<K>,
}

impl<K: Hash + Eq> Drop for Permit<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        // A key is the user's code. This may run while a panic of the session unwinds, and a
        // second panic that left this function would abort the process.
        match catch(|| self.held.release(&key)) {
            Ok(last) => drop_quietly(last, KEY),
            Err(_) => tracing::error!("a key panicked: the permit of its session is lost"),
        }
        drop_quietly(key, KEY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_gone_leave_nothing_behind() {
        let permits = Arc::new(HeldPermits::new(2));
        for round in 0..1_000 {
            let held: Vec<_> = (0..10)
                .filter_map(|n| permits.acquire(round * 10 + n / 3))
                .collect();
            assert_eq!((held.len(), permits.lock().len()), (7, 4));
        }
        assert!(permits.lock().is_empty());
        // Nor does one that is refused.
        let full = Arc::new(HeldPermits::new(0));
        assert!(full.acquire(1).is_none());
        assert!(full.lock().is_empty());
    }
}
