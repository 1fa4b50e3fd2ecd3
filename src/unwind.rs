//! Containment of panics in the user's code: services, errors, closures, and the values in a
//! request.
//!
//! A panic in any of them ends at most its own session, and its client is told. This is the only
//! place with `catch_unwind`. `Rejection::on_panic` runs a step whose panic refuses an upgrade.

use std::{
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The error for a step of the user's code that panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Runs a step of the user's code, and contains a panic in it.
///
/// A step that panics may leave its values in any state. The caller must not use them again, except
/// to [drop](drop_quietly) them.
pub(crate) fn catch<T>(step: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|payload| {
        // The panic's payload is the user's, too. If its drop panics, the second payload is leaked,
        // because its drop could panic in turn.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(second);
        }
        Panicked
    })
}

/// Drops a value of the user's code that is no longer needed.
///
/// A panic in its drop is logged, and has no other effect. `what` is the name of the value in the
/// log.
pub(crate) fn drop_quietly<T>(value: T, what: &str) {
    quietly(what, || drop(value));
}

/// Runs a closure that drops a value in place, like [`drop_quietly`].
pub(crate) fn quietly(what: &str, drop: impl FnOnce()) {
    if catch(drop).is_err() {
        tracing::error!("{what} panicked while it was dropped");
    }
}

/// A value of the user's code that is dropped [quietly](drop_quietly).
pub(crate) struct Quiet<T> {
    /// `None` once it is taken out.
    value: Option<T>,
    what: &'static str,
}

impl<T> Quiet<T> {
    pub(crate) fn new(value: T, what: &'static str) -> Self {
        let value = Some(value);
        Self { value, what }
    }

    pub(crate) fn get_ref(&self) -> &T {
        self.value.as_ref().expect(THERE)
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(THERE)
    }

    pub(crate) fn into_inner(mut self) -> T {
        self.value.take().expect(THERE)
    }
}

const THERE: &str = "only `into_inner` takes the value out, and it consumes the owner";

impl<T> Drop for Quiet<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            drop_quietly(value, self.what);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;

    use super::*;

    /// A payload whose drop panics with another one, this many times.
    struct Payload(u8);

    impl Drop for Payload {
        fn drop(&mut self) {
            if self.0 > 0 {
                panic_any(Self(self.0 - 1));
            }
        }
    }

    #[test]
    fn a_payload_that_panics_in_its_drop_ends_here() {
        for depth in 0..4 {
            assert!(catch(|| panic_any(Payload(depth))).is_err(), "{depth}");
        }
    }

    #[test]
    fn a_panic_in_a_drop_is_no_news_for_the_caller() {
        drop_quietly(Payload(1), "a payload");
        assert_eq!(catch(|| 7).unwrap(), 7);
    }
}
