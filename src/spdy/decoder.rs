//! Frames out of bytes that may be cut anywhere, down to single bytes.
//!
//! ```text
//!            head complete,              body complete: a frame
//!            control frame    ┌──────┐
//!         ┌─────────────────> │ Body │ ──────────────────────┐
//!         │                   └──────┘                       v
//!      ┌──────┐   of no use   ┌──────┐   skipped         ┌──────┐
//!      │ Head │ ────────────> │ Skip │ ────────────────> │ Head │
//!      └──────┘               └──────┘                   └──────┘
//!         │  data             ┌──────┐   all taken           ^
//!         └─────────────────> │ Data │ ──────────────────────┘
//!                             └──────┘
//! ```
//!
//! The payload of DATA never passes through the decoder: the caller moves it to its destination in
//! one copy, and reports how much of it there was.

use super::frame::{Control, Fault, HEAD, Head, Kind};

/// The capacity of the largest buffer that is kept between two control frames. It holds every real
/// header block.
const KEPT: usize = 128;

/// The next bytes of the stream, and their destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// At most this many bytes for [`Decoder::feed`].
    Bytes(usize),
    /// At most this many bytes of data of a stream, and then [`Decoder::took`].
    Data { stream: u32, left: usize },
    /// At most this many bytes that are discarded, and then [`Decoder::took`].
    Skip { left: usize },
}

/// A frame that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    Control(Control<'a>),
    /// The end of a DATA frame, whose payload has passed before.
    Data {
        stream: u32,
        fin: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body {
        kind: Kind,
        flags: u8,
        length: usize,
    },
    Data {
        stream: u32,
        fin: bool,
        left: usize,
    },
    Skip {
        left: usize,
    },
}

/// The decoder; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Decoder {
    state: State,
    head: [u8; HEAD],
    /// The number of bytes of the head that have arrived.
    have: usize,
    /// The body of a control frame.
    body: Vec<u8>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Head,
            head: [0; HEAD],
            have: 0,
            body: Vec::new(),
        }
    }

    /// Returns whether the last frame is complete, so that the stream may end here.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn is_between_frames(&self) -> bool {
        self.state == State::Head && self.have == 0
    }

    /// Returns how much memory the decoder holds.
    #[cfg(feature = "__fuzz")]
    pub(crate) fn held(&self) -> usize {
        self.body.capacity()
    }

    /// Returns what the next bytes are for. There is always at least one.
    #[inline]
    pub(crate) fn want(&self) -> Want {
        match self.state {
            State::Head => Want::Bytes(HEAD - self.have),
            State::Body { length, .. } => Want::Bytes(length - self.body.len()),
            State::Data { stream, left, .. } => Want::Data { stream, left },
            State::Skip { left } => Want::Skip { left },
        }
    }

    /// Takes bytes of a head or of a control frame, and returns the frame that they complete.
    ///
    /// There must be no more of them than [`Want::Bytes`] says.
    ///
    /// # Errors
    /// Fails if the peer has broken the protocol. The decoder must not be used again.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Option<Frame<'_>>, Fault> {
        match self.state {
            State::Head => {
                let end = self.have + bytes.len();
                debug_assert!(end <= HEAD, "more than was wanted");
                self.head[self.have..end].copy_from_slice(bytes);
                self.have = end;
                if end < HEAD {
                    return Ok(None);
                }
                self.have = 0;
                self.begin(Head::read(self.head)?)
            }
            State::Body {
                kind,
                flags,
                length,
            } => {
                if self.body.capacity() < self.body.len() + bytes.len() {
                    // Doubles, but not beyond the length.
                    let more = self.body.len().max(bytes.len());
                    let more = more.min(length - self.body.len());
                    self.body.reserve_exact(more);
                }
                self.body.extend_from_slice(bytes);
                debug_assert!(self.body.len() <= length, "more than was wanted");
                if self.body.len() < length {
                    return Ok(None);
                }
                self.state = State::Head;
                let frame = Control::read(kind, flags, &self.body)?;
                Ok(frame.map(Frame::Control))
            }
            State::Data { .. } | State::Skip { .. } => {
                debug_assert!(false, "these bytes are not for the decoder");
                Ok(None)
            }
        }
    }

    /// Enters the state for the frame behind a head. A frame without payload is complete.
    fn begin(&mut self, head: Head) -> Result<Option<Frame<'_>>, Fault> {
        // Nothing is reserved because a head announces it: the body grows with its bytes.
        self.body.clear();
        if self.body.capacity() > KEPT {
            self.body = Vec::new();
        }
        let (state, frame) = match head {
            Head::Data {
                stream,
                fin,
                length: 0,
            } => (State::Head, Some(Frame::Data { stream, fin })),
            Head::Data {
                stream,
                fin,
                length,
            } => {
                let left = length as usize;
                (State::Data { stream, fin, left }, None)
            }
            Head::Control {
                kind: Kind::Skipped,
                length,
                ..
            } => match length as usize {
                0 => (State::Head, None),
                left => (State::Skip { left }, None),
            },
            // Every other control frame has a body of at least four bytes.
            Head::Control {
                kind,
                flags,
                length,
            } => {
                let length = length as usize;
                (
                    State::Body {
                        kind,
                        flags,
                        length,
                    },
                    None,
                )
            }
        };
        self.state = state;
        Ok(frame)
    }

    /// Notes that the caller has taken `n` bytes of data, or skipped them. Returns the DATA frame
    /// that they complete.
    #[inline]
    pub(crate) fn took(&mut self, n: usize) -> Option<Frame<'static>> {
        match &mut self.state {
            State::Data { stream, fin, left } => {
                debug_assert!(n <= *left, "more than was wanted");
                *left -= n;
                if *left > 0 {
                    return None;
                }
                let (stream, fin) = (*stream, *fin);
                self.state = State::Head;
                Some(Frame::Data { stream, fin })
            }
            State::Skip { left } => {
                debug_assert!(n <= *left, "more than was wanted");
                *left -= n;
                if *left == 0 {
                    self.state = State::Head;
                }
                None
            }
            State::Head | State::Body { .. } => {
                debug_assert!(n == 0, "these bytes are for the decoder");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spdy::{
        fixture::{UP, bytes, up},
        frame::MAX_HEADER_BLOCK,
    };

    /// Decodes bytes in pieces of `cut`, into one line a frame.
    fn frames(mut stream: &[u8], cut: usize) -> Result<Vec<String>, Fault> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        let mut data = Vec::new();
        while !stream.is_empty() {
            let most = cut.min(stream.len());
            let (piece, frame) = match decoder.want() {
                Want::Bytes(wanted) => {
                    let n = wanted.min(most);
                    let frame = decoder.feed(&stream[..n])?;
                    (n, frame.map(|frame| format!("{frame:?}")))
                }
                Want::Data { left, .. } => {
                    let n = left.min(most);
                    data.extend_from_slice(&stream[..n]);
                    (n, decoder.took(n).map(|frame| format!("{frame:?}")))
                }
                Want::Skip { left } => {
                    let n = left.min(most);
                    assert!(decoder.took(n).is_none());
                    (n, None)
                }
            };
            stream = &stream[piece..];
            if let Some(mut frame) = frame {
                if !data.is_empty() {
                    frame += &format!(" {}", data.len());
                    data.clear();
                }
                out.push(frame);
            }
        }
        assert!(decoder.is_between_frames());
        Ok(out)
    }

    #[test]
    fn the_recorded_session_cut_anywhere() {
        let stream = up();
        let whole = frames(&stream, usize::MAX).unwrap();
        assert_eq!(whole.len(), UP.len());
        assert!(whole[0].starts_with("Control(SynStream { stream: 1,"));
        assert_eq!(whole[1], "Data { stream: 1, fin: true }");
        assert_eq!(whole[3], "Data { stream: 3, fin: false } 81");
        assert_eq!(whole[10], "Control(Ping { id: 1 })");
        assert_eq!(whole[11], "Control(GoAway)");
        for cut in [1, 2, 3, 4, 5, 7, 8, 9, 64] {
            assert_eq!(frames(&stream, cut).unwrap(), whole, "{cut}");
        }
    }

    #[test]
    fn frames_without_a_meaning_are_skipped() {
        // SETTINGS with a count above its length, WINDOW_UPDATE on stream 0, an unknown type.
        let stream = bytes(
            "8003000400000004ffffffff\
             80030009000000080000000000010000\
             80030063000000025555\
             8003006300000000\
             800300060000000400000001",
        );
        for cut in [1, 5, 100] {
            assert_eq!(frames(&stream, cut).unwrap(), ["Control(Ping { id: 1 })"]);
        }
    }

    #[test]
    fn data_of_16_mib_reserves_nothing() {
        let mut decoder = Decoder::new();
        let frame = decoder.feed(&bytes("0000000300ffffff")).unwrap();
        assert!(frame.is_none());
        let left = 0xff_ffff;
        assert_eq!(decoder.want(), Want::Data { stream: 3, left });
        assert_eq!(decoder.body.capacity(), 0);
    }

    #[test]
    fn a_block_above_the_bound_is_refused_at_its_head() {
        let length = (10 + MAX_HEADER_BLOCK + 1) as u32;
        let mut head = bytes("80030001");
        head.extend(length.to_be_bytes());
        assert!(Decoder::new().feed(&head).is_err());
    }

    #[test]
    fn a_body_grows_to_its_length_and_not_beyond() {
        let length = 5_010;
        let mut decoder = Decoder::new();
        let mut head = bytes("80030001");
        head.extend((length as u32).to_be_bytes());
        decoder.feed(&head).unwrap();
        for piece in vec![1; length - 1].chunks(128) {
            assert!(decoder.feed(piece).unwrap().is_none());
            assert!(decoder.body.capacity() <= (2 * decoder.body.len()).min(length));
        }
    }

    #[test]
    fn a_large_body_is_not_kept() {
        let mut stream = bytes("80030001");
        stream.extend(5_010_u32.to_be_bytes());
        stream.extend(vec![1; 5_010]);
        let mut decoder = Decoder::new();
        assert!(decoder.feed(&stream[..8]).unwrap().is_none());
        assert!(decoder.feed(&stream[8..]).unwrap().is_some());
        assert!(decoder.feed(&bytes("0000000101000000")).unwrap().is_some());
        assert_eq!(decoder.body.capacity(), 0);
    }
}
