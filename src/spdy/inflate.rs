//! Deflate (RFC 1951): blocks that are stored, or in a fixed or dynamic prefix code.
//!
//! A header block of kubectl's has 10 to 60 bytes, in one block of deflate with the fixed code. The
//! libraries are made for long streams: for each header block they set up a state of 10 KiB, and for
//! each block of deflate they build tables, with 20,000 instructions. That is more than all other work
//! for a connection, and a peer may begin a block with every ten bits, so that a frame of 16 KiB keeps
//! a library busy for 50 ms. A library could be stopped after some blocks, but the cost of the usual
//! one would stay.
//!
//! So there are no tables here. A codeword is compared with the first one of each length, the fixed
//! code is a constant, and the number of blocks is bounded. miniz_oxide is the reference of the tests.

use super::{frame::Fault, history::History};

/// The most blocks of deflate in a header block. The dynamic codes of so many take no longer to build
/// than the codewords of the largest header block to decode. Real ones have one block and a flush.
const MAX_DEFLATE_BLOCKS: usize = 128;

/// The length of the longest codeword.
const MAX_CODEWORD: usize = 15;

/// The number of literals and lengths, of which the last two have codewords but no meaning.
const LITERALS: usize = 288;

/// The number of distances, of which the last two have codewords but no meaning.
const DISTANCES: usize = 32;

/// The largest number of literals and lengths in a dynamic code.
const DYNAMIC_LITERALS: usize = 286;
const DYNAMIC_DISTANCES: usize = 30;

/// The symbol that ends a block. Literals are below it, and lengths above.
const END: usize = 256;

const MALFORMED: Fault = Fault::new("a header block is compressed by zlib");
const CUT: Fault = Fault::new("a header block ends with a flush");

/// Decompresses up to the flush with which `packed` has to end.
///
/// # Errors
/// Fails if the bytes are malformed, if they end elsewhere, or if there is too much of anything.
pub(crate) fn unpack(packed: &[u8], history: &mut History) -> Result<(), Fault> {
    let mut bits = Bits::new(packed);
    for _ in 0..MAX_DEFLATE_BLOCKS {
        if bits.take(1)? == 1 {
            return Err(Fault::new("the compressed headers never end"));
        }
        match bits.take(2)? {
            0 => {
                let stored = bits.stored()?;
                history.extend(stored)?;
                // A flush is an empty stored block.
                if stored.is_empty() && bits.is_empty() {
                    return Ok(());
                }
            }
            1 => block(&mut bits, &FIXED_LITERALS, &FIXED_DISTANCES, history)?,
            2 => {
                let (literals, distances) = dynamic(&mut bits)?;
                block(&mut bits, &literals, &distances, history)?;
            }
            _ => return Err(MALFORMED),
        }
    }
    const { assert!(MAX_DEFLATE_BLOCKS == 128, "the text names it") };
    Err(Fault::new(
        "a header block has 128 blocks of deflate at most",
    ))
}

/// Decompresses a block in these codes (3.2.3).
fn block(
    bits: &mut Bits<'_>,
    literals: &Code,
    distances: &Code,
    history: &mut History,
) -> Result<(), Fault> {
    loop {
        match bits.symbol(literals)? {
            literal @ 0..END => history.push(literal as u8)?,
            END => return Ok(()),
            length => {
                let (least, extra) = length_from(length - END - 1).ok_or(MALFORMED)?;
                let length = least + bits.take(extra)?;
                let (least, extra) = distance_from(bits.symbol(distances)?).ok_or(MALFORMED)?;
                let distance = least + bits.take(extra)?;
                history.repeat(distance, length)?;
            }
        }
    }
}

/// Returns the least of the lengths that share a symbol, and the number of bits that choose one.
fn length_from(symbol: usize) -> Option<(usize, u32)> {
    match symbol {
        0..8 => Some((3 + symbol, 0)),
        8..28 => {
            let extra = symbol / 4 - 1;
            Some((3 + ((4 + symbol % 4) << extra), extra as u32))
        }
        28 => Some((258, 0)),
        _ => None,
    }
}

/// Returns the least of the distances that share a symbol, and the number of bits that choose one.
fn distance_from(symbol: usize) -> Option<(usize, u32)> {
    match symbol {
        0..4 => Some((1 + symbol, 0)),
        4..DYNAMIC_DISTANCES => {
            let extra = symbol / 2 - 1;
            Some((1 + ((2 + symbol % 2) << extra), extra as u32))
        }
        _ => None,
    }
}

/// Reads the codes of a dynamic block (3.2.7): the lengths of their codewords, in a code of their own.
fn dynamic(bits: &mut Bits<'_>) -> Result<(Code, Code), Fault> {
    /// The order of the lengths of that code.
    const ORDER: [usize; 19] = [
        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
    ];
    let literals = 257 + bits.take(5)?;
    let distances = 1 + bits.take(5)?;
    let count = 4 + bits.take(4)?;
    if literals > DYNAMIC_LITERALS || distances > DYNAMIC_DISTANCES {
        return Err(MALFORMED);
    }
    let mut lengths = [0; ORDER.len()];
    for &symbol in &ORDER[..count] {
        lengths[symbol] = bits.take(3)? as u8;
    }
    let code = Code::new(&lengths).ok_or(MALFORMED)?;
    let mut lengths = [0; DYNAMIC_LITERALS + DYNAMIC_DISTANCES];
    let lengths = &mut lengths[..literals + distances];
    let mut at = 0;
    while at < lengths.len() {
        let (length, times) = match bits.symbol(&code)? {
            16 => {
                let last = at.checked_sub(1).ok_or(MALFORMED)?;
                (lengths[last], 3 + bits.take(2)?)
            }
            17 => (0, 3 + bits.take(3)?),
            18 => (0, 11 + bits.take(7)?),
            length => (length as u8, 1),
        };
        let next = lengths.get_mut(at..at + times).ok_or(MALFORMED)?;
        next.fill(length);
        at += times;
    }
    let (literals, distances) = lengths.split_at(literals);
    let literals = Code::new(literals).ok_or(MALFORMED)?;
    let distances = Code::new(distances).ok_or(MALFORMED)?;
    Ok((literals, distances))
}

/// A prefix code. Codewords of one length follow one another, in the order of their symbols, and so the
/// lengths say it all (3.2.2).
struct Code {
    /// The number of codewords of each length.
    counts: [u16; MAX_CODEWORD + 1],
    /// The length of the shortest codeword.
    least: usize,
    /// The symbols in the order of their codewords.
    symbols: [u16; LITERALS],
}

static FIXED_LITERALS: Code = {
    let mut lengths = [8; LITERALS];
    let mut symbol = 144;
    while symbol < 280 {
        lengths[symbol] = if symbol < 256 { 9 } else { 7 };
        symbol += 1;
    }
    Code::new(&lengths).expect("the fixed code is complete")
};

static FIXED_DISTANCES: Code = Code::new(&[5; DISTANCES]).expect("the fixed code is complete");

impl Code {
    /// Builds a code from the length of the codeword of each symbol, which is 0 if it has none.
    ///
    /// Returns `None` if there are more codewords than fit, or fewer. Only a single one of one bit
    /// and none at all may leave others free, because an encoder has no choice there.
    const fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0; MAX_CODEWORD + 1];
        let mut symbol = 0;
        while symbol < lengths.len() {
            counts[lengths[symbol] as usize] += 1;
            symbol += 1;
        }
        let words = lengths.len() - counts[0] as usize;
        counts[0] = 0;
        // The first place of each length among the symbols.
        let mut places = [0; MAX_CODEWORD + 1];
        let mut free = 1;
        let mut least = 1;
        while least <= MAX_CODEWORD && counts[least] == 0 {
            least += 1;
        }
        let mut length = 1;
        while length <= MAX_CODEWORD {
            places[length] = places[length - 1] + counts[length - 1];
            free = 2 * free - counts[length] as i32;
            if free < 0 {
                return None;
            }
            length += 1;
        }
        if free > 0 && words > counts[1] as usize {
            return None;
        }
        let mut symbols = [0; LITERALS];
        let mut symbol = 0;
        while symbol < lengths.len() {
            let length = lengths[symbol] as usize;
            if length > 0 {
                symbols[places[length] as usize] = symbol as u16;
                places[length] += 1;
            }
            symbol += 1;
        }
        Some(Self {
            counts,
            least,
            symbols,
        })
    }
}

/// The bits of a header block, from the lowest of each byte to the highest.
struct Bits<'a> {
    bytes: &'a [u8],
    /// The number of bits that have been taken.
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn is_empty(&self) -> bool {
        self.at == 8 * self.bytes.len()
    }

    /// Returns at least 25 bits, with zeros behind the last.
    #[inline]
    fn peek(&self) -> u32 {
        let rest = &self.bytes[self.at / 8..];
        let bytes = rest.first_chunk().copied().unwrap_or_else(|| {
            let mut bytes = [0; 4];
            bytes[..rest.len()].copy_from_slice(rest);
            bytes
        });
        u32::from_le_bytes(bytes) >> (self.at % 8)
    }

    #[inline]
    fn skip(&mut self, bits: usize) -> Result<(), Fault> {
        let at = self.at + bits;
        if at > 8 * self.bytes.len() {
            return Err(CUT);
        }
        self.at = at;
        Ok(())
    }

    /// Takes a number of at most 25 bits.
    #[inline]
    fn take(&mut self, bits: u32) -> Result<usize, Fault> {
        let number = self.peek() & ((1 << bits) - 1);
        self.skip(bits as usize)?;
        Ok(number as usize)
    }

    /// Takes a codeword, and returns its symbol.
    #[inline]
    fn symbol(&mut self, code: &Code) -> Result<usize, Fault> {
        // Codewords begin with their highest bit.
        let ahead = self.peek().reverse_bits();
        // The first codeword of this length, and its place among the symbols.
        let (mut first, mut place) = (0, 0);
        for length in code.least..=MAX_CODEWORD {
            let word = (ahead >> (u32::BITS - length as u32)) as usize;
            let count = usize::from(code.counts[length]);
            if word - first < count {
                self.skip(length)?;
                return Ok(code.symbols[place + word - first].into());
            }
            place += count;
            first = 2 * (first + count);
        }
        Err(MALFORMED)
    }

    /// Takes the bytes of a stored block (3.2.4).
    fn stored(&mut self) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.bytes[self.at.div_ceil(8)..]
            .split_first_chunk()
            .ok_or(CUT)?;
        let &[low, high, not_low, not_high] = head;
        if [low, high] != [!not_low, !not_high] {
            return Err(MALFORMED);
        }
        let length = u16::from_le_bytes([low, high]);
        let (stored, rest) = rest.split_at_checked(length.into()).ok_or(CUT)?;
        self.at = 8 * (self.bytes.len() - rest.len());
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use miniz_oxide::{
        deflate::core::{
            CompressorOxide, TDEFLFlush, compress_to_output, create_comp_flags_from_zip_params,
        },
        inflate::{
            TINFLStatus,
            core::{
                DecompressorOxide, decompress,
                inflate_flags::{
                    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
                },
            },
        },
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::spdy::headers::MAX_UNPACKED;

    /// Decompresses one block.
    fn unpacked(packed: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut history = History::default();
        unpack(packed, &mut history)?;
        Ok(history.block().to_vec())
    }

    /// The reference: what miniz_oxide makes of one block, if it ends with a flush.
    fn reference(packed: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0; MAX_UNPACKED + 1];
        let flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let mut state = Box::<DecompressorOxide>::default();
        let (status, _, len) = decompress(&mut state, packed, &mut out, 0, flags);
        if status != TINFLStatus::NeedsMoreInput || !packed.ends_with(&[0, 0, 0xff, 0xff]) {
            return None;
        }
        // A last block follows only a whole one.
        let last = [1, 0, 0, 0xff, 0xff];
        let (status, ..) = decompress(&mut state, &last, &mut out, len, flags);
        (status == TINFLStatus::Done).then(|| out[..len].to_vec())
    }

    /// Compresses pieces of one stream, with a flush after each.
    fn packed(pieces: &[Vec<u8>], level: i32, strategy: i32) -> Vec<Vec<u8>> {
        let flags = create_comp_flags_from_zip_params(level, 0, strategy);
        let mut compressor = CompressorOxide::new(flags);
        let pack = |piece: &Vec<u8>| {
            let mut out = vec![];
            compress_to_output(&mut compressor, piece, TDEFLFlush::Sync, |bytes| {
                out.extend(bytes);
                true
            });
            out
        };
        pieces.iter().map(pack).collect()
    }

    /// Returns text of few letters with repetitions, or anything.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let words: [&[u8]; 6] = [
            b"streamtype",
            b"requestid",
            b"\0\0\0\x04port",
            b"1",
            b"2",
            &[0; 200],
        ];
        let text = vec(prop::sample::select(words.to_vec()), 0..20);
        let text = text.prop_map(|words| words.concat());
        let any = vec(any::<u8>(), 0..400);
        prop_oneof![text, any]
    }

    proptest! {
        /// Whatever was compressed comes out again, in all forms of blocks.
        #[test]
        fn what_was_packed_is_unpacked(
            pieces in vec(piece(), 1..60),
            level in 0..=9,
            strategy in 0..=4,
        ) {
            let mut history = History::default();
            for (packed, plain) in packed(&pieces, level, strategy).iter().zip(&pieces) {
                // Nothing may be flushed if there is nothing.
                if packed.is_empty() {
                    continue;
                }
                history.next();
                unpack(packed, &mut history).unwrap();
                prop_assert_eq!(history.block(), &plain[..]);
            }
        }

        /// Bytes that were compressed and then changed mean what they mean to miniz_oxide.
        #[test]
        fn damaged_blocks(
            piece in piece(),
            level in 1..=9,
            strategy in 0..=4,
            changes in vec((any::<prop::sample::Index>(), 0_u32..8), 0..4),
        ) {
            let mut block = packed(&[piece], level, strategy).remove(0);
            prop_assume!(!block.is_empty());
            for (at, bit) in changes {
                let at = at.index(block.len());
                block[at] ^= 1_u8 << bit;
            }
            prop_assert_eq!(unpacked(&block).ok(), reference(&block));
        }

        /// So do any bytes in front of a flush.
        #[test]
        fn any_bytes(mut block in vec(any::<u8>(), 0..100)) {
            block.extend([0, 0, 0, 0xff, 0xff]);
            prop_assert_eq!(unpacked(&block).ok(), reference(&block));
        }
    }

    #[test]
    fn matches_as_far_back_as_a_compressor_looks() {
        let mut seed = 1_u32;
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        let round: Vec<Vec<u8>> = (0..32)
            .map(|_| (0..1000).map(|_| byte()).collect())
            .collect();
        let pieces = [&round[..]; 4].concat();
        let mut history = History::default();
        for (n, packed) in packed(&pieces, 9, 0).iter().enumerate() {
            assert!(n < 32 || packed.len() < 100, "from 32,000 bytes back");
            history.next();
            unpack(packed, &mut history).unwrap();
            assert_eq!(history.block(), pieces[n]);
        }
    }

    /// Returns this many empty blocks in the fixed code, and a flush.
    fn empty_blocks(count: usize) -> Vec<u8> {
        let mut bits: Vec<u8> = [0, 1, 0, 0, 0, 0, 0, 0, 0, 0].repeat(count);
        bits.extend([0; 3]);
        let mut out: Vec<u8> = bits
            .chunks(8)
            .map(|bits| (0..).zip(bits).map(|(n, bit)| bit << n).sum())
            .collect();
        out.extend([0, 0, 0xff, 0xff]);
        out
    }

    #[test]
    fn the_largest_number_of_blocks_and_one_more() {
        assert_eq!(unpacked(&empty_blocks(MAX_DEFLATE_BLOCKS - 1)), Ok(vec![]));
        assert!(unpacked(&empty_blocks(MAX_DEFLATE_BLOCKS)).is_err());
    }
}
