//! Parsing of a URL's query.

use std::borrow::Cow;

/// Returns an iterator over the parameters of a query, which is the part of a URL after the `?`.
/// Names are decoded, and values are not.
///
/// A name that cannot be decoded is skipped, because no known name is like that. The caller decodes
/// the values of the names that it knows, so that an invalid value is accepted in a parameter that a
/// proxy has added.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, &str)> {
    query.split('&').filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((unescape(name)?, value))
    })
}

/// Decodes `application/x-www-form-urlencoded` text. Returns `None` if it is malformed or not UTF-8.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    match unescape_bytes(text)? {
        Cow::Borrowed(_) => Some(Cow::Borrowed(text)),
        Cow::Owned(plain) => String::from_utf8(plain).ok().map(Cow::Owned),
    }
}

/// Decodes `application/x-www-form-urlencoded` text to bytes, which need not be UTF-8. Returns `None`
/// if it is malformed.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_decoded_and_values_are_not() {
        let pairs: Vec<_> = pairs("a=%41&%62=&c&d=x=y&=&%zz=1&e%ff=1").collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        assert_eq!(
            pairs,
            [("a", "%41"), ("b", ""), ("c", ""), ("d", "x=y"), ("", "")]
        );
    }

    #[test]
    fn escapes_are_decoded_or_malformed() {
        for (text, expected) in [
            ("plain", Some("plain")),
            ("a+b%20c", Some("a b c")),
            ("%e2%82%AC", Some("\u{20ac}")),
            ("%", None),
            ("%4", None),
            ("%4g", None),
            ("%ff", None),
        ] {
            assert_eq!(unescape(text).as_deref(), expected, "{text}");
        }
        assert_eq!(unescape_bytes("%ff").as_deref(), Some(&[0xff][..]));
    }
}
