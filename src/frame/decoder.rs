use std::{fmt, str};

use super::{
    close,
    error::FrameError,
    header::{self, FIN, Header, MASK, MAX_CONTROL, MAX_HEAD, OpCode, Parsed, Role, array},
    mask::{Key, Masked},
    sink::{Control, MessageKind, Sink},
    utf8::Utf8,
};

/// Turns received bytes into messages and control frames as they arrive.
///
/// Between two calls the decoder keeps at most the head of a frame or the payload of a control
/// frame, inline and never on the heap. Binary payload is passed on straight from the input, still
/// masked. Text is unmasked on the stack, because only plain text can be checked.
///
/// ```text
///                 data head                   control head
///   Payload <---------------------- Head ----------------------> Control
///      |  last byte of the frame     ^      last byte: Ping, Pong   |
///      +-----------------------------+------------------------------+
///                                                                   | Close
///   Over <----------------------------------------------------------+
///     ^------ any error, from any state
/// ```
pub(crate) struct Decoder {
    max_frame: u64,
    /// `u64::MAX` means no limit, because the RFC keeps every frame below it.
    max_message: u64,
    /// The payload length of the current message, as its heads have announced so far.
    message_len: u64,
    /// The length of the current frame's payload that is still to come.
    left: u64,
    /// The key for the next byte of that payload.
    key: Key,
    /// Empty between messages, because no message ends inside a character.
    utf8: Utf8,
    /// The beginning of a head, or of a control frame's payload.
    held: [u8; HELD],
    held_len: u8,
    /// The largest payload for the fused step, with all limits taken into account.
    max_whole: u8,
    role: Role,
    state: State,
    /// The message that has begun but not ended, which is set between its fragments too.
    message: Option<MessageKind>,
    /// The current data frame is the last one of its message.
    fin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a frame, or inside its head.
    Head,
    /// Inside a data frame, with at least one byte of payload to come.
    Payload,
    /// Inside a control frame, with at least one byte of payload to come.
    Control(OpCode),
    /// After a Close frame or an error. The rest of the input is ignored.
    Over,
}

/// A head and a control payload are never held at the same time.
const HELD: usize = if MAX_CONTROL > MAX_HEAD {
    MAX_CONTROL
} else {
    MAX_HEAD
};

/// The number of bytes of text that are unmasked and checked at a time. The buffer is on the stack
/// and has to be cleared, which short text pays for as well.
const TEXT_PIECE: usize = 2048;

/// The largest payload that takes the fused step. Up to this length, which fits into the second
/// byte of a frame, the head has a fixed length.
const MAX_WHOLE: usize = MAX_CONTROL;

/// The first byte of an unfragmented message.
const WHOLE_TEXT: u8 = FIN | OpCode::Text as u8;
const WHOLE_BINARY: u8 = FIN | OpCode::Binary as u8;

impl Decoder {
    /// Creates a decoder with limits for the payload of data frames and of messages.
    ///
    /// A limit is enforced at the head that exceeds it. Control frames are bounded by the RFC.
    pub(crate) fn new(role: Role, max_frame: u64, max_message: Option<u64>) -> Decoder {
        let max_message = max_message.unwrap_or(u64::MAX);
        Decoder {
            max_frame,
            max_message,
            message_len: 0,
            left: 0,
            key: Key::NONE,
            utf8: Utf8::default(),
            held: [0; HELD],
            held_len: 0,
            max_whole: max_frame.min(max_message).min(MAX_WHOLE as u64) as u8,
            role,
            state: State::Head,
            message: None,
            fin: false,
        }
    }

    /// Returns whether a message has begun but not ended.
    #[cfg(any(test, feature = "__fuzz"))]
    pub(crate) fn in_message(&self) -> bool {
        self.message.is_some()
    }

    /// Decodes `input`, and returns how many bytes of it were consumed.
    ///
    /// Bytes are left over only if the sink had no room for them. They must be passed again, before
    /// the input that follows them. After a Close frame all input is consumed and ignored.
    ///
    /// # Errors
    /// Returns a fault of the peer, or an error of the sink. Later input is consumed and ignored.
    #[inline]
    pub(crate) fn decode<S: Sink>(
        &mut self,
        input: &[u8],
        sink: &mut S,
    ) -> Result<usize, S::Error> {
        let result = self.run(input, sink);
        if result.is_err() {
            self.state = State::Over;
        }
        result
    }

    #[inline]
    fn run<S: Sink>(&mut self, input: &[u8], sink: &mut S) -> Result<usize, S::Error> {
        let mut rest = input;
        while !rest.is_empty() {
            match self.state {
                State::Head => {
                    if self.held_len == 0 && self.message.is_none() {
                        rest = self.whole_messages(rest, sink)?;
                        if rest.is_empty() {
                            break;
                        }
                    }
                    self.head(&mut rest, sink)?;
                }
                State::Payload => {
                    if !self.payload(&mut rest, sink)? {
                        break;
                    }
                }
                State::Control(opcode) => self.control(opcode, &mut rest, sink)?,
                State::Over => return Ok(input.len()),
            }
        }
        Ok(input.len() - rest.len())
    }

    /// Decodes whole, short, unfragmented messages one after the other, without checking the state
    /// in between. This is the fused step.
    ///
    /// Returns the rest of the input, from the first byte that is not part of such a message. The
    /// slow path decides whether that is valid.
    #[inline]
    fn whole_messages<'a, S: Sink>(
        &self,
        mut rest: &'a [u8],
        sink: &mut S,
    ) -> Result<&'a [u8], S::Error> {
        let (mask, head_len) = match self.role {
            Role::Server => (MASK, 6),
            Role::Client => (0, 2),
        };
        while let [first, second, ..] = *rest {
            let kind = match first {
                WHOLE_BINARY => MessageKind::Binary,
                WHOLE_TEXT => MessageKind::Text,
                _ => break,
            };
            // A wrong mask bit makes `len` larger than every limit. The subtraction does the same
            // for an empty message, which has no piece.
            let len = second ^ mask;
            if len.wrapping_sub(1) >= self.max_whole {
                break;
            }
            let Some((frame, tail)) = rest.split_at_checked(head_len + usize::from(len)) else {
                break;
            };
            let key = match self.role {
                Role::Server => Key::new(array(&frame[2..6])),
                Role::Client => Key::NONE,
            };
            let piece = Masked::new(&frame[head_len..], key);
            let taken = match kind {
                MessageKind::Binary => sink.message(kind, piece)?,
                MessageKind::Text => {
                    let mut text = [0; MAX_WHOLE];
                    let text = piece.copy_to(&mut text);
                    str::from_utf8(text).map_err(|_| FrameError::Utf8)?;
                    sink.message(kind, Masked::plain(text))?
                }
            };
            if !taken {
                break;
            }
            rest = tail;
        }
        Ok(rest)
    }

    #[inline]
    fn head<S: Sink>(&mut self, rest: &mut &[u8], sink: &mut S) -> Result<(), S::Error> {
        if self.held_len == 0
            && let Parsed::Head(header, len) = header::parse(rest, self.role)?
        {
            *rest = &rest[len..];
            return self.start(header, sink);
        }
        // The end of a read has cut the head. This is rare, so it does not matter that a few more
        // bytes are copied, or that the first two bytes are parsed twice.
        loop {
            let have = usize::from(self.held_len);
            match header::parse(&self.held[..have], self.role)? {
                Parsed::Head(header, _) => {
                    self.held_len = 0;
                    return self.start(header, sink);
                }
                Parsed::Need(_) if rest.is_empty() => return Ok(()),
                Parsed::Need(len) => {
                    self.hold(len - have, rest);
                }
            }
        }
    }

    /// Moves up to `n` bytes into `held`, and returns how many were moved.
    fn hold(&mut self, n: usize, rest: &mut &[u8]) -> usize {
        let (bytes, tail) = rest.split_at(n.min(rest.len()));
        let have = usize::from(self.held_len);
        self.held[have..have + bytes.len()].copy_from_slice(bytes);
        self.held_len += bytes.len() as u8;
        *rest = tail;
        bytes.len()
    }

    /// Starts a frame, after a check against earlier frames and the limits.
    #[inline]
    fn start<S: Sink>(&mut self, header: Header, sink: &mut S) -> Result<(), S::Error> {
        self.key = header.key;
        self.left = header.len;
        let begins = match (header.opcode, self.message) {
            (OpCode::Close | OpCode::Ping | OpCode::Pong, _) => {
                self.state = State::Control(header.opcode);
                if header.len == 0 {
                    self.control(header.opcode, &mut &[][..], sink)?;
                }
                return Ok(());
            }
            (OpCode::Continuation, Some(_)) => None,
            (OpCode::Continuation, None) => {
                return Err(FrameError::Protocol("continuation of no message").into());
            }
            (OpCode::Text, None) => Some(MessageKind::Text),
            (OpCode::Binary, None) => Some(MessageKind::Binary),
            (OpCode::Text | OpCode::Binary, Some(_)) => {
                return Err(FrameError::Protocol("new message inside a fragmented one").into());
            }
        };
        if begins.is_some() {
            self.message_len = 0;
        }
        // Saturates, because a message without a limit may be endless. Its length is not used then.
        self.message_len = self.message_len.saturating_add(header.len);
        if header.len > self.max_frame || self.message_len > self.max_message {
            return Err(FrameError::TooLarge.into());
        }
        if let Some(kind) = begins {
            self.message = Some(kind);
            sink.begin(kind)?;
        }
        self.fin = header.fin;
        if header.len == 0 {
            return self.end_of_frame(sink);
        }
        self.state = State::Payload;
        Ok(())
    }

    /// Passes on as much payload as the sink has room for. Returns `false` if it has none.
    #[inline]
    fn payload<S: Sink>(&mut self, rest: &mut &[u8], sink: &mut S) -> Result<bool, S::Error> {
        if self.message == Some(MessageKind::Text) {
            return self.text(rest, sink);
        }
        let piece = self.take(rest, sink.room());
        if piece.is_empty() {
            return Ok(false);
        }
        sink.payload(piece)?;
        if self.left == 0 {
            self.end_of_frame(sink)?;
        }
        Ok(true)
    }

    /// Passes on text.
    ///
    /// One buffer serves a whole frame, because it has to be cleared. A separate function keeps it
    /// off the stack of the other paths.
    #[inline(never)]
    fn text<S: Sink>(&mut self, rest: &mut &[u8], sink: &mut S) -> Result<bool, S::Error> {
        let mut buffer = [0; TEXT_PIECE];
        while self.left > 0 && !rest.is_empty() {
            // The piece is cut to the room before it is checked: the bytes for which there is no
            // room are passed again later, and must not be checked twice.
            let piece = self.take(rest, sink.room().min(TEXT_PIECE));
            if piece.is_empty() {
                return Ok(false);
            }
            let text = piece.copy_to(&mut buffer);
            self.utf8.push(text)?;
            sink.payload(Masked::plain(text))?;
        }
        if self.left == 0 {
            self.end_of_frame(sink)?;
        }
        Ok(true)
    }

    /// Takes the next piece of payload, at most `room` bytes.
    #[inline]
    fn take<'a>(&mut self, rest: &mut &'a [u8], room: usize) -> Masked<'a> {
        // Compared as `u64`, because a frame may be larger than the address space.
        let n = self.left.min(room.min(rest.len()) as u64) as usize;
        let (piece, tail) = rest.split_at(n);
        let piece = Masked::new(piece, self.key);
        self.key = self.key.after(n);
        self.left -= n as u64;
        *rest = tail;
        piece
    }

    #[inline]
    fn end_of_frame<S: Sink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.state = State::Head;
        if self.fin {
            // This always succeeds for a binary message, which was not checked.
            self.utf8.finish()?;
            self.message = None;
            sink.end()?;
        }
        Ok(())
    }

    /// Collects a control frame in `held`, even if it arrived in one piece: it is short, and has to
    /// be unmasked somewhere.
    fn control<S: Sink>(
        &mut self,
        opcode: OpCode,
        rest: &mut &[u8],
        sink: &mut S,
    ) -> Result<(), S::Error> {
        // At most 125 bytes, because a head with more was refused.
        self.left -= self.hold(self.left as usize, rest) as u64;
        if self.left > 0 {
            return Ok(());
        }
        let payload = &mut self.held[..usize::from(self.held_len)];
        self.held_len = 0;
        self.state = State::Head;
        self.key.apply(payload);
        match opcode {
            OpCode::Ping => sink.control(Control::Ping(payload)),
            OpCode::Pong => sink.control(Control::Pong(payload)),
            // The only other opcode that gets here is Close.
            _ => {
                self.state = State::Over;
                sink.control(Control::Close(close::parse(payload)?))
            }
        }
    }
}

/// Leaves out `held`, which may contain payload.
impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("role", &self.role)
            .field("state", &self.state)
            .field("message", &self.message)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::fixture::{Event, Form, Frame, Recorder, feed, wire};

    const NO_LIMIT: u64 = u64::MAX;

    fn server() -> Decoder {
        Decoder::new(Role::Server, NO_LIMIT, None)
    }

    fn text(text: &str) -> Event {
        Event::Text(text.into())
    }

    /// Decodes `bytes` in one piece and then byte by byte, and checks that the events are the same.
    fn decode_with(new: impl Fn() -> Decoder, bytes: &[u8]) -> Result<Vec<Event>, FrameError> {
        let every_byte: Vec<usize> = (0..bytes.len()).collect();
        let [at_once, by_bytes] = [&[][..], &every_byte].map(|cuts| {
            let mut recorder = Recorder::default();
            feed(&mut new(), &mut recorder, bytes, cuts).map(|()| recorder.events)
        });
        assert_eq!(at_once, by_bytes);
        at_once
    }

    fn decode(frames: &[Frame]) -> Result<Vec<Event>, FrameError> {
        decode_with(server, &wire(frames))
    }

    fn is_protocol<T>(result: Result<T, FrameError>) -> bool {
        matches!(result, Err(FrameError::Protocol(_)))
    }

    /// RFC 6455, 5.7.
    #[test]
    fn the_examples_of_the_rfc() {
        let client = || Decoder::new(Role::Client, NO_LIMIT, None);
        let hello = b"\x81\x05\x48\x65\x6c\x6c\x6f";
        assert_eq!(decode_with(client, hello).unwrap(), [text("Hello")]);
        let fragments = b"\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f";
        assert_eq!(decode_with(client, fragments).unwrap(), [text("Hello")]);
        let ping = b"\x89\x05\x48\x65\x6c\x6c\x6f";
        assert_eq!(
            decode_with(client, ping).unwrap(),
            [Event::Ping(b"Hello".into())]
        );
        let masked = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(decode_with(server, masked).unwrap(), [text("Hello")]);
        let pong = b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
        assert_eq!(
            decode_with(server, pong).unwrap(),
            [Event::Pong(b"Hello".into())]
        );

        assert!(is_protocol(decode_with(server, hello)));
        assert!(is_protocol(decode_with(client, masked)));
    }

    #[test]
    fn messages_around_each_length_form() {
        for len in [0, 1, 124, 125, 126, 127, 2047, 2048, 2049, 65_535, 65_536] {
            for (opcode, event) in [
                (1, Event::Text as fn(Vec<u8>) -> Event),
                (2, Event::Binary as fn(Vec<u8>) -> Event),
            ] {
                let payload: Vec<u8> = (0..len).map(|i| (i % 128) as u8).collect();
                let message = Frame::new(true, opcode, payload.clone());
                let events = decode(&[message.clone(), message]).unwrap();
                assert_eq!(events, [event(payload.clone()), event(payload)]);
            }
        }
    }

    #[test]
    fn short_messages_come_whole_and_the_others_as_they_are_in_the_input() {
        let mut recorder = Recorder::default();
        let lens = [125, 126, 1, 70_000];
        let frames = lens.map(|len| Frame::new(true, 2, vec![7; len]));
        let mut decoder = server();
        feed(&mut decoder, &mut recorder, &wire(&frames), &[]).unwrap();
        assert_eq!(recorder.pieces, lens);

        recorder.pieces.clear();
        let frame = wire(&[Frame::new(true, 1, vec![b'x'; 10_000])]);
        feed(&mut decoder, &mut recorder, &frame, &[20]).unwrap();
        // 12 bytes after a head of 8, then a buffer of text at a time.
        assert_eq!(recorder.pieces, [12, 2048, 2048, 2048, 2048, 1796]);
    }

    #[test]
    fn control_frames_between_fragments_come_at_once() {
        let events = decode(&[
            Frame::new(false, 1, "Hel"),
            Frame::new(true, 9, "ping"),
            Frame::new(false, 0, "l"),
            Frame::new(true, 10, ""),
            Frame::new(true, 0, "o"),
            Frame::new(true, 8, *b"\x03\xe8bye"),
        ]);
        assert_eq!(
            events.unwrap(),
            [
                Event::Ping(b"ping".into()),
                Event::Pong(Vec::new()),
                text("Hello"),
                Event::Close(Some((1000, "bye".into()))),
            ]
        );
    }

    #[test]
    fn empty_messages_and_fragments_begin_and_end() {
        let frames = [
            Frame::new(true, 1, ""),
            Frame::new(true, 2, ""),
            Frame::new(false, 2, ""),
            Frame::new(false, 0, ""),
            Frame::new(true, 0, ""),
            Frame::new(false, 1, ""),
            Frame::new(true, 0, "x"),
        ];
        let empty = Event::Binary(Vec::new());
        assert_eq!(
            decode(&frames).unwrap(),
            [text(""), empty.clone(), empty, text("x")]
        );
    }

    #[test]
    fn fragments_are_continued_and_nothing_else_is() {
        assert!(is_protocol(decode(&[Frame::new(true, 0, "x")])));
        assert!(is_protocol(decode(&[
            Frame::new(true, 1, "x"),
            Frame::new(false, 0, "y")
        ])));
        for opcode in [1, 2] {
            for payload in ["", "short", &"l".repeat(200)] {
                let frames = [Frame::new(false, 2, "x"), Frame::new(true, opcode, payload)];
                assert!(is_protocol(decode(&frames)));
            }
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_at_its_head() {
        for limit in [0, 1, 124, 125, 126, 127, 65_535, 65_536, 70_000] {
            for opcode in [1, 2] {
                let limited = || Decoder::new(Role::Server, limit, None);
                for len in limit.saturating_sub(1)..=limit + 1 {
                    let frame = Frame::new(true, opcode, vec![b'x'; len as usize]);
                    let bytes = wire(&[frame]);
                    let head = bytes.len() - len as usize;
                    assert_eq!(decode_with(limited, &bytes).is_ok(), len <= limit);
                    let expected = if len <= limit {
                        Ok(())
                    } else {
                        Err(FrameError::TooLarge)
                    };
                    let at_head = decode_with(limited, &bytes[..head]).map(drop);
                    assert_eq!(at_head, expected, "{len} of {limit}");
                    assert_eq!(decode_with(limited, &bytes[..head - 1]), Ok(vec![]));
                }
            }
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused_at_the_head_that_passes_it() {
        let limited = || Decoder::new(Role::Server, NO_LIMIT, Some(100));
        for (len, fits) in [(99, true), (100, true), (101, false)] {
            let whole = wire(&[Frame::new(true, 2, vec![1; len])]);
            assert_eq!(decode_with(limited, &whole).is_ok(), fits);

            let fragments = [
                Frame::new(false, 2, vec![1; 60]),
                Frame::new(false, 0, ""),
                Frame::new(true, 9, vec![1; 125]),
                Frame::new(true, 0, vec![1; len - 60]),
            ];
            // Twice, because a message must not be charged for the one before it.
            let bytes = wire(fragments.iter().chain(&fragments));
            assert_eq!(decode_with(limited, &bytes).is_ok(), fits);

            let mut recorder = Recorder::default();
            let mut head = wire(&fragments);
            head.truncate(head.len() - (len - 60));
            let refused = feed(&mut limited(), &mut recorder, &head, &[]).is_err();
            assert_eq!(refused, !fits);
            assert_eq!(recorder.open.unwrap().1.len(), 60);
        }
    }

    #[test]
    fn limits_are_for_data_and_endless_messages_do_not_overflow() {
        let none = || Decoder::new(Role::Server, 0, Some(0));
        let ping = wire(&[Frame::new(true, 9, vec![1; 125])]);
        assert_eq!(
            decode_with(none, &ping).unwrap(),
            [Event::Ping(vec![1; 125])]
        );

        let mut endless = server();
        endless.message_len = u64::MAX - 1;
        endless.message = Some(MessageKind::Binary);
        let mut recorder = Recorder::default();
        recorder.begin(MessageKind::Binary).unwrap();
        let frames = [Frame::new(false, 0, "abc"), Frame::new(true, 0, "d")];
        feed(&mut endless, &mut recorder, &wire(&frames), &[]).unwrap();
        assert_eq!(recorder.events, [Event::Binary(b"abcd".into())]);
    }

    #[test]
    fn an_announced_frame_costs_nothing_until_it_comes() {
        let mut frame = wire(&[Frame {
            form: Form::Bits64,
            ..Frame::new(true, 2, "")
        }]);
        frame[2..10].copy_from_slice(&(u64::MAX >> 1).to_be_bytes());
        frame.extend_from_slice(b"data");
        let mut recorder = Recorder::default();
        feed(&mut server(), &mut recorder, &frame, &[]).unwrap();
        assert_eq!(recorder.open.unwrap().1.len(), 4);
    }

    #[test]
    fn no_room_pauses_and_the_rest_comes_again() {
        for opcode in [1, 2] {
            let bytes = wire(&[
                Frame::new(true, opcode, vec![b'x'; 100]),
                Frame::new(true, 9, ""),
            ]);
            let mut recorder = Recorder::with_rooms([99, 0]);
            let mut decoder = server();
            // The head is consumed, and the payload is not.
            assert_eq!(decoder.decode(&bytes, &mut recorder), Ok(6));
            assert!(decoder.in_message());
            recorder.rooms = vec![0];
            assert_eq!(decoder.decode(&bytes[6..], &mut recorder), Ok(0));
            recorder.rooms = vec![30, 30, 0];
            assert_eq!(decoder.decode(&bytes[6..], &mut recorder), Ok(60));
            recorder.rooms = vec![40];
            assert_eq!(decoder.decode(&bytes[66..], &mut recorder), Ok(46));
            assert_eq!(recorder.pieces, [30, 30, 40]);
            assert_eq!(recorder.events.len(), 2);
            assert!(!decoder.in_message());
        }
    }

    #[test]
    fn room_may_end_inside_a_character() {
        let message = "\u{20ac}\u{1f600}\u{e9}".repeat(30);
        for room in 1..=7 {
            let mut recorder = Recorder::with_rooms([room, 0]);
            let bytes = wire(&[Frame::new(true, 1, message.as_bytes())]);
            feed(&mut server(), &mut recorder, &bytes, &[]).unwrap();
            assert_eq!(recorder.events, [text(&message)]);
        }
    }

    #[test]
    fn text_is_checked_across_fragments_and_before_their_end() {
        let euro = "\u{20ac}".as_bytes();
        let split = |last: &[u8]| {
            [
                Frame::new(false, 1, &euro[..1]),
                Frame::new(true, 9, ""),
                Frame::new(true, 0, last),
            ]
        };
        let expected = [Event::Ping(vec![]), text("\u{20ac}")];
        assert_eq!(decode(&split(&euro[1..])).unwrap(), expected);
        assert_eq!(decode(&split(&euro[1..2])), Err(FrameError::Utf8));
        assert_eq!(decode(&split(b"")), Err(FrameError::Utf8));
        assert_eq!(decode(&split(b"x")), Err(FrameError::Utf8));
        for len in [1, 125, 126, 5000] {
            let bad = [&vec![b'x'; len - 1][..], b"\xff"].concat();
            assert_eq!(
                decode(&[Frame::new(true, 1, bad.clone())]),
                Err(FrameError::Utf8)
            );
            assert!(decode(&[Frame::new(true, 2, bad)]).is_ok());
        }
        // The error comes without the bytes that follow the bad one.
        let mut bytes = wire(&[
            Frame::new(true, 1, *b"\xc3\x28 and more"),
            Frame::new(true, 1, ""),
        ]);
        bytes.truncate(8);
        assert_eq!(decode_with(server, &bytes), Err(FrameError::Utf8));
    }

    #[test]
    fn a_close_frame_is_checked_and_ends_everything() {
        let close = |payload: &[u8]| decode(&[Frame::new(true, 8, payload)]);
        assert_eq!(close(b"").unwrap(), [Event::Close(None)]);
        assert_eq!(
            close(b"\x0f\xa0").unwrap(),
            [Event::Close(Some((4000, String::new())))]
        );
        assert!(is_protocol(close(b"\x03")));
        assert!(is_protocol(close(b"\x03\xed")));
        assert_eq!(close(b"\x03\xe8\xff"), Err(FrameError::Utf8));

        let close = Frame::new(true, 8, "");
        let unmasked = Frame {
            key: None,
            ..Frame::new(true, 1, "x")
        };
        let events = decode(&[Frame::new(false, 1, "open"), close.clone(), unmasked, close]);
        assert_eq!(events.unwrap(), [Event::Close(None)]);
    }

    #[test]
    fn nothing_is_decoded_after_an_error() {
        let mut decoder = server();
        let mut recorder = Recorder::default();
        assert!(is_protocol(decoder.decode(b"\xff\xff", &mut recorder)));
        let good = wire(&[Frame::new(true, 1, "late")]);
        assert_eq!(decoder.decode(&good, &mut recorder), Ok(good.len()));
        assert_eq!(recorder.events, []);
    }

    #[test]
    fn a_decoder_is_small() {
        // Each session keeps one for as long as it lives.
        assert!(size_of::<Decoder>() <= 200, "{}", size_of::<Decoder>());
    }
}
