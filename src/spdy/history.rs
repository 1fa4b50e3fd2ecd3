//! The history of decompression: the bytes that a header block may refer back to.

use super::{frame::Fault, headers::MAX_UNPACKED};

/// The largest distance to which deflate refers back.
const MAX_DISTANCE: usize = 32 * 1024;

/// The excess at which the oldest bytes are dropped. That moves all others, so it happens once in
/// about fifty streams.
const SLACK: usize = 3 * 1024;

/// The capacity with which the history begins: the headers of one connection.
const LEAST: usize = 128;

/// The largest step of its growth beyond what is needed.
const STEP: usize = 1024;

/// The history; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// The blocks that have come.
    bytes: Vec<u8>,
    /// The bytes before the first block. All sessions share them.
    dictionary: &'static [u8],
    /// The length of the history before the current block.
    start: usize,
}

impl History {
    /// Puts a dictionary before the first block.
    pub(crate) fn begin(&mut self, dictionary: &'static [u8]) {
        debug_assert!(self.bytes.is_empty(), "a dictionary comes first");
        self.dictionary = dictionary;
    }

    /// Begins the next block.
    pub(crate) fn next(&mut self) {
        if self.bytes.len() > MAX_DISTANCE + SLACK {
            let old = self.bytes.len() - MAX_DISTANCE;
            self.bytes.drain(..old);
        }
        self.start = self.bytes.len();
    }

    /// Returns the bytes of the current block.
    pub(crate) fn block(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Makes room for more bytes of the block.
    #[inline]
    fn reserve(&mut self, more: usize) -> Result<(), Fault> {
        if self.bytes.len() - self.start + more > MAX_UNPACKED {
            return Err(Fault::new("the headers of a stream have 4 KiB at most"));
        }
        let capacity = self.bytes.capacity();
        if self.bytes.len() + more > capacity {
            let step = capacity.clamp(LEAST, STEP);
            self.bytes.reserve_exact(more.max(step));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn push(&mut self, byte: u8) -> Result<(), Fault> {
        self.reserve(1)?;
        self.bytes.push(byte);
        Ok(())
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Repeats bytes from this distance on. They may be more than the distance.
    pub(crate) fn repeat(&mut self, distance: usize, length: usize) -> Result<(), Fault> {
        self.reserve(length)?;
        for _ in 0..length {
            let byte = self.back(distance);
            let rule = "a header block refers to nothing before the first";
            self.bytes.push(byte.ok_or(Fault::new(rule))?);
        }
        Ok(())
    }

    #[inline]
    fn back(&self, distance: usize) -> Option<u8> {
        let len = self.bytes.len();
        match len.checked_sub(distance) {
            Some(at) => Some(self.bytes[at]),
            None => {
                let at = (self.dictionary.len() + len).checked_sub(distance)?;
                Some(self.dictionary[at])
            }
        }
    }

    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dictionary_and(blocks: &[&[u8]]) -> History {
        let mut history = History::default();
        history.begin(b"dictionary");
        for block in blocks {
            history.next();
            history.extend(block).unwrap();
        }
        history.next();
        history
    }

    #[test]
    fn repetition_reaches_back_to_the_first_byte_of_the_dictionary() {
        let mut history = dictionary_and(&[b"one", b"two"]);
        history.repeat(16, 16).unwrap();
        assert_eq!(history.block(), b"dictionaryonetwo");
        assert!(history.repeat(32, 1).is_ok());
        assert!(history.repeat(34, 1).is_err());
        let mut history = History::default();
        history.push(1).unwrap();
        assert!(history.repeat(2, 1).is_err(), "without a dictionary");
    }

    #[test]
    fn repetition_of_what_it_repeats() {
        let mut history = dictionary_and(&[b"ab"]);
        history.repeat(2, 7).unwrap();
        assert_eq!(history.block(), b"abababa");
        history.next();
        history.repeat(1, 3).unwrap();
        assert_eq!(history.block(), b"aaa");
    }

    #[test]
    fn repetition_reaches_back_32_kib_behind_a_cut() {
        let mut history = dictionary_and(&[]);
        for byte in 0..100 {
            history.next();
            history.extend(&[byte; 1000]).unwrap();
        }
        history.next();
        assert!(history.bytes.len() < 40_000, "it was cut");
        history.repeat(MAX_DISTANCE, 1000).unwrap();
        let mut expected = vec![67; 768];
        expected.extend([68; 232]);
        assert_eq!(history.block(), expected);
    }
}
