//! Base64 (RFC 4648, 4) for messages that arrive in pieces.

use std::{error::Error, fmt};

use bytes::BytesMut;

mod engine;

/// The number of characters that stand for three bytes.
const QUAD: usize = 4;

/// The number of characters that the engine decodes at once.
///
/// The engine writes into a slice, so its output goes through an array on the stack.
/// 3 KiB stay in the first-level cache next to their 4 KiB of text, and a larger array
/// would not be faster.
const BLOCK: usize = 4096;

/// The largest number of characters of a piece that is typed rather than transferred.
/// Clearing an array of 48 bytes for it costs nothing, but clearing 3 KiB would.
const SMALL: usize = 64;

/// A decoder for the base64 of successive messages, each in any number of pieces.
///
/// CR and LF are skipped everywhere, as in Go. Everything else is strict: the standard
/// alphabet, padding, no bits set after the last byte, and nothing after the padding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Base64Decoder {
    /// The characters of an incomplete quad.
    quad: [u8; QUAD],
    held: u8,
    /// Set after padding, which ends the message.
    padded: bool,
}

/// The error for a message of a base64 subprotocol that is not valid base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InvalidBase64;

impl fmt::Display for InvalidBase64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid base64")
    }
}

impl Error for InvalidBase64 {}

impl Base64Decoder {
    /// Decodes the next piece and appends the result.
    ///
    /// After an error, nothing of this piece has been appended, and the decoder is at the
    /// start of a message.
    pub(crate) fn decode(&mut self, text: &[u8], out: &mut BytesMut) -> Result<(), InvalidBase64> {
        let before = out.len();
        let result = if text.len() <= SMALL {
            self.blocks::<{ SMALL / QUAD * 3 }>(text, out)
        } else {
            self.blocks::<{ BLOCK / QUAD * 3 }>(text, out)
        };
        result.inspect_err(|_| {
            out.truncate(before);
            *self = Self::default();
        })
    }

    /// Ends the message, which must consist of whole quads.
    pub(crate) fn finish(&mut self) -> Result<(), InvalidBase64> {
        let held = self.held;
        *self = Self::default();
        if held == 0 {
            Ok(())
        } else {
            Err(InvalidBase64)
        }
    }

    /// Returns the largest number of bytes that a piece of this length can append.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn max_decoded(&self, len: usize) -> usize {
        // Divides first, so that a length near the limit does not overflow.
        let tail = len % QUAD + usize::from(self.held);
        len / QUAD * 3 + tail / QUAD * 3
    }

    /// Decodes text block by block. `N` is the size of the array for the bytes of one block.
    fn blocks<const N: usize>(
        &mut self,
        text: &[u8],
        out: &mut BytesMut,
    ) -> Result<(), InvalidBase64> {
        let mut plain = [0; N];
        for block in text.chunks(N / 3 * QUAD) {
            // Line breaks are rare, and the engine fails on them. The block is then decoded
            // again, line by line.
            let (before, start) = (self.clone(), out.len());
            if self.line(block, &mut plain, out).is_err() {
                *self = before;
                out.truncate(start);
                for line in block.split(|byte| is_line_break(*byte)) {
                    self.line(line, &mut plain, out)?;
                }
            }
        }
        Ok(())
    }

    /// Decodes text without line breaks, whose bytes fit into `plain`.
    fn line(
        &mut self,
        text: &[u8],
        plain: &mut [u8],
        out: &mut BytesMut,
    ) -> Result<(), InvalidBase64> {
        if text.is_empty() {
            return Ok(());
        }
        let held = usize::from(self.held);
        let missing = (QUAD - held) % QUAD;
        if text.len() < missing {
            return self.hold(text);
        }
        let (head, text) = text.split_at(missing);
        if !head.is_empty() {
            self.hold(head)?;
            let quad = self.quad;
            self.held = 0;
            self.quads(&quad, plain, out)?;
        }
        let (middle, tail) = text.split_at(text.len() / QUAD * QUAD);
        self.quads(middle, plain, out)?;
        self.hold(tail)
    }

    /// Stores the beginning of a quad.
    fn hold(&mut self, text: &[u8]) -> Result<(), InvalidBase64> {
        if self.padded && !text.is_empty() {
            return Err(InvalidBase64);
        }
        for byte in text {
            // The engine would reject this only once the quad is complete. By then, the
            // rest of the message before it would have been delivered.
            if !(is_symbol(*byte) || *byte == b'=' && self.held >= 2) {
                return Err(InvalidBase64);
            }
            self.quad[usize::from(self.held)] = *byte;
            self.held += 1;
        }
        Ok(())
    }

    /// Decodes whole quads.
    fn quads(
        &mut self,
        text: &[u8],
        plain: &mut [u8],
        out: &mut BytesMut,
    ) -> Result<(), InvalidBase64> {
        let Some(last) = text.last() else {
            return Ok(());
        };
        if self.padded {
            return Err(InvalidBase64);
        }
        self.padded = *last == b'=';
        let decoded = engine::decode(text, plain)?;
        out.extend_from_slice(&plain[..decoded]);
        Ok(())
    }
}

fn is_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_line_break(byte: u8) -> bool {
    (byte == b'\r') | (byte == b'\n')
}

/// Appends the base64 of a payload, padded.
pub(crate) fn encode_into(payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded_len(payload.len()));
    engine::encode(payload, out);
}

/// Returns the number of characters for a payload of `len` bytes.
pub(crate) fn encoded_len(len: usize) -> usize {
    len.div_ceil(3) * QUAD
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use proptest::prelude::*;

    use super::*;

    /// Decodes pieces of one message.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<BytesMut, InvalidBase64> {
        let mut decoder = Base64Decoder::default();
        let mut out = BytesMut::new();
        for piece in pieces {
            let (before, most) = (out.len(), decoder.max_decoded(piece.len()));
            decoder.decode(piece, &mut out)?;
            assert!(out.len() - before <= most);
        }
        decoder.finish()?;
        Ok(out)
    }

    fn whole(text: &str) -> Result<BytesMut, InvalidBase64> {
        let result = decode([text.as_bytes()]);
        let split = decode(text.as_bytes().chunks(1));
        assert_eq!(result, split, "one character at a time: {text:?}");
        result
    }

    fn encode(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_into(payload, &mut out);
        out
    }

    /// Cuts at positions that are taken modulo the length.
    fn cut<'a>(text: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        at.windows(2).map(|w| &text[w[0]..w[1]]).collect()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        for (plain, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(whole(text).unwrap(), plain);
            assert_eq!(encode(plain.as_bytes()), text.as_bytes());
            assert_eq!(encoded_len(plain.len()), text.len());
        }
    }

    #[test]
    fn line_breaks_are_skipped_anywhere() {
        for text in ["\nZ\rm9\r\nv\n", "Zm8\n=\r", "Zg=\r\n=\r\n", "\r\n"] {
            assert!(whole(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_canonical_is_an_error() {
        for text in [
            "Z",
            "Zg",
            "Zg=",
            "Zm9vY",
            "Zm8",
            "Zh==",
            "Zm9=",
            "Zg==Zg==",
            "Zg===",
            "Zm9v=",
            "=",
            "====",
            "Z===",
            "Zg=v",
            "Z=g=",
            "Zm 9v",
            "Zm9v Zm9v",
            "Zm-_",
            "Zm9\0",
            "Zm9\u{e9}",
            "Zg==\nZ",
            "Zg==\n=",
            "Zm9v\t",
        ] {
            assert_eq!(whole(text), Err(InvalidBase64), "{text:?}");
        }
    }

    #[test]
    fn an_error_appends_nothing_of_its_piece() {
        let mut decoder = Base64Decoder::default();
        let mut out = BytesMut::new();
        decoder.decode(b"Zm9vYm", &mut out).unwrap();
        assert_eq!(out, "foo");
        for filler in 2 * BLOCK..2 * BLOCK + QUAD {
            let mut decoder = decoder.clone();
            let long = [&vec![b'A'; filler][..], b"*"].concat();
            assert_eq!(decoder.decode(&long, &mut out), Err(InvalidBase64));
            assert_eq!(out, "foo");
        }
        assert_eq!(decoder.decode(b"*", &mut out), Err(InvalidBase64));
        // The next message starts afresh.
        decoder.decode(b"YmFy", &mut out).unwrap();
        decoder.finish().unwrap();
        assert_eq!(out, "foobar");
    }

    #[test]
    fn messages_do_not_run_into_each_other() {
        let mut decoder = Base64Decoder::default();
        let mut out = BytesMut::new();
        decoder.decode(b"Zg==", &mut out).unwrap();
        decoder.finish().unwrap();
        decoder.decode(b"Zm8", &mut out).unwrap();
        assert_eq!(decoder.finish(), Err(InvalidBase64));
        decoder.decode(b"Zm8=", &mut out).unwrap();
        decoder.finish().unwrap();
        assert_eq!(out, "ffo");
    }

    #[test]
    fn lengths_around_a_block() {
        for len in (SMALL - 4..=SMALL + 4)
            .chain(BLOCK - 8..=BLOCK + 8)
            .chain([3 * BLOCK + 1])
        {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let text = encode(&payload);
            assert_eq!(text, STANDARD.encode(&payload).as_bytes());
            assert_eq!(decode([&text[..]]).unwrap(), payload);
            assert_eq!(decode(cut(&text, &[1, len / 2])).unwrap(), payload);
        }
    }

    #[test]
    fn the_bound_of_a_piece_does_not_overflow() {
        let decoder = Base64Decoder {
            held: 3,
            ..Default::default()
        };
        assert_eq!(decoder.max_decoded(0), 0);
        assert_eq!(decoder.max_decoded(1), 3);
        assert!(decoder.max_decoded(usize::MAX) > usize::MAX / QUAD);
    }

    proptest! {
        #[test]
        fn round_trip_in_pieces_with_line_breaks(
            payload in proptest::collection::vec(any::<u8>(), 0..3 * BLOCK),
            cuts in proptest::collection::vec(any::<usize>(), 0..8),
            breaks in proptest::collection::vec((any::<usize>(), any::<bool>()), 0..8),
        ) {
            let mut text = b"before".to_vec();
            encode_into(&payload, &mut text);
            prop_assert_eq!(&text[..6], b"before");
            let mut text = text.split_off(6);
            let engine = STANDARD.encode(&payload);
            prop_assert_eq!(&text[..], engine.as_bytes());
            prop_assert_eq!(text.len(), encoded_len(payload.len()));
            for (at, cr) in breaks {
                text.insert(at % (text.len() + 1), if cr { b'\r' } else { b'\n' });
            }
            prop_assert_eq!(decode(cut(&text, &cuts)).unwrap(), payload);
        }

        #[test]
        fn one_changed_character_never_passes_for_another_payload_unnoticed(
            payload in proptest::collection::vec(any::<u8>(), 1..200),
            at in any::<usize>(),
            byte in any::<u8>(),
            cuts in proptest::collection::vec(any::<usize>(), 0..4),
        ) {
            let mut text = encode(&payload);
            let at = at % text.len();
            text[at] = byte;
            let ours = decode(cut(&text, &cuts));
            if !is_symbol(byte) && !b"=\r\n".contains(&byte) {
                prop_assert_eq!(&ours, &Err(InvalidBase64));
            }
            // Text is accepted exactly if it is valid as a whole, and decodes to the same
            // bytes: a missing or an extra character is never compensated for.
            text.retain(|byte| !is_line_break(*byte));
            let engine = STANDARD.decode(&text).ok();
            prop_assert_eq!(ours.ok().map(|out| out.to_vec()), engine);
        }

        #[test]
        fn a_missing_or_extra_end_is_an_error(
            payload in proptest::collection::vec(any::<u8>(), 1..200),
            missing in 1..QUAD,
            extra in 1..QUAD,
        ) {
            let text = encode(&payload);
            prop_assert!(decode([&text[..text.len() - missing]]).is_err());
            let longer = [&text[..], &text[..extra]].concat();
            prop_assert!(decode([&longer[..]]).is_err());
        }

        #[test]
        fn any_text_is_judged_as_the_engine_judges_the_whole(
            text in "[A-D=\r\n]{0,24}|[ -~]{0,12}|.{0,80}",
            cuts in proptest::collection::vec(any::<usize>(), 0..6),
        ) {
            let mut joined = text.clone().into_bytes();
            joined.retain(|byte| !is_line_break(*byte));
            let ours = decode(cut(text.as_bytes(), &cuts)).ok().map(|out| out.to_vec());
            prop_assert_eq!(ours, STANDARD.decode(&joined).ok());
        }
    }
}
