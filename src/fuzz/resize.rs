use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value, error::Category};

use super::cuts::Cuts;
use crate::remotecommand::{MAX_RESIZE, ResizeDecoder, TerminalSize};

/// Decodes the stream of a terminal's sizes.
pub fn resize(mut input: &[u8]) {
    let mut cuts = Cuts::take(&mut input);
    let mut whole = ResizeDecoder::default();
    let result = whole.push(input);
    let latest = whole.take();

    let mut decoder = ResizeDecoder::default();
    let (mut in_pieces, mut last) = (Ok(()), None);
    for piece in cuts.pieces(input) {
        in_pieces = decoder.push(piece);
        last = decoder.take().or(last);
        if in_pieces.is_err() {
            assert!(decoder.push(b"{}").is_err(), "the error stays");
            break;
        }
    }
    assert_eq!((in_pieces, last), (result, latest));

    let (expected, end) = reference(input);
    assert_eq!(latest, expected);
    match end {
        // The parser has not seen that the last object is malformed, if it has not ended.
        End::Malformed { in_object: true } => {}
        End::Malformed { in_object: false } | End::TooLong => assert!(result.is_err()),
        End::Cut | End::Clean => assert!(result.is_ok()),
    }
}

#[derive(Debug)]
enum End {
    Clean,
    Cut,
    /// An object is too long, whatever it contains.
    TooLong,
    Malformed {
        in_object: bool,
    },
}

/// The reference: serde_json finds the objects itself, and all of their fields are kept in order.
fn reference(input: &[u8]) -> (Option<TerminalSize>, End) {
    let mut latest = None;
    let mut objects = serde_json::Deserializer::from_slice(input).into_iter::<Fields>();
    loop {
        let start = objects.byte_offset();
        let object = objects.next();
        let rest = input[start..]
            .iter()
            .position(|byte| !b" \t\r\n".contains(byte));
        let rest = rest.map_or(&[][..], |blank| &input[start + blank..]);
        match object {
            None => return (latest, End::Clean),
            Some(Ok(Fields(fields))) => {
                let length = objects.byte_offset() - (input.len() - rest.len());
                if length > MAX_RESIZE {
                    return (latest, End::TooLong);
                }
                let last = |name: &str| {
                    fields
                        .iter()
                        .rev()
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                };
                let cells = |name| {
                    let number = last(name)?.1.as_u64()?;
                    u16::try_from(number).ok().filter(|&number| number > 0)
                };
                if let (Some(width), Some(height)) = (cells("width"), cells("height")) {
                    latest = Some(TerminalSize { width, height });
                }
            }
            Some(Err(_)) if rest.len() > MAX_RESIZE => {
                // It is refused at its end or at the bound, whichever comes first.
                return (latest, End::TooLong);
            }
            // The four digits of an escape may be malformed, though the parser waits for all of them.
            Some(Err(error))
                if error.classify() == Category::Eof
                    && rest.starts_with(b"{")
                    && !rest[rest.len().saturating_sub(5)..].contains(&b'u') =>
            {
                return (latest, End::Cut);
            }
            Some(Err(_)) => {
                let in_object = rest.starts_with(b"{");
                return (latest, End::Malformed { in_object });
            }
        }
    }
}

/// The fields of an object that may be numbers of cells, in order.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    match key.to_ascii_lowercase().as_str() {
                        "width" | "height" => fields.push((key, map.next_value()?)),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
