//! The pairs of port-forward: an error stream and a data stream with one request number.
//!
//! ```text
//!    first stream of a number          the other one
//!   ─────────────────────────> Half ──────────────────> Complete
//!                               │ too late
//!                               └──────────> gone
//! ```
//!
//! kubectl opens the error stream, waits for its reply, and then opens the data stream. Very old
//! clients send no request number: the data stream's number is then that of the error stream plus 2.

use std::fmt;

use super::{frame::ResetStatus, headers::Headers};

/// The kind of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamKind {
    Error,
    Data,
}

/// The connection that two streams belong to, as the client names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request(Name);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Given(Box<[u8]>),
    /// The number of the error stream.
    Of(u32),
}

impl Request {
    /// Returns the name that the client has given, with a replacement for each part that is not
    /// UTF-8.
    pub(crate) fn into_given(self) -> Option<Box<str>> {
        let Name::Given(name) = self.0 else {
            return None;
        };
        let name = String::from_utf8(name.into_vec());
        let name = name.unwrap_or_else(|name| String::from_utf8_lossy(name.as_bytes()).into());
        Some(name.into_boxed_str())
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Name::Given(name) => String::from_utf8_lossy(name).fmt(f),
            Name::Of(stream) => stream.fmt(f),
        }
    }
}

#[derive(Debug)]
struct Half {
    request: Request,
    kind: StreamKind,
    stream: u32,
    port: u16,
}

/// A pair that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    /// The port of the data stream. That of the error stream is not compared.
    pub(crate) port: u16,
    pub(crate) data: u32,
    pub(crate) error: u32,
}

/// The place of a new stream among those that wait for their other half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Matched {
    /// The stream is accepted, and waits for its other half.
    Half(StreamKind),
    Complete {
        pair: Pair,
        request: Request,
    },
    /// The stream is reset, and nothing else happens.
    Refuse(ResetStatus),
    /// The request has a stream of this kind already. That stream is told, and both are reset.
    Duplicate {
        first: u32,
        kind: StreamKind,
    },
}

/// The streams that wait for their other half.
#[derive(Debug)]
pub(crate) struct Pairs {
    halves: Vec<Half>,
    most: usize,
}

impl Pairs {
    /// Creates an empty set for at most this many pairs.
    ///
    /// As many streams may wait for their other half, because a client that opens many connections
    /// at once opens the first streams of all of them before any second one.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            halves: Vec::new(),
            most,
        }
    }

    /// Handles a new stream.
    pub(crate) fn open(&mut self, stream: u32, headers: &Headers<'_>) -> Matched {
        let kind = match headers.get("streamtype") {
            Some(b"error") => StreamKind::Error,
            Some(b"data") => StreamKind::Data,
            // Go's server answers both with a reset.
            Some(_) | None => return Matched::Refuse(ResetStatus::Cancel),
        };
        let Some(port) = headers.get("port").and_then(port) else {
            return Matched::Refuse(ResetStatus::Cancel);
        };
        let request = match headers.get("requestid") {
            Some(name) if !name.is_empty() => Name::Given(name.into()),
            _ => Name::Of(match kind {
                StreamKind::Error => stream,
                // Wraps for no stream of a client that opened an error stream before.
                StreamKind::Data => stream.wrapping_sub(2),
            }),
        };
        let request = Request(request);
        let Some(at) = self.halves.iter().position(|half| half.request == request) else {
            if self.halves.len() >= self.most {
                return Matched::Refuse(ResetStatus::RefusedStream);
            }
            self.halves.push(Half {
                request,
                kind,
                stream,
                port,
            });
            return Matched::Half(kind);
        };
        if self.halves[at].kind == kind {
            let first = self.halves[at].stream;
            return Matched::Duplicate { first, kind };
        }
        let other = self.halves.swap_remove(at);
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
        Matched::Complete { pair, request }
    }

    /// Forgets a stream whose other half has not come in time, or which the peer has reset. Returns
    /// its connection, if it was waiting.
    pub(crate) fn forget(&mut self, stream: u32) -> Option<Request> {
        let at = self.halves.iter().position(|half| half.stream == stream)?;
        Some(self.halves.swap_remove(at).request)
    }

    /// Returns the number of streams that wait.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn waiting(&self) -> usize {
        self.halves.len()
    }
}

/// Reads a port from 1 to 65535, in digits alone.
fn port(value: &[u8]) -> Option<u16> {
    // `parse` would accept a sign.
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = std::str::from_utf8(value).ok()?;
    value.parse().ok().filter(|&port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::headers::write;

    const MOST: usize = 127;

    fn open(pairs: &mut Pairs, stream: u32, fields: &[(&str, &str)]) -> Matched {
        let block = write(fields);
        pairs.open(stream, &Headers::read(&block).unwrap())
    }

    fn fields<'a>(kind: &'a str, port: &'a str, request: &'a str) -> [(&'a str, &'a str); 3] {
        [("streamtype", kind), ("port", port), ("requestid", request)]
    }

    /// Returns a pair, and the name that the client has given to it.
    fn complete(matched: Matched) -> (Pair, Option<Box<str>>) {
        match matched {
            Matched::Complete { pair, request } => (pair, request.into_given()),
            other => panic!("not a pair: {other:?}"),
        }
    }

    #[test]
    fn the_pairs_of_the_recorded_session() {
        let mut pairs = Pairs::new(MOST);
        for (error, request) in [(1, "0"), (5, "1")] {
            let half = open(&mut pairs, error, &fields("error", "9000", request));
            assert_eq!(half, Matched::Half(StreamKind::Error));
            let data = error + 2;
            let whole = open(&mut pairs, data, &fields("data", "9000", request));
            let port = 9000;
            let (pair, name) = complete(whole);
            assert_eq!(pair, Pair { port, data, error });
            assert_eq!(name.as_deref(), Some(request));
            assert_eq!(pairs.waiting(), 0);
        }
    }

    #[test]
    fn the_port_of_the_data_stream_counts_in_both_orders() {
        let mut pairs = Pairs::new(MOST);
        open(&mut pairs, 1, &fields("data", "80", "7"));
        let whole = open(&mut pairs, 3, &fields("error", "81", "7"));
        let (port, data, error) = (80, 1, 3);
        assert_eq!(complete(whole).0, Pair { port, data, error });
    }

    #[test]
    fn without_a_request_id_the_streams_numbers_pair() {
        let mut pairs = Pairs::new(MOST);
        let fields = |kind| [("streamtype", kind), ("port", "80")];
        assert_eq!(
            open(&mut pairs, 5, &fields("error")),
            Matched::Half(StreamKind::Error)
        );
        assert_eq!(
            open(&mut pairs, 11, &fields("data")),
            Matched::Half(StreamKind::Data)
        );
        let whole = open(&mut pairs, 7, &fields("data"));
        let (port, data, error) = (80, 7, 5);
        assert_eq!(complete(whole), (Pair { port, data, error }, None));
        assert_eq!(pairs.waiting(), 1);
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let mut pairs = Pairs::new(MOST);
        let refused = Matched::Refuse(ResetStatus::Cancel);
        for port in ["", "abc", "-1", "+1", "0", "65536", "80 "] {
            let verdict = open(&mut pairs, 1, &fields("data", port, "0"));
            assert_eq!(verdict, refused, "{port:?}");
        }
        for kind in ["", "foo", "Data", "stdin"] {
            assert_eq!(open(&mut pairs, 1, &fields(kind, "80", "0")), refused);
        }
        assert_eq!(open(&mut pairs, 1, &[("port", "80")]), refused);
        assert_eq!(open(&mut pairs, 1, &[("streamtype", "data")]), refused);
        assert_eq!(pairs.waiting(), 0);
    }

    #[test]
    fn a_second_stream_of_a_kind_is_told_of_the_first() {
        let mut pairs = Pairs::new(MOST);
        open(&mut pairs, 1, &fields("error", "80", "0"));
        let (first, kind) = (1, StreamKind::Error);
        let again = open(&mut pairs, 3, &fields("error", "80", "0"));
        assert_eq!(again, Matched::Duplicate { first, kind });
    }

    #[test]
    fn as_many_halves_as_there_may_be_and_one_more() {
        let mut pairs = Pairs::new(MOST);
        for n in 0..MOST as u32 {
            let verdict = open(
                &mut pairs,
                2 * n + 1,
                &fields("error", "80", &n.to_string()),
            );
            assert_eq!(verdict, Matched::Half(StreamKind::Error));
        }
        let one_more = open(&mut pairs, 99, &fields("error", "80", "more"));
        assert_eq!(one_more, Matched::Refuse(ResetStatus::RefusedStream));
        // A stream that completes a pair is none too many.
        let whole = open(&mut pairs, 101, &fields("data", "80", "3"));
        assert!(matches!(whole, Matched::Complete { .. }));
        assert_eq!(pairs.forget(1).unwrap().to_string(), "0");
        assert!(pairs.forget(1).is_none());
        assert_eq!(pairs.waiting(), MOST - 2);
    }
}
