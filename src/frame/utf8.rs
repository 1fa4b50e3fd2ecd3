use std::str;

use super::error::FrameError;

/// Checks a text message that arrives in pieces, which may be cut anywhere.
///
/// A byte that cannot be part of any valid text is refused when it arrives, rather than at the end
/// of its character or message, so that a peer cannot continue to send after it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Utf8 {
    /// The beginning of a character that the last piece did not complete.
    open: [u8; MAX_CHAR],
    len: u8,
}

/// The longest encoding of a character (RFC 3629).
const MAX_CHAR: usize = 4;

impl Utf8 {
    /// Checks the next piece. This must not be called again after an error.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), FrameError> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            // `len` is at most 3 here, because four bytes are a character or an error.
            self.open[usize::from(self.len)] = byte;
            self.len += 1;
            piece = rest;
            match str::from_utf8(&self.open[..usize::from(self.len)]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return Err(FrameError::Utf8),
                Err(_) => {}
            }
        }
        let Err(error) = str::from_utf8(piece) else {
            return Ok(());
        };
        if error.error_len().is_some() {
            return Err(FrameError::Utf8);
        }
        // Without an `error_len`, the piece ends inside a character.
        let tail = &piece[error.valid_up_to()..];
        self.open[..tail.len()].copy_from_slice(tail);
        self.len = tail.len() as u8;
        Ok(())
    }

    /// Ends the message, which must not end inside a character.
    pub(super) fn finish(&self) -> Result<(), FrameError> {
        match self.len {
            0 => Ok(()),
            _ => Err(FrameError::Utf8),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns how many bytes the validator accepts when it is fed one byte at a time.
    fn accepted(bytes: &[u8]) -> usize {
        let mut utf8 = Utf8::default();
        bytes
            .iter()
            .take_while(|byte| utf8.push(&[**byte]).is_ok())
            .count()
    }

    #[test]
    fn a_character_may_be_cut_anywhere() {
        let text = "a\u{e9}\u{20ac}\u{1f600}z".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut utf8 = Utf8::default();
                for piece in [&text[..first], &text[first..second], &text[second..]] {
                    utf8.push(piece).unwrap();
                }
                utf8.finish().unwrap();
            }
        }
    }

    #[test]
    fn the_first_impossible_byte_is_refused() {
        // Overlong, surrogate, above U+10FFFF, a lone continuation, a byte that is never used.
        assert_eq!(accepted(b"\xc0\x80"), 0);
        assert_eq!(accepted(b"\xe0\x80\x80"), 1);
        assert_eq!(accepted(b"\xed\xa0\x80"), 1);
        assert_eq!(accepted(b"\xf4\x8f\xbf\xbf"), 4);
        assert_eq!(accepted(b"\xf4\x90\x80\x80"), 1);
        assert_eq!(accepted(b"ok\x80"), 2);
        assert_eq!(accepted(b"\xff"), 0);
        assert_eq!(accepted(b"\xf0\x9f\x98\x41"), 3);
    }

    #[test]
    fn an_unfinished_character_is_refused_at_the_end_only() {
        let mut utf8 = Utf8::default();
        utf8.push(b"\xf0\x9f").unwrap();
        utf8.push(b"").unwrap();
        assert_eq!(utf8.finish(), Err(FrameError::Utf8));
        utf8.push(b"\x98\x80").unwrap();
        utf8.finish().unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn pieces_agree_with_the_whole(
            mut bytes in any::<String>().prop_map(String::into_bytes),
            damage in prop::option::of(any::<(prop::sample::Index, u8)>()),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        ) {
            if let Some((at, byte)) = damage && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();

            let mut utf8 = Utf8::default();
            let pieces = cuts.windows(2).try_for_each(|cut| utf8.push(&bytes[cut[0]..cut[1]]));
            let result = pieces.and_then(|()| utf8.finish());
            prop_assert_eq!(result.is_ok(), str::from_utf8(&bytes).is_ok());
        }
    }
}
