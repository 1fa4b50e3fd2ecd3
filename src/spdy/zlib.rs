//! The compression of header blocks: one zlib stream (RFC 1950) for the life of a connection, with a
//! dictionary.
//!
//! Each block ends with a flush, and so at a whole byte. Between two blocks only the history lives on,
//! of 40 KiB at most, and a connection without streams has none. Every block has to pass through
//! here, even that of a stream that is refused: otherwise all later blocks are unreadable.

use super::{
    dictionary::{self, DICTIONARY},
    frame::Fault,
    history::History,
    inflate,
};

/// The decompressor; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Inflater {
    history: History,
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
        self.history.next();
        inflate::unpack(packed, &mut self.history)?;
        Ok(self.history.block())
    }

    /// Returns how much memory the history holds.
    #[cfg(feature = "__fuzz")]
    pub(crate) fn held(&self) -> usize {
        self.history.capacity()
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
        self.history.begin(&DICTIONARY);
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::{
        fixture::{DOWN_BLOCKS, UP_BLOCKS, bytes},
        frame::MAX_HEADER_BLOCK,
        headers::{Headers, MAX_UNPACKED},
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
            assert!(inflater.history.capacity() <= 40 * 1024);
        }
    }

    #[test]
    fn the_history_of_one_connection_is_small() {
        let mut inflater = Inflater::default();
        for (block, _) in &UP_BLOCKS[..2] {
            inflater.block(&bytes(block)).unwrap();
        }
        assert_eq!(inflater.history.capacity(), 128);
    }

    #[test]
    fn a_bomb_is_cut_at_the_bound() {
        // The headers that made Go's server hold 1.4 GB: 40 values of 1 MiB, in 41 KB. A frame has
        // only the first 16 KiB of them.
        let mut plain = 40_u32.to_be_bytes().to_vec();
        for n in 0..40_u32 {
            plain.extend(1_u32.to_be_bytes());
            plain.push(b'a' + n as u8);
            plain.extend((1_u32 << 20).to_be_bytes());
            plain.extend(vec![0; 1 << 20]);
        }
        let packed = miniz_oxide::deflate::compress_to_vec_zlib(&plain, 9);
        assert!(packed.len() > 40_000, "{}", packed.len());
        for len in [MAX_HEADER_BLOCK, packed.len()] {
            let mut inflater = Inflater::default();
            assert!(inflater.block(&packed[..len]).is_err());
            assert!(inflater.history.capacity() <= 5 * 1024);
        }
    }
}
