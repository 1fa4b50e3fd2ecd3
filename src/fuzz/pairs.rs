use super::cuts::byte;
use crate::spdy::{Headers, Matched, Pair, Pairs, ResetStatus, StreamKind};

/// The values of the headers that a step chooses from.
const KINDS: [Option<&[u8]>; 6] = [
    Some(b"error"),
    Some(b"data"),
    Some(b"error"),
    Some(b"data\0error"),
    Some(b"stdin"),
    None,
];
const PORTS: [Option<&[u8]>; 8] = [
    Some(b"80"),
    Some(b"65535"),
    Some(b"80\x0081"),
    Some(b"0"),
    Some(b"65536"),
    Some(b"+80"),
    Some(b"00443"),
    None,
];
const REQUESTS: [Option<&[u8]>; 8] = [
    Some(b"0"),
    Some(b"1"),
    Some(b"2"),
    Some(b"\xff"),
    Some(b"5"),
    Some(b""),
    None,
    Some(b"\0x"),
];

/// Opens and forgets streams in any order, or reads the input as a block of headers.
pub fn pairs(mut input: &[u8]) {
    match byte(&mut input) {
        0xff => block(input),
        most => events(usize::from(most % 8), input),
    }
}

/// A stream that waits for its other half, as the reference knows it.
#[derive(Debug)]
struct Waiting {
    request: Name,
    kind: StreamKind,
    stream: u32,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Given(Vec<u8>),
    ErrorStream(u32),
}

fn events(most: usize, mut input: &[u8]) {
    let mut pairs = Pairs::new(most);
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut stream = 1_u32;
    while !input.is_empty() {
        let (step, choice) = (byte(&mut input), usize::from(byte(&mut input)));
        if step % 4 == 0 {
            // A stream that waits, or one that does not.
            let gone = match waiting.get(choice % 8) {
                Some(waiting) => waiting.stream,
                None => stream.wrapping_sub(2 * choice as u32),
            };
            let at = waiting.iter().position(|other| other.stream == gone);
            let expected = at.map(|at| waiting.remove(at).request);
            let forgotten = pairs.forget(gone).map(|request| request.to_string());
            assert_eq!(forgotten, expected.map(|name| shown(&name)));
            continue;
        }
        let kind = KINDS[choice % 6];
        let port = PORTS[usize::from(step >> 2) % 8];
        let request = REQUESTS[choice / 6 % 8];
        let headers = [("streamtype", kind), ("port", port), ("requestid", request)];
        let block = written(&headers);
        let headers = Headers::read(&block).expect("the block is valid");
        let verdict = pairs.open(stream, &headers);
        let expected = expected(&mut waiting, most, stream, [kind, port, request]);
        assert_eq!(seen(verdict), expected);
        assert_eq!(pairs.waiting(), waiting.len());
        assert!(waiting.len() <= most);
        stream = stream.wrapping_add(2);
    }
}

/// A verdict as text, and the name of a pair that is complete.
type Verdict = (String, Option<String>);

fn seen(verdict: Matched) -> Verdict {
    match verdict {
        Matched::Complete { pair, request } => {
            let name = request.to_string();
            if let Some(given) = request.into_given() {
                assert_eq!(*given, *name);
            }
            (format!("{pair:?}"), Some(name))
        }
        other => (format!("{other:?}"), None),
    }
}

fn expected(
    waiting: &mut Vec<Waiting>,
    most: usize,
    stream: u32,
    headers: [Option<&[u8]>; 3],
) -> Verdict {
    // The first of several values counts.
    let first = |value: Option<&[u8]>| {
        let mut values = value?.split(|&byte| byte == 0);
        values.next().map(<[u8]>::to_vec)
    };
    let [kind, port, request] = headers.map(first);
    let refused = |status| (format!("{:?}", Matched::Refuse(status)), None);
    let kind = match kind.as_deref() {
        Some(b"error") => StreamKind::Error,
        Some(b"data") => StreamKind::Data,
        _ => return refused(ResetStatus::Cancel),
    };
    let port = match port.as_deref() {
        Some(b"80") => 80,
        Some(b"65535") => 65535,
        Some(b"00443") => 443,
        _ => return refused(ResetStatus::Cancel),
    };
    let request = match (request, kind) {
        (Some(name), _) if !name.is_empty() => Name::Given(name),
        (_, StreamKind::Error) => Name::ErrorStream(stream),
        (_, StreamKind::Data) => Name::ErrorStream(stream.wrapping_sub(2)),
    };
    let Some(at) = waiting.iter().position(|other| other.request == request) else {
        if waiting.len() == most {
            return refused(ResetStatus::RefusedStream);
        }
        waiting.push(Waiting {
            request,
            kind,
            stream,
            port,
        });
        return (format!("{:?}", Matched::Half(kind)), None);
    };
    if waiting[at].kind == kind {
        let first = waiting[at].stream;
        return (format!("{:?}", Matched::Duplicate { first, kind }), None);
    }
    let other = waiting.remove(at);
    let pair = match kind {
        StreamKind::Data => Pair {
            port,
            data: stream,
            error: other.stream,
        },
        StreamKind::Error => Pair {
            port: other.port,
            data: other.stream,
            error: stream,
        },
    };
    (format!("{pair:?}"), Some(shown(&request)))
}

fn shown(name: &Name) -> String {
    match name {
        Name::Given(name) => String::from_utf8_lossy(name).into_owned(),
        Name::ErrorStream(stream) => stream.to_string(),
    }
}

fn written(fields: &[(&str, Option<&[u8]>)]) -> Vec<u8> {
    let present = fields
        .iter()
        .filter_map(|(name, value)| Some((name.as_bytes(), (*value)?)));
    let count = present.clone().count() as u32;
    let mut block = count.to_be_bytes().to_vec();
    for string in present.flat_map(|(name, value)| [name, value]) {
        block.extend((string.len() as u32).to_be_bytes());
        block.extend_from_slice(string);
    }
    block
}

/// Reads any bytes as headers, and compares them with the reference.
fn block(input: &[u8]) {
    let headers = Headers::read(input);
    let expected = fields(input);
    assert_eq!(headers.is_ok(), expected.is_some());
    if let (Ok(headers), Some(fields)) = (headers, expected) {
        for (name, value) in &fields {
            let Ok(name) = str::from_utf8(name) else {
                continue;
            };
            let first = value.split(|&byte| byte == 0).next();
            assert_eq!(headers.get(name), first);
        }
        assert_eq!(headers.get("Absent"), None);
    }
}

/// The reference: a count of at most 16, and as many names of 1 to 64 bytes and values of at most
/// 256. No name has a capital or occurs twice, and nothing follows.
fn fields(input: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut at = 0_usize;
    let mut take = |length: usize| {
        let bytes = input.get(at..at.checked_add(length)?)?;
        at += length;
        Some(bytes)
    };
    let count = u32::from_be_bytes(take(4)?.try_into().ok()?);
    let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
    for _ in 0..count {
        let mut string = |most| {
            let length = u32::from_be_bytes(take(4)?.try_into().ok()?);
            take(length as usize).filter(|string| string.len() <= most)
        };
        let (name, value) = (string(64)?, string(256)?);
        let is_new = fields.iter().all(|(other, _)| *other != name);
        if name.is_empty() || name.to_ascii_lowercase() != name || !is_new {
            return None;
        }
        fields.push((name, value));
    }
    (count <= 16 && at == input.len()).then_some(fields)
}
