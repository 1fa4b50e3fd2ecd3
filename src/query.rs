//! What the query of a URL says, its escapes undone.

use std::borrow::Cow;

/// Undoes `application/x-www-form-urlencoded`; `None` if it is malformed, or not UTF-8.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    match unescape_bytes(text)? {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(plain) => String::from_utf8(plain).ok().map(Cow::Owned),
    }
}

/// Undoes `application/x-www-form-urlencoded`, which can hold any bytes; `None` if it is
/// malformed.
pub(crate) fn unescape_bytes(text: &str) -> Option<Cow<'_, [u8]>> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Some(Cow::Borrowed(text.as_bytes()));
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? << 4 | hex(bytes.next()?)?,
            other => other,
        });
    }
    Some(Cow::Owned(plain))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}
