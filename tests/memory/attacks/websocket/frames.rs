//! The frames of a client that breaks rules, with the masking key 0.

/// The opcodes.
pub(super) const CONTINUATION: u8 = 0;
pub(super) const BINARY: u8 = 2;
pub(super) const GOODBYE: u8 = 8;
pub(super) const PING: u8 = 9;
pub(super) const PONG: u8 = 10;

/// The channel of CLOSE signals.
pub(super) const CLOSE: u8 = 255;

/// Set in the first byte of a frame that ends its message.
pub(super) const FIN: u8 = 0x80;

/// Returns a frame of fewer than 126 bytes.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let len = u8::try_from(payload.len()).unwrap();
    assert!(len < 126);
    [&[first, 0x80 | len, 0, 0, 0, 0][..], payload].concat()
}

/// Returns the head of a frame that announces this many bytes.
pub(super) fn announced(first: u8, len: u64) -> Vec<u8> {
    [&[first, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat()
}
