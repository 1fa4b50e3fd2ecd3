//! The bytes that channels carry, which tell by themselves where they belong.

use std::sync::LazyLock;

/// The length after which the bytes repeat: a prime, so that no size of a buffer divides it.
const LEN: usize = 65_521;

static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes: Vec<u8> = (0..LEN)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        })
        .collect();
    bytes.extend_from_within(..);
    bytes
});

/// The sender of bytes. Each has bytes of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    Client,
    Service,
}

/// Returns the pieces of a channel's bytes from an offset on.
fn pieces(from: From, channel: u8, offset: u64, len: usize) -> impl Iterator<Item = &'static [u8]> {
    let shift = usize::from(channel) * 7919 + if let From::Client = from { 31 } else { 0 };
    let mut at = (offset as usize + shift) % LEN;
    let mut left = len;
    std::iter::from_fn(move || {
        let n = left.min(LEN);
        let piece = &BYTES[at..at + n];
        at = (at + n) % LEN;
        left -= n;
        (n > 0).then_some(piece)
    })
}

/// Returns bytes of a channel.
pub(crate) fn bytes(from: From, channel: u8, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    pieces(from, channel, offset, len).for_each(|piece| bytes.extend_from_slice(piece));
    bytes
}

/// Returns whether these are the bytes of a channel at this offset.
pub(crate) fn is_at(from: From, channel: u8, offset: u64, mut bytes: &[u8]) -> bool {
    pieces(from, channel, offset, bytes.len()).all(|piece| {
        let (first, rest) = bytes.split_at(piece.len());
        bytes = rest;
        first == piece
    })
}
