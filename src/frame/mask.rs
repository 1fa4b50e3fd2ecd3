use std::fmt;

/// Bytes of a payload as they came from the wire, with the key that unmasks them.
///
/// The bytes stay masked until they are copied to their destination. Unmasking them in place would
/// require a mutable receive buffer, and would be another pass over memory that the copy reads
/// anyway.
#[derive(Clone, Copy)]
pub(crate) struct Masked<'a> {
    bytes: &'a [u8],
    key: Key,
}

/// A masking key, rotated so that its lowest byte belongs to the next payload byte.
///
/// 0 stands for "not masked", because an xor with it changes nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u32);

impl Key {
    pub(super) const NONE: Key = Key(0);

    #[inline]
    pub(super) fn new(wire: [u8; 4]) -> Key {
        // Little endian on every machine, so that byte i of the key belongs to byte i of a block,
        // and a rotation to the right advances to the next byte.
        Key(u32::from_le_bytes(wire))
    }

    /// Returns the key for the payload after the next `n` bytes.
    #[inline]
    pub(super) fn after(self, n: usize) -> Key {
        Key(self.0.rotate_right(8 * (n % 4) as u32))
    }

    /// Masks or unmasks bytes in place. This is slow, and meant for payloads that are short and
    /// rare.
    pub(super) fn apply(self, bytes: &mut [u8]) {
        for (byte, key) in bytes.iter_mut().zip(self.0.to_le_bytes().iter().cycle()) {
            *byte ^= key;
        }
    }

    /// Masks or unmasks bytes while they are copied to a slice of the same length.
    ///
    /// This is one pass, in blocks that fill a vector register. The bytes after the last whole
    /// block are handled in a block that overlaps it, whose first bytes are copied twice. For a
    /// short payload, a loop over single bytes would cost more than everything else.
    #[inline(always)]
    fn copy(self, from: &[u8], to: &mut [u8]) {
        match from.len() {
            16.. => self.copy_blocks::<16>(from, to),
            4.. => self.copy_blocks::<4>(from, to),
            _ => {
                for ((to, from), key) in to.iter_mut().zip(from).zip(self.0.to_le_bytes()) {
                    *to = from ^ key;
                }
            }
        }
    }

    /// Copies in blocks of `N` bytes. `N` is a multiple of the key's length, and not more than the
    /// length of the payload.
    #[inline(always)]
    fn copy_blocks<const N: usize>(self, from: &[u8], to: &mut [u8]) {
        let (blocks, _) = to.as_chunks_mut::<N>();
        for (to, from) in blocks.iter_mut().zip(from.as_chunks::<N>().0) {
            *to = self.xor(from);
        }
        let key = self.after(from.len().wrapping_sub(N));
        if let (Some(to), Some(from)) = (to.last_chunk_mut(), from.last_chunk::<N>()) {
            *to = key.xor(from);
        }
    }

    #[inline(always)]
    fn xor<const N: usize>(self, block: &[u8; N]) -> [u8; N] {
        let key = self.0.to_le_bytes();
        std::array::from_fn(|i| block[i] ^ key[i % 4])
    }
}

impl<'a> Masked<'a> {
    #[inline]
    pub(super) fn new(bytes: &'a [u8], key: Key) -> Masked<'a> {
        Masked { bytes, key }
    }

    /// Wraps bytes that are not masked.
    #[inline]
    pub(crate) fn plain(bytes: &'a [u8]) -> Masked<'a> {
        Masked {
            bytes,
            key: Key::NONE,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the first byte, unmasked.
    #[inline]
    pub(crate) fn first(&self) -> Option<u8> {
        self.bytes.first().map(|byte| byte ^ self.key.0 as u8)
    }

    /// Returns the first `n` bytes and the rest.
    ///
    /// # Panics
    /// Panics if there are fewer than `n` bytes.
    #[inline]
    pub(crate) fn split_at(self, n: usize) -> (Masked<'a>, Masked<'a>) {
        let (head, tail) = self.bytes.split_at(n);
        (
            Masked::new(head, self.key),
            Masked::new(tail, self.key.after(n)),
        )
    }

    /// Returns the bytes themselves if they are not masked, which is the case for all text. A
    /// caller that only reads them saves the copy.
    #[inline]
    pub(crate) fn as_plain(&self) -> Option<&'a [u8]> {
        (self.key == Key::NONE).then_some(self.bytes)
    }

    /// Appends the unmasked bytes.
    pub(crate) fn append_to_vec(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.bytes.len(), 0);
        self.copy_to(&mut out[start..]);
    }

    /// Copies the unmasked bytes to the front of `out` and returns that part.
    ///
    /// # Panics
    /// Panics if `out` is shorter than the piece.
    #[inline(always)]
    pub(crate) fn copy_to(self, out: &mut [u8]) -> &[u8] {
        let out = &mut out[..self.bytes.len()];
        match self.key {
            Key::NONE => out.copy_from_slice(self.bytes),
            key => key.copy(self.bytes, out),
        }
        out
    }
}

/// Shows only the length, because payload is never logged, be it masked or not.
impl fmt::Debug for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masked")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [0x01, 0x20, 0x83, 0xf4];

    fn payload(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7) as u8).collect()
    }

    /// Masks bytes one by one, as RFC 6455, 5.3 defines it.
    fn by_the_book(plain: &[u8]) -> Vec<u8> {
        plain
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ KEY[i % 4])
            .collect()
    }

    #[test]
    fn every_length_unmasks_by_the_book() {
        for len in (0..=70).chain([2047, 2048, 2049, 6144, 6149]) {
            let plain = payload(len);
            let wire = by_the_book(&plain);
            let piece = Masked::new(&wire, Key::new(KEY));

            let mut vec = b"before".to_vec();
            piece.append_to_vec(&mut vec);
            assert_eq!(&vec[..6], b"before");
            assert_eq!(&vec[6..], plain);

            let mut array = [0xaa; 6160];
            assert_eq!(piece.copy_to(&mut array), plain);
            assert!(array[len..].iter().all(|byte| *byte == 0xaa));
        }
    }

    #[test]
    fn a_split_goes_on_with_the_right_byte_of_the_key() {
        let plain = payload(23);
        let wire = by_the_book(&plain);
        for first in 0..=plain.len() {
            for second in 0..=plain.len() - first {
                let (a, rest) = Masked::new(&wire, Key::new(KEY)).split_at(first);
                let (b, c) = rest.split_at(second);
                assert_eq!(b.first(), plain[first..first + second].first().copied());
                let mut out = Vec::new();
                for piece in [a, b, c] {
                    piece.append_to_vec(&mut out);
                }
                assert_eq!(out, plain);
            }
        }
    }

    #[test]
    fn plain_bytes_stay_as_they_are() {
        let piece = Masked::plain(b"hello");
        assert_eq!(
            (piece.len(), piece.is_empty(), piece.first()),
            (5, false, Some(b'h'))
        );
        assert_eq!(piece.as_plain(), Some(&b"hello"[..]));
        assert_eq!(Masked::new(b"hello", Key::new(KEY)).as_plain(), None);
        assert!(Masked::plain(b"").is_empty());
        assert_eq!(Masked::plain(b"").first(), None);
    }

    #[test]
    fn debug_shows_no_payload() {
        assert_eq!(
            format!("{:?}", Masked::plain(b"secret")),
            "Masked { len: 6, .. }"
        );
    }
}
