use std::{error::Error, fmt};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// The largest length of one JSON value, in bytes. A size takes about 30. A value that is a hundred
/// times as long is not a size, and must not take up memory.
pub(crate) const MAX_VALUE: usize = 4096;

/// The size of a terminal, in characters.
///
/// # Examples
///
/// ```
/// use tower_wsstream::remotecommand::TerminalSize;
///
/// let size = TerminalSize { width: 80, height: 24 };
/// assert_eq!(size.to_string(), "80x24");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TerminalSize {
    /// The number of columns, from 1 to 65535.
    pub width: u16,
    /// The number of rows, from 1 to 65535.
    pub height: u16,
}

impl fmt::Display for TerminalSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A decoder for a stream of JSON objects that may be split into messages anywhere.
///
/// Only the latest size counts. An object without two numbers in 1..=65535 is skipped, as Go skips
/// zeros. Anything that is not a JSON object ends resizing permanently.
#[derive(Debug, Default)]
pub(crate) struct ResizeDecoder {
    /// The incomplete object, from its opening brace on.
    value: Vec<u8>,
    /// The number of open braces and brackets, which is 0 between objects.
    depth: usize,
    /// Set inside a string, where braces have no meaning.
    quoted: bool,
    /// Set after a backslash inside a string.
    escaped: bool,
    latest: Option<TerminalSize>,
    failed: bool,
}

/// The error for data on the resize channel that is not a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadResize;

impl fmt::Display for BadResize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the resize channel carries something other than terminal sizes")
    }
}

impl Error for BadResize {}

impl ResizeDecoder {
    /// Decodes the next bytes of the channel.
    ///
    /// Sizes in front of a mistake count. After a mistake, nothing does, and every call fails.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), BadResize> {
        if self.failed {
            return Err(BadResize);
        }
        let result = bytes.iter().try_for_each(|byte| self.byte(*byte));
        if result.is_err() {
            self.failed = true;
            self.value = Vec::new();
        }
        result
    }

    /// Returns the latest size that has arrived since the last call, if there is one.
    pub(crate) fn take(&mut self) -> Option<TerminalSize> {
        self.latest.take()
    }

    /// Looks for the end of an object. Only whole objects are passed to the parser.
    fn byte(&mut self, byte: u8) -> Result<(), BadResize> {
        if self.depth == 0 {
            return match byte {
                // The white space of JSON (RFC 8259, 2).
                b' ' | b'\t' | b'\r' | b'\n' => Ok(()),
                b'{' => {
                    self.value.push(byte);
                    self.depth = 1;
                    Ok(())
                }
                _ => Err(BadResize),
            };
        }
        if self.value.len() == MAX_VALUE {
            return Err(BadResize);
        }
        self.value.push(byte);
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.quoted,
            b'"' => self.quoted = !self.quoted,
            _ if self.quoted => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        if self.depth > 0 {
            return Ok(());
        }
        let fields: Fields = serde_json::from_slice(&self.value).map_err(|_| BadResize)?;
        self.value.clear();
        if let (Some(width), Some(height)) = (fields.width, fields.height) {
            self.latest = Some(TerminalSize { width, height });
        }
        Ok(())
    }
}

/// The two numbers of an object, each if it is present and in range.
#[derive(Default)]
struct Fields {
    width: Option<u16>,
    height: Option<u16>,
}

impl<'de> Deserialize<'de> for Fields {
    // Implemented by hand, because Go compares keys without regard to case, and clients rely on
    // that.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with Width and Height")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key.eq_ignore_ascii_case("width") {
                        fields.width = cells(&map.next_value()?);
                    } else if key.eq_ignore_ascii_case("height") {
                        fields.height = cells(&map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

fn cells(value: &Value) -> Option<u16> {
    let number = u16::try_from(value.as_u64()?).ok()?;
    (number > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the latest size after each piece, and whether all pieces were valid.
    fn sizes<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<TerminalSize>, Result<(), BadResize>) {
        let mut decoder = ResizeDecoder::default();
        let mut sizes = Vec::new();
        for piece in pieces {
            let result = decoder.push(piece);
            sizes.extend(decoder.take());
            if result.is_err() {
                assert_eq!(decoder.push(b"{\"Width\":1,\"Height\":1}"), Err(BadResize));
                assert_eq!(decoder.take(), None);
                return (sizes, result);
            }
        }
        (sizes, Ok(()))
    }

    fn one(text: &str) -> (Option<(u16, u16)>, bool) {
        let (sizes, result) = sizes([text.as_bytes()]);
        (sizes.last().map(|s| (s.width, s.height)), result.is_ok())
    }

    #[test]
    fn what_clients_send() {
        for text in [
            r#"{"Width":80,"Height":24}"#,
            r#"{"height":24,"width":80}"#,
            "{\"Width\":80,\"Height\":24}\n",
            "\r\n\t { \"WIDTH\" : 80 , \"hEIGHT\" : 24 } ",
            r#"{"Width":80,"Height":24,"more":{"a":["}",null]}}"#,
            r#"{"a\"}\\":"{[\\\"","Width":80,"Height":24}"#,
            r#"{"Width":1,"Width":80,"Height":24}"#,
        ] {
            assert_eq!(one(text), (Some((80, 24)), true), "{text}");
        }
    }

    #[test]
    fn the_latest_of_several_counts() {
        let text = r#"{"Width":1,"Height":2}{"Width":3,"Height":4} {"Width":5,"Height":6}"#;
        assert_eq!(one(text), (Some((5, 6)), true));
    }

    #[test]
    fn the_first_is_kept_until_it_is_taken() {
        let mut decoder = ResizeDecoder::default();
        decoder.push(br#"{"Width":80,"Height":24}{"Wid"#).unwrap();
        decoder.push(b"th\":").unwrap();
        assert_eq!(
            decoder.take(),
            Some(TerminalSize {
                width: 80,
                height: 24
            })
        );
        assert_eq!(decoder.take(), None);
    }

    #[test]
    fn the_range_of_a_size() {
        for (number, usable) in [
            ("0", false),
            ("1", true),
            ("65535", true),
            ("65536", false),
            ("-1", false),
            ("1.5", false),
            ("1e400", false),
            ("99999999999999999999999", false),
            ("\"80\"", false),
            ("null", false),
        ] {
            let text = format!("{{\"Width\":{number},\"Height\":24}}");
            let (size, well) = one(&text);
            assert_eq!(size.is_some(), usable, "{text}");
            // A number that does not fit into a float is invalid JSON to the parser.
            assert_eq!(well, number != "1e400", "{text}");
        }
        assert_eq!(one("{}"), (None, true));
        assert_eq!(one(r#"{"Width":80}"#), (None, true));
    }

    #[test]
    fn an_unusable_size_leaves_the_one_before() {
        let text = r#"{"Width":80,"Height":24}{"Width":0,"Height":0}{}"#;
        assert_eq!(one(text), (Some((80, 24)), true));
    }

    #[test]
    fn bad_json_ends_resizing_but_keeps_what_came_before() {
        for bad in [
            "x",
            "80",
            "null",
            "[]",
            "\"\"",
            "{]",
            "{\"Width\":}",
            "{80,24}",
            "}",
            "\0",
            "{\"Width\":80,}",
            "{'Width':80}",
            "{\"a\":\"\u{1}\"}",
        ] {
            assert_eq!(one(bad), (None, false), "{bad:?}");
            let text = format!("{{\"Width\":80,\"Height\":24}}{bad}{{\"Width\":1,\"Height\":1}}");
            assert_eq!(one(&text), (Some((80, 24)), false), "{bad:?}");
        }
        assert_eq!(sizes([&b"{\"\xff\":1}"[..]]), (vec![], Err(BadResize)));
    }

    #[test]
    fn a_value_is_bounded() {
        let padded = |len: usize| {
            let size = r#"{"Width":80,"Height":24}"#;
            format!(
                "{}{}",
                size.trim_end_matches('}'),
                " ".repeat(len - size.len())
            ) + "}"
        };
        assert_eq!(one(&padded(MAX_VALUE - 1)), (Some((80, 24)), true));
        assert_eq!(one(&padded(MAX_VALUE)), (Some((80, 24)), true));
        assert_eq!(one(&padded(MAX_VALUE + 1)), (None, false));
        // White space between objects does not count.
        assert_eq!(
            one(&(" ".repeat(3 * MAX_VALUE) + &padded(30))),
            (Some((80, 24)), true)
        );

        let mut decoder = ResizeDecoder::default();
        assert!(decoder.push(&[b'{'; 100 * MAX_VALUE]).is_err());
        assert_eq!(decoder.value.capacity(), 0);
    }

    #[test]
    fn depth_is_bounded_by_the_parser() {
        let deep = |key| format!("{{\"{key}\":{}{}}}", "[".repeat(1000), "]".repeat(1000));
        assert_eq!(one(&deep("Width")), (None, false));
        // An unknown value is skipped without recursion.
        assert_eq!(one(&deep("other")), (None, true));
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => (any::<u32>(), any::<u16>(), "[ \\r\\n\\t]{0,2}").prop_map(|(w, h, space)| {
                format!("{{{space}\"Width\":{},\"hEight\" :{h}}}{space}", w % 70_000).into_bytes()
            }),
            1 => "[{}\\[\\]\":, \\\\a0-9]{0,8}".prop_map(String::into_bytes),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(text in text(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
            let mut at: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
            at.extend([0, text.len()]);
            at.sort_unstable();
            let (whole, result) = sizes([&text[..]]);
            let (cut, cut_result) = sizes(at.windows(2).map(|w| &text[w[0]..w[1]]));
            prop_assert_eq!(whole.last(), cut.last());
            prop_assert_eq!(result, cut_result);
            let (single, single_result) = sizes(text.chunks(1));
            prop_assert_eq!(whole.last(), single.last());
            prop_assert_eq!(result, single_result);
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = sizes([&bytes[..]]);
        }

        #[test]
        fn sizes_are_read_as_a_json_parser_reads_them(text in text()) {
            // The oracle is a parser of JSON streams that reads the whole text.
            let mut expected = None;
            let mut well = true;
            for value in serde_json::Deserializer::from_slice(&text).into_iter::<Value>() {
                let Ok(Value::Object(map)) = value else { well = false; break };
                let find = |name: &str| {
                    map.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name)).and_then(|(_, v)| cells(v))
                };
                if let (Some(width), Some(height)) = (find("width"), find("height")) {
                    expected = Some(TerminalSize { width, height });
                }
            }
            let (sizes, result) = sizes([&text[..]]);
            prop_assert_eq!(sizes.last().copied(), expected);
            // For the decoder, a truncated object is not a mistake, because more may arrive.
            if result.is_err() {
                prop_assert!(!well);
            }
        }
    }
}
