use miniz_oxide::inflate::{
    TINFLStatus,
    core::{
        DecompressorOxide, decompress,
        inflate_flags::{TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF},
    },
};

use super::cuts::byte;
use crate::spdy::{DICTIONARY, DICTIONARY_ID, Headers, Inflater};

/// The most bytes of a block, decompressed.
const MAX_UNPACKED: usize = 4 * 1024;

/// The most bytes of history that are kept.
const MAX_HISTORY: usize = 40 * 1024;

/// The fewest bytes that more blocks of deflate have than a header block may have: 128 of ten bits.
const MANY_BLOCKS: usize = 160;

/// The end of each block.
const FLUSH: [u8; 4] = [0, 0, 0xff, 0xff];

/// Decompresses header blocks, each with two bytes of length in front. A choice in the first byte
/// says whether the first of them gets the head of a zlib stream, and all of them the flush at
/// their end.
pub fn inflate(mut input: &[u8]) {
    let choices = byte(&mut input);
    let mut inflater = Inflater::default();
    let mut reference: Option<Reference> = None;
    while !input.is_empty() {
        let length = usize::from(byte(&mut input)) << 8 | usize::from(byte(&mut input));
        let (block, rest) = input.split_at(length.min(input.len()));
        input = rest;
        let mut packed = Vec::new();
        if reference.is_none() && choices & 1 == 1 {
            packed.extend([0x78, 0xf9]);
            packed.extend(DICTIONARY_ID);
        }
        packed.extend_from_slice(block);
        if choices & 2 == 2 {
            packed.extend([0, 0, 0, 0xff, 0xff]);
        }
        let result = inflater.block(&packed).map(<[u8]>::to_vec);
        assert!(inflater.held() <= MAX_HISTORY);
        let (body, reference) = match &mut reference {
            Some(reference) => (&packed[..], reference),
            None => match zlib_head(&packed) {
                Some((body, dictionary)) => (body, reference.insert(Reference::new(dictionary))),
                None => return assert!(result.is_err(), "not the head of a zlib stream"),
            },
        };
        let expected = reference.block(body);
        match (result, expected) {
            (Ok(bytes), Ok(expected)) => {
                assert_eq!(bytes, expected);
                let _ = Headers::read(&bytes);
            }
            (Err(fault), Ok(_)) => {
                let is_bound = fault.rule.contains("128 blocks of deflate");
                assert!(is_bound && body.len() >= MANY_BLOCKS, "refused: {fault:?}");
                return;
            }
            (Err(_), Err(())) => return,
            (Ok(bytes), Err(())) => panic!("accepted: {bytes:?}"),
        }
    }
}

/// Checks the head of a zlib stream (RFC 1950, 2.2). Returns what follows it, and the dictionary.
fn zlib_head(packed: &[u8]) -> Option<(&[u8], &'static [u8])> {
    let [method, flags, rest @ ..] = packed else {
        return None;
    };
    let is_valid = method % 16 == 8
        && *method < 0x80
        && (u32::from(*method) * 256 + u32::from(*flags)).is_multiple_of(31);
    if !is_valid {
        return None;
    }
    match flags & 0x20 {
        0 => Some((rest, &[])),
        _ => Some((rest.strip_prefix(&DICTIONARY_ID)?, &DICTIONARY)),
    }
}

/// The reference, which keeps all bytes of the stream.
struct Reference {
    state: Box<DecompressorOxide>,
    out: Vec<u8>,
    len: usize,
}

impl Reference {
    const FLAGS: u32 = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;

    fn new(dictionary: &[u8]) -> Self {
        Self {
            state: Box::default(),
            out: dictionary.to_vec(),
            len: dictionary.len(),
        }
    }

    /// Decompresses a block that ends with a flush, and holds no more than it may.
    fn block(&mut self, packed: &[u8]) -> Result<Vec<u8>, ()> {
        let start = self.len;
        self.out.resize(start + MAX_UNPACKED + 1, 0);
        let body = packed.strip_suffix(&FLUSH).ok_or(())?;
        let (status, read, before) =
            decompress(&mut self.state, body, &mut self.out, start, Self::FLAGS);
        if status != TINFLStatus::NeedsMoreInput || read != body.len() {
            return Err(());
        }
        let at = start + before;
        let (status, read, flushed) =
            decompress(&mut self.state, &FLUSH, &mut self.out, at, Self::FLAGS);
        // These four bytes may also be the end of stored bytes, and then they come out.
        if status != TINFLStatus::NeedsMoreInput || read != FLUSH.len() || flushed != 0 {
            return Err(());
        }
        // A last block follows only a whole one.
        let last = [1, 0, 0, 0xff, 0xff];
        let mut probe = self.state.clone();
        let (status, ..) = decompress(&mut probe, &last, &mut self.out, at, Self::FLAGS);
        if status != TINFLStatus::Done || before > MAX_UNPACKED {
            return Err(());
        }
        self.len = at;
        Ok(self.out[start..at].to_vec())
    }
}
