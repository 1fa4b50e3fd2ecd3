use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::BytesMut;

use super::cuts::{Cuts, byte};
use crate::protocol::base64::{Base64Decoder, InvalidBase64, encode_into, encoded_len};

/// Decodes the input as the text of messages, or encodes it as a payload.
pub fn base64(mut input: &[u8]) {
    let is_text = byte(&mut input).is_multiple_of(2);
    let mut cuts = Cuts::take(&mut input);
    if is_text {
        text(input, &mut cuts);
    } else {
        payload(input, &mut cuts);
    }
}

/// Decodes messages that are separated by NUL with one decoder, which has to forget each.
fn text(input: &[u8], cuts: &mut Cuts) {
    let mut decoder = Base64Decoder::default();
    for message in input.split(|&byte| byte == 0) {
        let mut stripped = message.to_vec();
        stripped.retain(|byte| !b"\r\n".contains(byte));
        let expected = STANDARD.decode(&stripped).ok();
        let mut out = BytesMut::from("before");
        let whole = decode(&mut decoder, [message], &mut out);
        assert_eq!(whole.ok().map(|()| &out[6..]), expected.as_deref());

        let mut out = BytesMut::from("before");
        let pieces = cuts.pieces(message);
        let result = decode(&mut decoder, pieces, &mut out);
        assert_eq!(&out[..6], b"before");
        let out = &out[6..];
        assert_eq!(result.ok().map(|()| out), expected.as_deref());
        // A reader was given only bytes in front of the error in the text.
        let read = &stripped[..(out.len().div_ceil(3) * 4).min(stripped.len())];
        assert_eq!(STANDARD.decode(read).as_deref(), Ok(out));
    }
}

fn decode<'a>(
    decoder: &mut Base64Decoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    out: &mut BytesMut,
) -> Result<(), InvalidBase64> {
    for piece in pieces {
        let (before, most) = (out.len(), decoder.max_decoded(piece.len()));
        let result = decoder.decode(piece, out);
        assert!(out.len() - before <= most);
        result.inspect_err(|_| assert_eq!(out.len(), before, "a part of a bad piece"))?;
    }
    decoder.finish()
}

fn payload(payload: &[u8], cuts: &mut Cuts) {
    let mut text = b"before".to_vec();
    encode_into(payload, &mut text);
    let text = text.strip_prefix(b"before").expect("it was appended");
    assert_eq!(text, STANDARD.encode(payload).as_bytes());
    assert_eq!(text.len(), encoded_len(payload.len()));
    let mut out = BytesMut::new();
    let pieces = cuts.pieces(text);
    let result = decode(&mut Base64Decoder::default(), pieces, &mut out);
    assert_eq!(result.map(|()| &out[..]), Ok(payload));
}
