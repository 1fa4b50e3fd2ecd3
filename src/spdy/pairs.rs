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

/// The most streams that wait for their other half: as many as there may be pairs. A client that opens
/// many connections at once opens the first streams of all of them before any second one.
const MAX_HALVES: usize = 127;

/// The kind of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
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
    kind: Kind,
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

/// The consequence of a new stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The stream is accepted, and waits for its other half.
    Half(Kind),
    Complete(Pair),
    /// The stream is reset, and nothing else happens.
    Refuse(ResetStatus),
    /// The request has a stream of this kind already. That stream is told, and both are reset.
    Duplicate {
        first: u32,
        kind: Kind,
    },
}

/// The streams that wait for their other half.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    halves: Vec<Half>,
}

impl Pairs {
    /// Handles a new stream.
    pub(crate) fn open(&mut self, stream: u32, headers: &Headers<'_>) -> Verdict {
        let kind = match headers.get("streamtype") {
            Some(b"error") => Kind::Error,
            Some(b"data") => Kind::Data,
            // Go's server answers both with a reset.
            Some(_) | None => return Verdict::Refuse(ResetStatus::Cancel),
        };
        let Some(port) = headers.get("port").and_then(port) else {
            return Verdict::Refuse(ResetStatus::Cancel);
        };
        let request = match headers.get("requestid") {
            Some(name) if !name.is_empty() => Name::Given(name.into()),
            _ => Name::Of(match kind {
                Kind::Error => stream,
                // Wraps for no stream of a client that opened an error stream before.
                Kind::Data => stream.wrapping_sub(2),
            }),
        };
        let request = Request(request);
        let Some(at) = self.halves.iter().position(|half| half.request == request) else {
            if self.halves.len() >= MAX_HALVES {
                return Verdict::Refuse(ResetStatus::RefusedStream);
            }
            self.halves.push(Half {
                request,
                kind,
                stream,
                port,
            });
            return Verdict::Half(kind);
        };
        if self.halves[at].kind == kind {
            let first = self.halves[at].stream;
            return Verdict::Duplicate { first, kind };
        }
        let other = self.halves.swap_remove(at);
        Verdict::Complete(match kind {
            Kind::Data => Pair {
                port,
                data: stream,
                error: other.stream,
            },
            Kind::Error => Pair {
                port: other.port,
                data: other.stream,
                error: stream,
            },
        })
    }

    /// Forgets a stream whose other half has not come in time, or which the peer has reset. Returns
    /// its connection, if it was waiting.
    pub(crate) fn forget(&mut self, stream: u32) -> Option<Request> {
        let at = self.halves.iter().position(|half| half.stream == stream)?;
        Some(self.halves.swap_remove(at).request)
    }

    /// Returns the number of streams that wait.
    #[cfg(test)]
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

    fn open(pairs: &mut Pairs, stream: u32, fields: &[(&str, &str)]) -> Verdict {
        let block = write(fields);
        pairs.open(stream, &Headers::read(&block).unwrap())
    }

    fn fields<'a>(kind: &'a str, port: &'a str, request: &'a str) -> [(&'a str, &'a str); 3] {
        [("streamtype", kind), ("port", port), ("requestid", request)]
    }

    #[test]
    fn the_pairs_of_the_recorded_session() {
        let mut pairs = Pairs::default();
        for (error, request) in [(1, "0"), (5, "1")] {
            let half = open(&mut pairs, error, &fields("error", "9000", request));
            assert_eq!(half, Verdict::Half(Kind::Error));
            let data = error + 2;
            let whole = open(&mut pairs, data, &fields("data", "9000", request));
            let port = 9000;
            assert_eq!(whole, Verdict::Complete(Pair { port, data, error }));
            assert_eq!(pairs.waiting(), 0);
        }
    }

    #[test]
    fn the_port_of_the_data_stream_counts_in_both_orders() {
        let mut pairs = Pairs::default();
        open(&mut pairs, 1, &fields("data", "80", "7"));
        let whole = open(&mut pairs, 3, &fields("error", "81", "7"));
        let (port, data, error) = (80, 1, 3);
        assert_eq!(whole, Verdict::Complete(Pair { port, data, error }));
    }

    #[test]
    fn without_a_request_id_the_streams_numbers_pair() {
        let mut pairs = Pairs::default();
        let fields = |kind| [("streamtype", kind), ("port", "80")];
        assert_eq!(
            open(&mut pairs, 5, &fields("error")),
            Verdict::Half(Kind::Error)
        );
        assert_eq!(
            open(&mut pairs, 11, &fields("data")),
            Verdict::Half(Kind::Data)
        );
        let whole = open(&mut pairs, 7, &fields("data"));
        let (port, data, error) = (80, 7, 5);
        assert_eq!(whole, Verdict::Complete(Pair { port, data, error }));
        assert_eq!(pairs.waiting(), 1);
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let mut pairs = Pairs::default();
        let refused = Verdict::Refuse(ResetStatus::Cancel);
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
        let mut pairs = Pairs::default();
        open(&mut pairs, 1, &fields("error", "80", "0"));
        let (first, kind) = (1, Kind::Error);
        let again = open(&mut pairs, 3, &fields("error", "80", "0"));
        assert_eq!(again, Verdict::Duplicate { first, kind });
    }

    #[test]
    fn as_many_halves_as_there_may_be_and_one_more() {
        let mut pairs = Pairs::default();
        for n in 0..MAX_HALVES as u32 {
            let verdict = open(
                &mut pairs,
                2 * n + 1,
                &fields("error", "80", &n.to_string()),
            );
            assert_eq!(verdict, Verdict::Half(Kind::Error));
        }
        let one_more = open(&mut pairs, 99, &fields("error", "80", "more"));
        assert_eq!(one_more, Verdict::Refuse(ResetStatus::RefusedStream));
        // A stream that completes a pair is none too many.
        let whole = open(&mut pairs, 101, &fields("data", "80", "3"));
        assert!(matches!(whole, Verdict::Complete(_)));
        assert_eq!(pairs.forget(1).unwrap().to_string(), "0");
        assert!(pairs.forget(1).is_none());
        assert_eq!(pairs.waiting(), MAX_HALVES - 2);
    }
}
