use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::unwind::{catch, drop_quietly};

/// Names the value in the log; see [`drop_quietly`].
const KEY: &str = "the key of a session";

/// Counts the permits that each key holds.
///
/// A key that holds none is removed, because clients may choose their keys.
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

    /// Locks the counts. It ignores poisoning: a key that panics while it is compared has not
    /// changed anything yet.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> HeldPermits<K> {
    /// Acquires a permit, or returns `None` if the key already holds all of its permits.
    pub(super) fn acquire(self: &Arc<Self>, key: K) -> Option<Permit<K>> {
        // The clone is made before the lock is taken, and an unused one is dropped after the lock
        // is released. Both run the user's code, which may acquire or release a permit itself.
        let stored = key.clone();
        let mut counts = self.lock();
        let (is_free, unused) = match counts.get_mut(&key) {
            Some(count) if *count < self.most => {
                *count += 1;
                (true, Some(stored))
            }
            None if self.most > 0 => {
                counts.insert(stored, 1);
                (true, None)
            }
            _ => (false, Some(stored)),
        };
        drop(counts);
        drop_quietly(unused, KEY);
        if !is_free {
            drop_quietly(key, KEY);
            return None;
        }
        Some(Permit {
            held: Arc::clone(self),
            key: Some(key),
        })
    }
}

impl<K: Hash + Eq> HeldPermits<K> {
    /// Releases a permit. Returns the map's own key if this was its last permit, so that the key is
    /// not dropped under the lock.
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

/// A permit that a key holds. Dropping it releases the permit.
pub(super) struct Permit<K: Hash + Eq> {
    held: Arc<HeldPermits<K>>,
    /// `Some` until the permit is dropped.
    key: Option<K>,
}

impl<K: Hash + Eq> Drop for Permit<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        // Comparing and dropping a key runs the user's code. A panic of the session may be
        // unwinding, and a second panic that left this function would abort the process.
        match catch(|| self.held.release(&key)) {
            Ok(last) => drop_quietly(last, KEY),
            Err(_) => tracing::error!("a key panicked: the permit of its session is not released"),
        }
        drop_quietly(key, KEY);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        hash::Hasher,
        sync::{TryLockError, Weak},
    };

    use super::*;

    /// A key that panics each time it is dropped.
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the drop of a key, on purpose");
        }
    }

    #[test]
    fn a_key_that_panics_in_each_drop_is_counted() {
        let held = Arc::new(HeldPermits::new(2));
        let permits = [(); 3].map(|()| held.acquire(Bomb));
        assert_eq!(permits.each_ref().map(Option::is_some), [true, true, false]);
        drop(permits);
        assert!(held.acquire(Bomb).is_some());
    }

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
        // A key that is refused leaves nothing behind either.
        let full = Arc::new(HeldPermits::new(0));
        assert!(full.acquire(1).is_none());
        assert!(full.lock().is_empty());
    }

    /// A key whose clone and drop need the lock of the counts.
    struct Reentrant(Weak<HeldPermits<Self>>);

    impl Reentrant {
        fn assert_unlocked(&self) {
            if let Some(permits) = self.0.upgrade() {
                let lock = permits.counts.try_lock();
                assert!(!matches!(lock, Err(TryLockError::WouldBlock)));
            }
        }
    }

    impl PartialEq for Reentrant {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }

    impl Eq for Reentrant {}

    impl Hash for Reentrant {
        fn hash<H: Hasher>(&self, _: &mut H) {}
    }

    impl Clone for Reentrant {
        fn clone(&self) -> Self {
            self.assert_unlocked();
            Self(Weak::clone(&self.0))
        }
    }

    impl Drop for Reentrant {
        fn drop(&mut self) {
            self.assert_unlocked();
        }
    }

    #[test]
    fn no_key_is_cloned_or_dropped_under_the_lock() {
        let permits = Arc::new(HeldPermits::new(2));
        let acquire = || permits.acquire(Reentrant(Arc::downgrade(&permits)));
        let held: Vec<_> = (0..3).map(|_| acquire()).collect();
        assert_eq!(held.iter().flatten().count(), 2);
        drop(held);
        assert!(permits.lock().is_empty());
    }
}
