//! The header grammar that a handshake needs: lists with commas, and values that appear once.

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Iterates over the members of a comma-separated header, across all its lines, in order and
/// without the surrounding spaces.
///
/// Empty members are skipped (RFC 9110, 5.6.1.2).
pub(crate) fn members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers.get_all(name).into_iter().flat_map(members_of)
}

/// Iterates over the members of one line; see [`members`].
pub(crate) fn members_of(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty())
}

/// Returns the value of a header that appears exactly once, without the surrounding spaces.
pub(super) fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(name).into_iter();
    match (lines.next(), lines.next()) {
        (Some(line), None) => Some(line.as_bytes().trim_ascii()),
        (None, _) | (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONNECTION;

    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|line| (CONNECTION, HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn members_cross_lines_and_empty_ones_are_skipped() {
        let headers = headers(&["b, a ,", "", ",,\tc d"]);
        let members: Vec<_> = members(&headers, &CONNECTION).collect();
        assert_eq!(members, [&b"b"[..], b"a", b"c d"]);
    }

    #[test]
    fn a_value_that_appears_twice_is_none() {
        for (lines, expected) in [
            (&[][..], None),
            (&[" x\t"], Some(&b"x"[..])),
            (&[""], Some(b"")),
            (&["x", "x"], None),
        ] {
            assert_eq!(only(&headers(lines), &CONNECTION), expected, "{lines:?}");
        }
    }
}
