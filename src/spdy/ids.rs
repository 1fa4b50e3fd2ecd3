//! The order of stream numbers: the peer's are odd, and each is higher than the one before.

use super::frame::{Fault, MAX_STREAM};

/// The numbers that the peer has used.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    last: u32,
}

impl Ids {
    /// Accepts the number of a new stream.
    ///
    /// # Errors
    /// Fails if the number breaks a rule. Go's server resets a stream with such a number, and so a
    /// live stream that has the same one. Here the fault ends the session.
    pub(crate) fn open(&mut self, id: u32) -> Result<(), Fault> {
        if id.is_multiple_of(2) {
            return Err(Fault::new("the streams of a client have odd numbers"));
        }
        if id <= self.last {
            return Err(Fault::new(
                "a new stream has a higher number than all before",
            ));
        }
        self.last = id;
        Ok(())
    }

    /// Returns the highest number, or 0 before the first stream. A GOAWAY names it.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    /// Returns whether the peer has used its last number, so that it can open no more streams.
    pub(crate) fn are_used_up(&self) -> bool {
        self.last >= MAX_STREAM - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_and_rising() {
        let mut ids = Ids::default();
        assert_eq!(ids.last(), 0);
        for id in [1, 3, 9, 11] {
            assert!(ids.open(id).is_ok());
        }
        for id in [0, 2, 12, 11, 9, 1] {
            assert!(ids.open(id).is_err(), "{id}");
            assert_eq!(ids.last(), 11);
        }
    }

    #[test]
    fn the_last_number_of_all() {
        let mut ids = Ids::default();
        ids.open(MAX_STREAM - 2).unwrap();
        assert!(!ids.are_used_up());
        ids.open(MAX_STREAM).unwrap();
        assert!(ids.are_used_up());
        assert!(ids.open(MAX_STREAM).is_err());
    }
}
