//! The layout of frames, for both directions.
//!
//! ```text
//!  +-+---------------+---------------+    +-+-------------------------------+
//!  |1| version (15)  | type (16)     |    |0| stream (31)                   |
//!  +-+-----+---------+---------------+    +-+-----+-------------------------+
//!  | flags | length (24)             |    | flags | length (24)             |
//!  +-------+-------------------------+    +-------+-------------------------+
//! ```
//!
//! Lengths are checked as soon as the head is complete, before anything is stored.

use bytes::BufMut;

/// The length of the head of every frame.
pub(crate) const HEAD: usize = 8;

/// The version in the head of a control frame. SPDY/3.1 keeps the number of SPDY/3.
const VERSION: u16 = 3;

/// The largest packed header block. Real ones have 10 to 60 bytes.
pub(crate) const MAX_HEADER_BLOCK: usize = 16 * 1024;

/// The largest payload that a frame can have.
pub(crate) const MAX_LENGTH: u32 = 0xff_ffff;

/// The largest number of a stream.
pub(crate) const MAX_STREAM: u32 = 0x7fff_ffff;

/// The types of control frames that this end looks for among its own.
const SYN_REPLY: u8 = 2;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;

/// The flag of a frame that ends its sender's direction of the stream.
const FIN: u8 = 1;

/// The flag of a SYN_STREAM whose receiver must not send.
const UNIDIRECTIONAL: u8 = 2;

/// A breach of the protocol, with the rule that was broken. It ends the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) rule: &'static str,
}

impl Fault {
    pub(crate) const fn new(rule: &'static str) -> Self {
        Self { rule }
    }
}

/// The status of an RST_STREAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResetStatus {
    ProtocolError,
    /// The stream was refused before anything was done for it. kubectl shows this for one
    /// connection, and lives on.
    RefusedStream,
    Cancel,
    InternalError,
}

impl ResetStatus {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::ProtocolError => 1,
            Self::RefusedStream => 3,
            Self::Cancel => 5,
            Self::InternalError => 6,
        }
    }
}

/// The status of a GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GoAwayStatus {
    Ok,
    ProtocolError,
    InternalError,
}

impl GoAwayStatus {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::ProtocolError => 1,
            Self::InternalError => 2,
        }
    }
}

/// The type of a control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SynStream,
    SynReply,
    RstStream,
    Ping,
    GoAway,
    Headers,
    /// SETTINGS, WINDOW_UPDATE, CREDENTIAL, and types that are not defined. None of them means
    /// anything between these two ends, so they are skipped by their length.
    Skipped,
}

impl Kind {
    fn new(number: u16) -> Self {
        match number {
            1 => Self::SynStream,
            2 => Self::SynReply,
            3 => Self::RstStream,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::Headers,
            _ => Self::Skipped,
        }
    }

    /// Checks the length of the payload.
    fn check(self, length: u32) -> Result<(), Fault> {
        let length = length as usize;
        let (valid, rule) = match self {
            Self::SynStream => (
                (10..=10 + MAX_HEADER_BLOCK).contains(&length),
                "a SYN_STREAM has 10 bytes and a header block of 16 KiB at most",
            ),
            Self::SynReply => (
                (4..=4 + MAX_HEADER_BLOCK).contains(&length),
                "a SYN_REPLY has 4 bytes and a header block of 16 KiB at most",
            ),
            Self::Headers => (
                (4..=4 + MAX_HEADER_BLOCK).contains(&length),
                "a HEADERS has 4 bytes and a header block of 16 KiB at most",
            ),
            Self::RstStream => (length == 8, "an RST_STREAM has 8 bytes"),
            Self::Ping => (length == 4, "a PING has 4 bytes"),
            Self::GoAway => (length == 8, "a GOAWAY has 8 bytes"),
            Self::Skipped => (true, ""),
        };
        if valid { Ok(()) } else { Err(Fault::new(rule)) }
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Head {
    Data { stream: u32, fin: bool, length: u32 },
    Control { kind: Kind, flags: u8, length: u32 },
}

impl Head {
    /// Reads a head, and checks the length that it announces.
    pub(crate) fn read(bytes: [u8; HEAD]) -> Result<Self, Fault> {
        let [a, b, c, d, flags, high, middle, low] = bytes;
        let first = u32::from_be_bytes([a, b, c, d]);
        let length = u32::from_be_bytes([0, high, middle, low]);
        if first >> 31 == 0 {
            if first == 0 {
                return Err(Fault::new("stream 0 carries no data"));
            }
            let fin = flags & FIN != 0;
            return Ok(Self::Data {
                stream: first,
                fin,
                length,
            });
        }
        if (first >> 16) as u16 & 0x7fff != VERSION {
            return Err(Fault::new("the version of a control frame is 3"));
        }
        let kind = Kind::new(first as u16);
        kind.check(length)?;
        Ok(Self::Control {
            kind,
            flags,
            length,
        })
    }
}

/// A control frame that has arrived in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    SynStream {
        stream: u32,
        fin: bool,
        /// Set if this end must not send on the stream.
        unidirectional: bool,
        block: &'a [u8],
    },
    /// A SYN_REPLY or a HEADERS. Only its block matters, which keeps the decompressor in step.
    Block {
        block: &'a [u8],
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
}

impl<'a> Control<'a> {
    /// Reads the payload of a control frame whose head was [checked](Head::read). Returns `None` for
    /// a frame that is skipped.
    pub(crate) fn read(kind: Kind, flags: u8, body: &'a [u8]) -> Result<Option<Self>, Fault> {
        let frame = match kind {
            Kind::SynStream => Self::SynStream {
                stream: number(body, 0)? & MAX_STREAM,
                fin: flags & FIN != 0,
                unidirectional: flags & UNIDIRECTIONAL != 0,
                // The associated stream, the priority and the slot are in between.
                block: body.get(10..).ok_or(SHORT)?,
            },
            Kind::SynReply | Kind::Headers => Self::Block {
                block: body.get(4..).ok_or(SHORT)?,
            },
            Kind::RstStream => {
                let stream = number(body, 0)? & MAX_STREAM;
                if stream == 0 {
                    return Err(Fault::new("stream 0 cannot be reset"));
                }
                if number(body, 4)? == 0 {
                    return Err(Fault::new("the status of an RST_STREAM is not 0"));
                }
                Self::RstStream { stream }
            }
            Kind::Ping => {
                let id = number(body, 0)?;
                if id == 0 {
                    return Err(Fault::new("the number of a PING is not 0"));
                }
                Self::Ping { id }
            }
            Kind::GoAway => Self::GoAway,
            Kind::Skipped => return Ok(None),
        };
        Ok(Some(frame))
    }
}

impl Control<'_> {
    /// Returns whether this is the answer to a PING of this end, whose numbers are even.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(self, Self::Ping { id } if id.is_multiple_of(2))
    }
}

/// The fault of a payload that is shorter than its head allows. `Head::read` has checked this.
const SHORT: Fault = Fault::new("a control frame is as long as its type requires");

/// Reads a number at this offset.
fn number(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let bytes = bytes.get(at..at + 4).ok_or(SHORT)?;
    let bytes = bytes.try_into().map_err(|_| SHORT)?;
    Ok(u32::from_be_bytes(bytes))
}

/// The header block of the first SYN_REPLY: the head of a zlib stream, no headers in a stored block,
/// and the empty stored block of a flush. Go's reader fails without the last five bytes.
const FIRST_BLOCK: [u8; 16] = [
    0x78, 0x01, 0x00, 0x04, 0x00, 0xfb, 0xff, 0, 0, 0, 0, 0x00, 0x00, 0x00, 0xff, 0xff,
];

/// Appends the head of a DATA frame, behind which `length` bytes follow.
///
/// # Panics
/// Panics in debug builds if the length has more than 24 bits.
pub(crate) fn data_head(out: &mut impl BufMut, stream: u32, fin: bool, length: usize) {
    debug_assert!(length <= MAX_LENGTH as usize);
    out.put_slice(&stream.to_be_bytes());
    out.put_slice(&(u32::from(fin) << 24 | length as u32).to_be_bytes());
}

/// Changes the length of a DATA frame in a head that [`data_head`] has written.
pub(crate) fn set_data_len(head: &mut [u8], length: usize) {
    debug_assert!(length <= MAX_LENGTH as usize);
    head[5..HEAD].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
}

/// Appends the empty DATA frame that ends this direction of a stream.
pub(crate) fn fin(out: &mut impl BufMut, stream: u32) {
    data_head(out, stream, true, 0);
}

/// Appends a SYN_REPLY without headers. `first` is set for the first one of the connection, which
/// begins the stream of compressed blocks.
pub(crate) fn syn_reply(out: &mut impl BufMut, stream: u32, first: bool) {
    let block = &FIRST_BLOCK[if first { 0 } else { 2 }..];
    control_head(out, SYN_REPLY, 4 + block.len());
    out.put_slice(&stream.to_be_bytes());
    out.put_slice(block);
}

/// Appends an RST_STREAM.
pub(crate) fn rst_stream(out: &mut impl BufMut, stream: u32, status: ResetStatus) {
    control_head(out, RST_STREAM, 8);
    out.put_slice(&stream.to_be_bytes());
    out.put_slice(&status.code().to_be_bytes());
}

/// Appends a PING.
pub(crate) fn ping(out: &mut impl BufMut, id: u32) {
    control_head(out, PING, 4);
    out.put_slice(&id.to_be_bytes());
}

/// Appends a GOAWAY with the last stream of the peer that was accepted.
pub(crate) fn go_away(out: &mut impl BufMut, last: u32, status: GoAwayStatus) {
    control_head(out, 7, 8);
    out.put_slice(&last.to_be_bytes());
    out.put_slice(&status.code().to_be_bytes());
}

/// The length of the longest frame that this end writes, apart from those with data.
pub(crate) const LONGEST: usize = HEAD + 4 + FIRST_BLOCK.len();

/// Encodes a frame into a buffer on the stack.
pub(crate) fn encode(buffer: &mut [u8; LONGEST], write: impl FnOnce(&mut &mut [u8])) -> &[u8] {
    let mut rest = &mut buffer[..];
    write(&mut rest);
    let len = LONGEST - rest.len();
    &buffer[..len]
}

/// Returns the length of the payload of a frame that this end has written, and its stream if it is a
/// DATA frame.
///
/// # Panics
/// Panics if `head` is not a whole head. It is never input from a peer.
pub(crate) fn own_frame(head: &[u8]) -> (Option<u32>, usize) {
    let number =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let stream = number(0);
    let len = number(4) & MAX_LENGTH;
    ((stream <= MAX_STREAM).then_some(stream), len as usize)
}

/// Returns the first of the frames that this end has written.
///
/// # Panics
/// Panics if the frame is not whole. It is never input from a peer.
pub(crate) fn first_own_frame(frames: &[u8]) -> &[u8] {
    let (_, len) = own_frame(frames);
    &frames[..HEAD + len]
}

/// Returns the stream of a frame that this end has written, if it has one.
pub(crate) fn own_stream(frame: &[u8]) -> Option<u32> {
    match own_frame(frame).0 {
        Some(stream) => Some(stream),
        None if frame[3] == SYN_REPLY || frame[3] == RST_STREAM => number(frame, HEAD).ok(),
        None => None,
    }
}

/// Returns whether a frame that this end has written is a PING.
pub(crate) fn is_ping(frame: &[u8]) -> bool {
    own_frame(frame).0.is_none() && frame[3] == PING
}

fn control_head(out: &mut impl BufMut, kind: u8, length: usize) {
    out.put_slice(&(0x8000 | VERSION).to_be_bytes());
    out.put_slice(&u16::from(kind).to_be_bytes());
    out.put_slice(&(length as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::fixture::bytes;

    fn head(hex: &str) -> Result<Head, Fault> {
        Head::read(bytes(hex).try_into().unwrap())
    }

    #[test]
    fn heads_of_the_recorded_session() {
        let control = |kind, length| {
            Ok(Head::Control {
                kind,
                flags: 0,
                length,
            })
        };
        assert_eq!(head("800300010000003e"), control(Kind::SynStream, 62));
        assert_eq!(head("8003000600000004"), control(Kind::Ping, 4));
        assert_eq!(head("8003000700000008"), control(Kind::GoAway, 8));
        let data = |stream, fin, length| {
            Ok(Head::Data {
                stream,
                fin,
                length,
            })
        };
        assert_eq!(head("0000000101000000"), data(1, true, 0));
        assert_eq!(head("0000000300000051"), data(3, false, 81));
    }

    #[test]
    fn frames_of_the_recorded_server() {
        let mut out = Vec::new();
        fin(&mut out, 1);
        assert_eq!(out, bytes("0000000101000000"));
        out.clear();
        ping(&mut out, 1);
        assert_eq!(out, bytes("800300060000000400000001"));
        out.clear();
        rst_stream(&mut out, 3, ResetStatus::Cancel);
        assert_eq!(out, bytes("80030003000000080000000300000005"));
        out.clear();
        go_away(&mut out, 0, GoAwayStatus::Ok);
        assert_eq!(out, bytes("80030007000000080000000000000000"));
    }

    #[test]
    fn a_reply_has_a_constant_block() {
        let mut out = Vec::new();
        syn_reply(&mut out, 1, true);
        let first = "8003000200000014000000017801000400fbff00000000000000ffff";
        assert_eq!(out, bytes(first));
        out.clear();
        syn_reply(&mut out, 3, false);
        let later = "800300020000001200000003000400fbff00000000000000ffff";
        assert_eq!(out, bytes(later));
    }

    #[test]
    fn lengths_just_inside_and_outside_of_their_bounds() {
        let length = |kind: u16, length: usize| {
            let mut out = Vec::new();
            control_head(&mut out, kind as u8, length);
            Head::read(out.try_into().unwrap()).is_ok()
        };
        for (kind, least, most) in [
            (1, 10, 10 + MAX_HEADER_BLOCK),
            (2, 4, 4 + MAX_HEADER_BLOCK),
            (8, 4, 4 + MAX_HEADER_BLOCK),
            (3, 8, 8),
            (6, 4, 4),
            (7, 8, 8),
        ] {
            assert!(length(kind, least) && length(kind, most), "{kind}");
            assert!(
                !length(kind, least - 1) && !length(kind, most + 1),
                "{kind}"
            );
        }
        // Types without a meaning here are skipped, whatever their length.
        for kind in [0, 4, 5, 9, 10, 11, 0xffff] {
            assert!(
                length(kind, 0) && length(kind, MAX_LENGTH as usize),
                "{kind}"
            );
        }
    }

    #[test]
    fn numbers_that_are_never_valid() {
        assert!(head("0000000000000001").is_err(), "stream 0");
        assert!(head("8002000600000004").is_err(), "version 2");
        let read = |kind, hex| Control::read(kind, 0, &bytes(hex)).is_err();
        assert!(read(Kind::RstStream, "0000000000000005"), "stream 0");
        assert!(read(Kind::RstStream, "0000000300000000"), "status 0");
        assert!(read(Kind::Ping, "00000000"), "number 0");
    }

    #[test]
    fn the_reserved_bit_of_a_stream_is_ignored() {
        let body = bytes("8000000300000005");
        let frame = Control::read(Kind::RstStream, 0, &body);
        assert_eq!(frame, Ok(Some(Control::RstStream { stream: 3 })));
    }
}
