//! A piece of a receive window.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::frame::Masked;

/// The size of a piece of a receive window. The default window has sixteen of them, and one holds
/// the data of a read of the default size.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Memory for [`CHUNK`] bytes, which is filled from the front.
///
/// All of it is initialized once, so that payload can be copied and unmasked in one pass. When a
/// message of 64 bytes was first copied and then unmasked in place, it took three times as long,
/// because the second pass loads bytes that the first one has not finished storing.
pub(crate) struct Chunk {
    memory: BytesMut,
    len: usize,
}

impl Chunk {
    pub(in crate::wire) fn new() -> Self {
        Self {
            memory: BytesMut::zeroed(CHUNK),
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[..self.len]
    }

    /// Appends a piece.
    ///
    /// # Panics
    /// Panics if the piece does not fit.
    #[inline(always)] // the one step that each message takes
    pub(in crate::wire) fn push(&mut self, piece: Masked<'_>) {
        self.len += piece.copy_to(&mut self.memory[self.len..]).len();
    }

    pub(in crate::wire) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn into_bytes(mut self) -> Bytes {
        self.memory.truncate(self.len);
        self.memory.freeze()
    }
}

/// Shows only the length, because payload must not be logged.
impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}
