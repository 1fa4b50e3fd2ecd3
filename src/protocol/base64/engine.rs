//! The codec itself, for whole quads with padding in the standard alphabet.
//!
//! With the feature `simd`, it uses the vector instructions that it detects at run time,
//! which is about three times as fast.

use super::InvalidBase64;

/// Decodes whole quads into `plain`, and returns the number of bytes.
#[cfg(feature = "simd")]
pub(super) fn decode(text: &[u8], plain: &mut [u8]) -> Result<usize, InvalidBase64> {
    use base64_simd::{AsOut, STANDARD};

    match STANDARD.decode(text, plain.as_out()) {
        Ok(decoded) => Ok(decoded.len()),
        Err(_) => Err(InvalidBase64),
    }
}

/// Decodes whole quads into `plain`, and returns the number of bytes.
#[cfg(not(feature = "simd"))]
pub(super) fn decode(text: &[u8], plain: &mut [u8]) -> Result<usize, InvalidBase64> {
    use base64::{Engine, engine::general_purpose::STANDARD};

    STANDARD
        .decode_slice(text, plain)
        .map_err(|_| InvalidBase64)
}

/// Appends the base64 of a payload.
#[cfg(feature = "simd")]
pub(super) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    base64_simd::STANDARD.encode_append(payload, out);
}

/// Appends the base64 of a payload.
#[cfg(not(feature = "simd"))]
pub(super) fn encode(payload: &[u8], out: &mut Vec<u8>) {
    use base64::{Engine, engine::general_purpose::STANDARD};

    // In blocks, so that the memory that is cleared for the engine is still in the cache
    // when the engine fills it.
    for block in payload.chunks(super::BLOCK / super::QUAD * 3) {
        let start = out.len();
        out.resize(start + super::encoded_len(block.len()), 0);
        // The engine needs a slice of exactly this length, so it cannot fail. If it did,
        // the block would be left out, and no wrong bytes would be sent.
        let written = STANDARD
            .encode_slice(block, &mut out[start..])
            .unwrap_or_default();
        debug_assert_eq!(written, out.len() - start);
        out.truncate(start + written);
    }
}
