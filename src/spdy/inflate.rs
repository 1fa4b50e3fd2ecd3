//! The compression of header blocks: one zlib stream for the life of a connection, with a dictionary.
//!
//! Each block ends with a flush, and so at a whole byte. The state of the decompressor is therefore
//! new for each block, and only the history lives on, of at most 32 KiB. A connection without streams
//! has none. Every block has to pass through here, even that of a stream that is refused: otherwise
//! all later blocks are unreadable.

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

use super::{
    dictionary::{self, dictionary},
    frame::Fault,
    headers::MAX_UNPACKED,
};

/// The largest distance to which deflate refers back.
const HISTORY: usize = 32 * 1024;

/// The history beyond [`HISTORY`] at which it is cut. Cutting moves all of it, so it is done once in
/// about a hundred streams.
const SLACK: usize = 8 * 1024;

/// The end of each block: the empty stored block of a flush.
const FLUSH: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// An empty stored block that is the last one. A decompressor is done with it only if the bytes
/// before it ended with a block.
const LAST: [u8; 5] = [0x01, 0x00, 0x00, 0xff, 0xff];

/// The room for a block. The additional byte is there because the decompressor asks for more room
/// whenever there is none left.
const ROOM: usize = MAX_UNPACKED + 1;

/// The decompressor; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Inflater {
    /// The dictionary, and the blocks that have come since.
    history: Vec<u8>,
    begun: bool,
}

impl Inflater {
    /// Decompresses the next block.
    ///
    /// # Errors
    /// Fails if the block is malformed or too large. The decompressor must not be used again.
    pub(crate) fn block(&mut self, packed: &[u8]) -> Result<&[u8], Fault> {
        let packed = if self.begun {
            packed
        } else {
            self.begin(packed)?
        };
        if !packed.ends_with(&FLUSH) {
            return Err(Fault::new("a header block ends with a flush"));
        }
        if self.history.len() > HISTORY + SLACK {
            let old = self.history.len() - HISTORY;
            self.history.drain(..old);
        }
        let at = self.history.len();
        self.history.reserve_exact(ROOM);
        self.history.resize(at + ROOM, 0);
        // Boxed, because it has 10 KiB and this runs deep in a poll.
        let mut state = Box::<DecompressorOxide>::default();
        // Without wrapping, a distance beyond the history is an error.
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, read, written) = decompress(&mut state, packed, &mut self.history, at, flags);
        let end = at + written;
        match status {
            TINFLStatus::NeedsMoreInput if read == packed.len() => {}
            TINFLStatus::HasMoreOutput => {
                return Err(Fault::new("the headers of a stream have 4 KiB at most"));
            }
            TINFLStatus::Done => return Err(Fault::new("the compressed headers never end")),
            _ => return Err(Fault::new("a header block is compressed by zlib")),
        }
        // The bytes of a flush may also be inside of a block. The next block would then begin in the
        // middle of this one.
        let (status, ..) = decompress(&mut state, &LAST, &mut self.history, end, flags);
        if status != TINFLStatus::Done {
            return Err(Fault::new("a header block ends with a flush"));
        }
        self.history.truncate(end);
        // An idle connection keeps no room for the next block.
        self.history.shrink_to(end);
        Ok(&self.history[at..])
    }

    /// Checks the head of the zlib stream, and returns the bytes behind it.
    fn begin<'a>(&mut self, packed: &'a [u8]) -> Result<&'a [u8], Fault> {
        /// The bit that says that a dictionary follows.
        const DICTIONARY_FOLLOWS: u8 = 0x20;
        let &[method, flags, ref rest @ ..] = packed else {
            return Err(Fault::new("the first header block begins a zlib stream"));
        };
        let check = u16::from_be_bytes([method, flags]) % 31 == 0;
        // Deflate, with a window of at most 32 KiB (RFC 1950, 2.2).
        if method & 0x0f != 8 || method >> 4 > 7 || !check {
            return Err(Fault::new("the first header block begins a zlib stream"));
        }
        self.begun = true;
        if flags & DICTIONARY_FOLLOWS == 0 {
            return Ok(rest);
        }
        let rest = rest.strip_prefix(&dictionary::ID[..]);
        let rest = rest.ok_or(Fault::new("headers are compressed with SPDY's dictionary"))?;
        self.history = dictionary();
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::{
        fixture::{DOWN_BLOCKS, UP_BLOCKS, bytes},
        headers::Headers,
    };

    #[test]
    fn the_recorded_blocks() {
        let mut inflater = Inflater::default();
        for (block, [kind, port, request]) in UP_BLOCKS {
            let unpacked = inflater.block(&bytes(block)).unwrap();
            let headers = Headers::read(unpacked).unwrap();
            assert_eq!(headers.get("streamtype"), Some(kind.as_bytes()));
            assert_eq!(headers.get("port"), Some(port.as_bytes()));
            assert_eq!(headers.get("requestid"), Some(request.as_bytes()));
        }
    }

    #[test]
    fn the_blocks_of_gos_server_and_of_this_one_hold_no_headers() {
        let ours = [
            "7801000400fbff00000000000000ffff",
            "000400fbff00000000000000ffff",
        ];
        for blocks in [&DOWN_BLOCKS[..], &ours] {
            let mut inflater = Inflater::default();
            for block in blocks {
                assert_eq!(inflater.block(&bytes(block)).unwrap(), [0; 4]);
            }
        }
    }

    #[test]
    fn nothing_is_kept_before_the_first_block() {
        assert_eq!(Inflater::default().history.capacity(), 0);
    }

    #[test]
    fn malformed_heads_of_zlib() {
        for head in [
            "",
            "78",
            "79f9e3c6a7c2", // not deflate
            "78fae3c6a7c2", // a wrong check
            "88f5e3c6a7c2", // a window of 64 KiB
            "78f9e3c6a7c3", // another dictionary
        ] {
            let mut block = bytes(head);
            block.extend(bytes("000400fbff00000000000000ffff"));
            if head.len() < 4 {
                block.truncate(head.len() / 2);
            }
            assert!(Inflater::default().block(&block).is_err(), "{head:?}");
        }
    }

    #[test]
    fn a_block_without_a_flush_or_with_an_end() {
        for block in [
            "7801000400fbff00000000",           // no flush
            "7801010400fbff00000000000000ffff", // a last block
            "7801000400fbfe00000000000000ffff", // a length that does not match
            "780107000000ffff",                 // no such type of block
            "7801000a00f5ff000000000000ffff",   // a flush inside of a stored block
        ] {
            assert!(Inflater::default().block(&bytes(block)).is_err(), "{block}");
        }
    }

    /// Returns a stored block of this many zeros, with its flush.
    fn stored(length: u16) -> Vec<u8> {
        let mut block = vec![0];
        block.extend(length.to_le_bytes());
        block.extend((!length).to_le_bytes());
        block.extend(vec![0; usize::from(length)]);
        block.extend([0, 0, 0, 0xff, 0xff]);
        block
    }

    #[test]
    fn the_largest_block_and_one_byte_more() {
        for (length, valid) in [(MAX_UNPACKED, true), (MAX_UNPACKED + 1, false)] {
            let mut block = bytes("7801");
            block.extend(stored(length as u16));
            assert_eq!(Inflater::default().block(&block).is_ok(), valid, "{length}");
        }
    }

    #[test]
    fn the_history_is_bounded() {
        let mut inflater = Inflater::default();
        inflater
            .block(&bytes("7801000400fbff00000000000000ffff"))
            .unwrap();
        for _ in 0..100 {
            assert!(inflater.block(&stored(4000)).is_ok());
            assert!(inflater.history.capacity() <= HISTORY + SLACK + ROOM);
        }
    }
}
