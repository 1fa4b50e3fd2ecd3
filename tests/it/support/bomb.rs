//! A value of the user's whose drop fails.

/// Panics when it is dropped, unless the thread unwinds already.
#[derive(Clone)]
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(
            std::thread::panicking(),
            "in the drop of a bomb, on purpose"
        );
    }
}
