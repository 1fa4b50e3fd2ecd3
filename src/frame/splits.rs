//! Every place at which a read can cut a frame, for each kind of frame and each form of its head.
//!
//! The oracle is the frame itself. After each byte, exactly the payload that has arrived was passed
//! on, and the frame is reported with its last byte. A frame with a fault is refused at the byte that
//! shows the fault, and at no other.

use super::{
    Decoder, FrameError, MessageKind, Role,
    fixture::{Event, Form, Frame, KEY, Recorder, feed, wire},
};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The first fragment of the message that a continuation belongs to.
const BEGUN: &[u8] = b"begun";

/// The largest frame that is cut at every byte. Longer ones are cut where a byte differs from its
/// neighbours: in the head, and around the ends of buffers and of the payload.
const CUT_EVERYWHERE: usize = 300;

fn decoder(role: Role) -> Decoder {
    Decoder::new(role, u64::MAX, None)
}

/// Returns the length of the head of a frame of the right form.
fn head_len(frame: &Frame) -> usize {
    let length = match (frame.form, frame.payload.len()) {
        (Form::Shortest, 0..=125) => 0,
        (Form::Shortest, 126..=0xffff) | (Form::Bits16, _) => 2,
        _ => 8,
    };
    2 + length + if frame.key.is_some() { 4 } else { 0 }
}

/// Returns the cuts of a frame with a head and a payload of this length.
fn cuts(head: usize, payload: usize) -> Vec<usize> {
    let len = head + payload;
    if len <= CUT_EVERYWHERE {
        return (0..=len).collect();
    }
    let around = |at: usize| (at.saturating_sub(3)..=at + 3).filter(|cut| *cut <= len);
    let ends = [2048, 4096, 16 * 1024, payload];
    (0..=head)
        .chain(ends.into_iter().flat_map(|end| around(head + end)))
        .collect()
}

/// A frame, and what it means behind what came before it.
struct Case {
    role: Role,
    before: Vec<Frame>,
    frame: Frame,
    /// The message that the frame belongs to, and its payload so far, unless it is a control frame.
    message: Option<(MessageKind, Vec<u8>)>,
}

impl Case {
    /// Returns a case for each kind of frame with a payload of this length, from each role.
    fn all(len: usize) -> Vec<Case> {
        let mut cases = Vec::new();
        for role in [Role::Server, Role::Client] {
            for (opcode, kind) in [(TEXT, MessageKind::Text), (BINARY, MessageKind::Binary)] {
                for fin in [true, false] {
                    let payload = payload(kind, len);
                    let begun = Frame::new(false, opcode, BEGUN);
                    let first = Frame::new(fin, opcode, payload.clone());
                    let later = Frame::new(fin, 0, payload);
                    cases.push((role, vec![], first, Some((kind, Vec::new()))));
                    cases.push((role, vec![begun], later, Some((kind, BEGUN.to_vec()))));
                }
            }
            if len <= 125 {
                for opcode in [PING, PONG] {
                    let frame = Frame::new(true, opcode, payload(MessageKind::Binary, len));
                    cases.push((role, vec![], frame, None));
                }
            }
            if len == 0 || (2..=125).contains(&len) {
                let mut body = payload(MessageKind::Text, len);
                body.iter_mut()
                    .zip(1000_u16.to_be_bytes())
                    .for_each(|(byte, code)| *byte = code);
                cases.push((role, vec![], Frame::new(true, CLOSE, body), None));
            }
        }
        let case = |(role, mut before, mut frame, message): (_, Vec<Frame>, Frame, _)| {
            let key = matches!(role, Role::Server).then_some(KEY);
            before.iter_mut().for_each(|frame| frame.key = key);
            frame.key = key;
            Case {
                role,
                before,
                frame,
                message,
            }
        };
        cases.into_iter().map(case).collect()
    }

    fn begin(&self) -> (Decoder, Recorder) {
        let (mut decoder, mut recorder) = (decoder(self.role), Recorder::default());
        feed(&mut decoder, &mut recorder, &wire(&self.before), &[]).unwrap();
        (decoder, recorder)
    }

    /// Checks what was passed on when this many bytes of the frame have arrived.
    fn check(&self, recorder: &Recorder, arrived: usize) {
        let Frame { opcode, .. } = self.frame;
        let head = head_len(&self.frame);
        let payload = &self.frame.payload[..arrived.saturating_sub(head)];
        let whole = arrived == head + self.frame.payload.len();
        let (mut open, mut events) = (None, vec![]);
        match &self.message {
            Some((kind, before)) => {
                let so_far = [&before[..], payload].concat();
                let has_begun = arrived >= head || !self.before.is_empty();
                match kind {
                    _ if !(whole && self.frame.fin) => {
                        open = has_begun.then_some((*kind, so_far));
                    }
                    MessageKind::Text => events.push(Event::Text(so_far)),
                    MessageKind::Binary => events.push(Event::Binary(so_far)),
                }
            }
            None if !whole => {}
            None => events.push(match opcode {
                PING => Event::Ping(payload.to_vec()),
                PONG => Event::Pong(payload.to_vec()),
                _ => Event::Close(payload.get(2..).map(|reason| {
                    let reason = String::from_utf8(reason.to_vec()).unwrap();
                    (1000, reason)
                })),
            }),
        }
        let what = format!(
            "{arrived} bytes of {opcode} with {}",
            self.frame.payload.len()
        );
        assert!(
            recorder.events == events,
            "{what}: {} events",
            recorder.events.len()
        );
        assert!(recorder.open == open, "{what}: another open message");
    }
}

/// Returns a payload in which each byte depends on its place.
fn payload(kind: MessageKind, len: usize) -> Vec<u8> {
    let most = match kind {
        MessageKind::Text => 127,
        MessageKind::Binary => 251,
    };
    (0..len).map(|at| (at % most) as u8).collect()
}

#[test]
fn a_frame_may_be_cut_anywhere() {
    for len in [0, 1, 2, 3, 124, 125, 126, 127, 65_535, 65_536] {
        for case in Case::all(len) {
            let bytes = wire([&case.frame]);
            for cut in cuts(head_len(&case.frame), len) {
                let (mut decoder, mut recorder) = case.begin();
                feed(&mut decoder, &mut recorder, &bytes[..cut], &[]).unwrap();
                case.check(&recorder, cut);
                feed(&mut decoder, &mut recorder, &bytes[cut..], &[]).unwrap();
                case.check(&recorder, bytes.len());
            }
        }
    }
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    for len in [0, 1, 2, 3, 124, 125, 126, 127, 3000] {
        for case in Case::all(len) {
            let (mut decoder, mut recorder) = case.begin();
            for (at, byte) in wire([&case.frame]).into_iter().enumerate() {
                case.check(&recorder, at);
                feed(&mut decoder, &mut recorder, &[byte], &[]).unwrap();
            }
            case.check(&recorder, head_len(&case.frame) + len);
        }
    }
}

/// Every pair of cuts, in the frame itself and in what follows it.
#[test]
fn two_frames_may_be_cut_twice() {
    for len in [0, 1, 3] {
        for case in Case::all(len).iter().filter(|case| case.frame.fin) {
            let next = Frame {
                key: case.frame.key,
                ..Frame::new(true, PING, "next")
            };
            let bytes = wire([&case.frame, &next]);
            let first = head_len(&case.frame) + len;
            for one in 0..=bytes.len() {
                for other in one..=bytes.len() {
                    let (mut decoder, mut recorder) = case.begin();
                    feed(&mut decoder, &mut recorder, &bytes, &[one, other]).unwrap();
                    // Nothing is reported behind a Close.
                    if case.frame.opcode != CLOSE {
                        let last = recorder.events.pop();
                        assert_eq!(last, Some(Event::Ping(b"next".into())), "{one}, {other}");
                    }
                    case.check(&recorder, first);
                }
            }
        }
    }
}

/// The bytes of a stream, the place of the byte that shows a fault, and the fault.
type Fault = (Vec<u8>, usize, FrameError);

fn faults() -> Vec<Fault> {
    let mut faults: Vec<Fault> = Vec::new();
    let mut fault = |before: &[Frame], frame: Frame, at: Option<usize>, error| {
        let start = wire(before);
        let at = start.len() + at.unwrap_or_else(|| head_len(&frame));
        faults.push(([start, wire([&frame])].concat(), at, error));
    };
    let data = |len: usize| Frame::new(true, BINARY, vec![7; len]);
    let rule = FrameError::Protocol;
    // The first two bytes show these.
    for reserved in 1..8 {
        let frame = Frame {
            reserved,
            ..data(300)
        };
        fault(&[], frame, Some(2), rule("reserved bit set"));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let frame = Frame { opcode, ..data(5) };
        fault(&[], frame, Some(2), rule("reserved opcode"));
    }
    for frame in [data(0), data(5), data(300), Frame::new(true, PING, "x")] {
        let frame = Frame { key: None, ..frame };
        fault(&[], frame, Some(2), rule("unmasked frame from a client"));
    }
    for opcode in [CLOSE, PING, PONG] {
        let part = Frame::new(false, opcode, "");
        fault(&[], part, Some(2), rule("fragmented control frame"));
        for len in [126, 65_536] {
            let frame = Frame::new(true, opcode, vec![b'x'; len]);
            fault(&[], frame, Some(2), rule("control frame above 125 bytes"));
        }
    }
    // The whole head shows these.
    for (form, len) in [
        (Form::Bits16, 0),
        (Form::Bits16, 125),
        (Form::Bits64, 0),
        (Form::Bits64, 126),
        (Form::Bits64, 65_535),
    ] {
        let frame = Frame { form, ..data(len) };
        fault(&[], frame, None, rule("length not in its shortest form"));
    }
    let frame = Frame {
        form: Form::HighBit,
        ..data(70_000)
    };
    fault(&[], frame, None, rule("highest bit of a length set"));
    for len in [0, 5, 126] {
        let frame = Frame::new(true, 0, vec![7; len]);
        fault(&[], frame, None, rule("continuation of no message"));
        let open = [Frame::new(false, TEXT, "open")];
        let inside = rule("new message inside a fragmented one");
        fault(&open, data(len), None, inside);
    }
    // A byte of the payload shows these, or the last byte of the frame.
    for (text, at) in [
        (&b"ab\xff and more"[..], 3),
        (b"\xed\xa0\x80", 2),
        (b"\xf4\x90\x80\x80", 2),
        (b"\xc3(", 2),
    ] {
        let frame = Frame::new(true, TEXT, text);
        fault(&[], frame, Some(6 + at), FrameError::Utf8);
    }
    for text in [&b"\xc3"[..], b"ab\xf0\x9f\x98"] {
        let frame = Frame::new(true, TEXT, text);
        fault(&[], frame, Some(6 + text.len()), FrameError::Utf8);
    }
    for (body, error) in [
        (&b"\x03"[..], rule("Close frame with half a code")),
        (
            b"\x03\xed",
            rule("Close frame with a code that must not be sent"),
        ),
        (b"\x03\xe8ab\xff", FrameError::Utf8),
    ] {
        let frame = Frame::new(true, CLOSE, body);
        fault(&[], frame, Some(6 + body.len()), error);
    }
    faults
}

#[test]
fn a_fault_is_refused_at_the_byte_that_shows_it() {
    for (bytes, at, expected) in faults() {
        let end = bytes.len().min(at + 20);
        for cut in 0..=end {
            let (mut decoder, mut recorder) = (decoder(Role::Server), Recorder::default());
            let first = feed(&mut decoder, &mut recorder, &bytes[..cut], &[]);
            if cut < at {
                assert_eq!(first, Ok(()), "{expected:?}: {cut} of {at}");
                let second = feed(&mut decoder, &mut recorder, &bytes[cut..end], &[]);
                assert_eq!(second, Err(expected), "{cut} of {at}");
            } else {
                assert_eq!(first, Err(expected), "{cut} of {at}");
            }
        }
    }
}
