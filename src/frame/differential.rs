//! Random streams from a client, fed to our decoder and to tungstenite, which share no code.
//!
//! A stream is valid or has exactly one defect. Both decoders must report the same messages and
//! control frames, in the same order, and then the same class of error. Our decoder gets the bytes
//! cut at random places, and a sink whose room is random.
//!
//! In all known differences but the last, our decoder is the stricter one. [`Defect::oracle`]
//! states them as code. tungstenite 0.30
//! - accepts lengths that are not in their shortest form, including control frames with a length of
//!   16 or 64 bits (RFC 6455, 5.2);
//! - takes a length with its highest bit set for a large length, and reports a size error;
//! - accepts a Close code that must not be on the wire, and reports it as 1002;
//! - checks reserved bits, masking, the size of a control frame, the order of fragments and the
//!   size of a message only when the whole frame has arrived, so it reports no error for a stream
//!   that ends inside such a frame;
//! - does not know code 1014, which IANA has registered since. We accept it.

use std::io::{self, Cursor, Read, Write};

use proptest::{collection::vec, option, prelude::*, sample::Index};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    error::ProtocolError,
    protocol::{Role as OracleRole, WebSocket, WebSocketConfig},
};

use super::{
    Decoder, FrameError, Role,
    fixture::{Event, Form, Frame, Recorder, feed, wire},
};

/// The limit for frames and messages. It is larger than all valid ones in these tests, and cheap to
/// exceed.
const MAX_FRAME: usize = 70_000;
const MAX_MESSAGE: usize = 80_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Protocol,
    Size,
    Utf8,
}

#[derive(Clone, Debug)]
enum Defect {
    ReservedBits(u8),
    ReservedOpcode(u8),
    Unmasked,
    FragmentedControl,
    LongControl(usize),
    /// A continuation without a message, or a new message inside of another.
    WrongSequence,
    LongForm(Form, usize),
    LongFormControl(Form),
    HighBit,
    /// The text, and whether it is in two fragments.
    BadText(Vec<u8>, bool),
    CloseOneByte,
    CloseCode(u16),
    CloseReason,
    LargeFrame,
    LargeMessage,
}

impl Defect {
    /// Returns what our decoder must report.
    fn class(&self) -> Class {
        match self {
            Defect::BadText(..) | Defect::CloseReason => Class::Utf8,
            Defect::LargeFrame | Defect::LargeMessage => Class::Size,
            _ => Class::Protocol,
        }
    }

    /// Returns what tungstenite must report, in the same terms.
    fn oracle(&self) -> Option<Class> {
        match self {
            Defect::LongForm(..)
            | Defect::LongFormControl(_)
            | Defect::HighBit
            | Defect::CloseCode(_) => None,
            _ => Some(self.class()),
        }
    }

    /// Puts the defect into a valid stream, at or near the boundary `at`.
    fn apply(&self, frames: &mut Vec<Frame>, at: Index) {
        let boundary = at.index(frames.len() + 1);
        let open = is_open(&frames[..boundary]);
        // A data frame that is valid in its place, apart from its defect.
        let data = |payload: Vec<u8>| Frame::new(!open, if open { 0 } else { 2 }, payload);
        let insert = match self {
            // The first two damage a frame of the stream, if there is one.
            Defect::ReservedBits(bits) => {
                if frames.is_empty() {
                    frames.push(data(vec![]));
                }
                let at = at.index(frames.len());
                frames[at].reserved = *bits;
                return;
            }
            Defect::Unmasked => {
                if frames.is_empty() {
                    frames.push(data(vec![]));
                }
                let at = at.index(frames.len());
                frames[at].key = None;
                return;
            }
            Defect::BadText(text, fragmented) => {
                // If the place is inside another message, the text goes to the end of that.
                let boundary = (boundary..=frames.len()).find(|at| !is_open(&frames[..*at]));
                let bad = if *fragmented {
                    let (first, rest) = text.split_at(text.len() / 2);
                    vec![Frame::new(false, 1, first), Frame::new(true, 0, rest)]
                } else {
                    vec![Frame::new(true, 1, &text[..])]
                };
                let boundary = boundary.unwrap();
                frames.splice(boundary..boundary, bad);
                return;
            }
            Defect::LargeMessage => {
                let boundary = (boundary..=frames.len()).find(|at| !is_open(&frames[..*at]));
                let halves = [
                    Frame::new(false, 2, vec![0; MAX_FRAME]),
                    Frame::new(true, 9, ""),
                    Frame::new(true, 0, vec![0; MAX_MESSAGE - MAX_FRAME + 1]),
                ];
                let boundary = boundary.unwrap();
                frames.splice(boundary..boundary, halves);
                return;
            }
            Defect::ReservedOpcode(opcode) => Frame {
                opcode: *opcode,
                ..data(vec![])
            },
            Defect::FragmentedControl => Frame::new(false, 9, "part"),
            Defect::LongControl(len) => Frame::new(true, 10, vec![b'x'; *len]),
            Defect::WrongSequence => Frame::new(true, if open { 1 } else { 0 }, "out of place"),
            Defect::LongForm(form, len) => Frame {
                form: *form,
                ..data(vec![3; *len])
            },
            Defect::LongFormControl(form) => Frame {
                form: *form,
                ..Frame::new(true, 9, "ping")
            },
            Defect::HighBit => Frame {
                form: Form::HighBit,
                ..data(vec![3; 5])
            },
            Defect::CloseOneByte => Frame::new(true, 8, *b"\x03"),
            Defect::CloseCode(code) => Frame::new(true, 8, code.to_be_bytes()),
            Defect::CloseReason => Frame::new(true, 8, *b"\x03\xe8\xe2\x82"),
            Defect::LargeFrame => data(vec![0; MAX_FRAME + 1]),
        };
        frames.insert(boundary, insert);
    }
}

/// Returns whether a message is open after these frames.
fn is_open(frames: &[Frame]) -> bool {
    frames
        .iter()
        .rev()
        .find(|frame| !frame.is_control())
        .is_some_and(|frame| !frame.fin)
}

fn key() -> impl Strategy<Value = [u8; 4]> {
    prop_oneof![9 => any::<[u8; 4]>(), 1 => Just([0; 4])]
}

/// Returns lengths of every form, and those around the borders between the forms.
fn len() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..=8_usize,
        8 => 9..=300_usize,
        4 => 120..=130_usize,
        2 => 4_000..=9_000_usize,
        1 => 65_530..=65_541_usize,
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    (any::<String>(), len()).prop_map(|(text, len)| {
        let times = if text.is_empty() {
            0
        } else {
            len / text.len() + 1
        };
        text.repeat(times).into_bytes()
    })
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 1..40), len())
        .prop_map(|(seed, len)| seed.into_iter().cycle().take(len).collect())
}

fn control() -> impl Strategy<Value = Frame> {
    let payload = prop_oneof![vec(any::<u8>(), 0..=20), vec(any::<u8>(), 123..=125)];
    (9..=10_u8, payload, key()).prop_map(|(opcode, payload, key)| Frame {
        key: Some(key),
        ..Frame::new(true, opcode, payload)
    })
}

/// Returns one message, whole or in fragments, with control frames around the fragments.
fn message() -> impl Strategy<Value = Vec<Frame>> {
    let payload = prop_oneof![
        text().prop_map(|text| (1_u8, text)),
        binary().prop_map(|binary| (2_u8, binary)),
    ];
    let cuts = prop_oneof![2 => Just(vec![]), 1 => vec(any::<Index>(), 0..4)];
    let controls = vec((any::<Index>(), control()), 0..3);
    (payload, cuts, vec(key(), 5), controls).prop_map(
        |((opcode, payload), cuts, keys, controls)| {
            let mut cuts: Vec<usize> = cuts
                .iter()
                .map(|cut| cut.index(payload.len() + 1))
                .collect();
            cuts.extend([0, payload.len()]);
            cuts.sort_unstable();
            let last = cuts.len() - 2;
            let mut frames: Vec<Frame> = cuts
                .windows(2)
                .enumerate()
                .map(|(i, cut)| Frame {
                    key: Some(keys[i]),
                    ..Frame::new(
                        i == last,
                        if i == 0 { opcode } else { 0 },
                        &payload[cut[0]..cut[1]],
                    )
                })
                .collect();
            for (at, control) in controls {
                frames.insert(at.index(frames.len() + 1), control);
            }
            frames
        },
    )
}

fn close() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![1000..=1003_u16, 1007..=1013_u16, 3000..=4999_u16];
    option::of((code, "\\PC{0,30}")).prop_map(|payload| {
        let payload =
            payload.map(|(code, reason)| [&code.to_be_bytes()[..], reason.as_bytes()].concat());
        Frame::new(true, 8, payload.unwrap_or_default())
    })
}

/// Returns messages without a Close frame, after which a defect would be ignored.
fn messages() -> impl Strategy<Value = Vec<Frame>> {
    vec(message(), 0..6).prop_map(|messages| messages.concat())
}

fn defect() -> impl Strategy<Value = Defect> {
    let long_form = prop_oneof![
        (Just(Form::Bits16), 0..=125_usize),
        (Just(Form::Bits64), 0..=65_535_usize)
    ];
    let bad_text = prop_oneof![
        (
            text(),
            prop::sample::select(vec![
                &b"\x80"[..],
                b"\xc0\xaf",
                b"\xed\xa0\x80",
                b"\xf4\x90\x80\x80",
                b"\xff",
                b"\xc3(",
            ]),
            any::<String>()
        )
            .prop_map(|(before, bad, after)| [&before[..], bad, after.as_bytes()].concat()),
        // The last character is incomplete.
        (
            text(),
            prop::sample::select(vec![&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"])
        )
            .prop_map(|(before, bad)| [&before[..], bad].concat()),
    ];
    let bad_code = prop_oneof![
        0..1000_u16,
        1004..=1006_u16,
        1015..3000_u16,
        5000..=u16::MAX,
    ];
    prop_oneof![
        (1..8_u8).prop_map(Defect::ReservedBits),
        prop_oneof![3..8_u8, 11..16_u8].prop_map(Defect::ReservedOpcode),
        Just(Defect::Unmasked),
        Just(Defect::FragmentedControl),
        prop_oneof![126..=130_usize, 65_535..=65_537_usize].prop_map(Defect::LongControl),
        Just(Defect::WrongSequence),
        long_form.prop_map(|(form, len)| Defect::LongForm(form, len)),
        prop_oneof![Just(Form::Bits16), Just(Form::Bits64)].prop_map(Defect::LongFormControl),
        Just(Defect::HighBit),
        (bad_text, any::<bool>()).prop_map(|(text, fragmented)| Defect::BadText(text, fragmented)),
        Just(Defect::CloseOneByte),
        bad_code.prop_map(Defect::CloseCode),
        Just(Defect::CloseReason),
        Just(Defect::LargeFrame),
        Just(Defect::LargeMessage),
    ]
}

/// The delivery of the bytes to our decoder: where the input is cut, and how much room the sink
/// has.
#[derive(Clone, Debug)]
struct Delivery {
    cuts: Vec<Index>,
    rooms: Vec<usize>,
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let room = prop_oneof![
        Just(0),
        1..=10_usize,
        100..=200_usize,
        4_000..=100_000_usize
    ];
    let rooms = prop_oneof![
        Just(vec![]),
        // The last room is not 0, or decoding would never end.
        (vec(room, 0..6), 50..=100_000_usize).prop_map(|(mut rooms, last)| {
            rooms.push(last);
            rooms
        }),
    ];
    (vec(any::<Index>(), 0..12), rooms).prop_map(|(cuts, rooms)| Delivery { cuts, rooms })
}

type Outcome = (Vec<Event>, Option<Class>);

fn ours(bytes: &[u8], delivery: &Delivery) -> Outcome {
    let mut decoder = Decoder::new(Role::Server, MAX_FRAME as u64, Some(MAX_MESSAGE as u64));
    let mut recorder = Recorder::with_rooms(delivery.rooms.clone());
    let cuts: Vec<usize> = delivery
        .cuts
        .iter()
        .map(|cut| cut.index(bytes.len() + 1))
        .collect();
    let result = feed(&mut decoder, &mut recorder, bytes, &cuts);
    let class = result.err().map(|error| match error {
        FrameError::Protocol(_) => Class::Protocol,
        FrameError::TooLarge => Class::Size,
        FrameError::Utf8 => Class::Utf8,
    });
    (recorder.events, class)
}

/// The transport that tungstenite reads from. Data that tungstenite writes is discarded.
struct Incoming<'a>(Cursor<&'a [u8]>);

impl Read for Incoming<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Incoming<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn oracle(bytes: &[u8]) -> Outcome {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_frame_size(Some(MAX_FRAME))
        .max_message_size(Some(MAX_MESSAGE));
    let incoming = Incoming(Cursor::new(bytes));
    let mut socket = WebSocket::from_raw_socket(incoming, OracleRole::Server, Some(config));
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => events.push(Event::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => events.push(Event::Binary(bytes.to_vec())),
            Ok(Message::Ping(payload)) => events.push(Event::Ping(payload.to_vec())),
            Ok(Message::Pong(payload)) => events.push(Event::Pong(payload.to_vec())),
            Ok(Message::Close(frame)) => {
                let payload = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                events.push(Event::Close(payload));
                return (events, None);
            }
            Ok(Message::Frame(_)) => unreachable!("never read"),
            // All bytes were read.
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (events, None);
            }
            Err(Error::Protocol(_)) => return (events, Some(Class::Protocol)),
            Err(Error::Capacity(_)) => return (events, Some(Class::Size)),
            Err(Error::Utf8(_)) => return (events, Some(Class::Utf8)),
            Err(other) => panic!("{other}"),
        }
    }
}

/// Compares the results for a stream with any number of defects.
///
/// If our decoder finds no defect, neither does tungstenite. Everything that our decoder accepted
/// before a defect was right.
fn no_more_freely(bytes: &[u8], delivery: &Delivery) -> bool {
    let (events, class) = ours(bytes, delivery);
    let (expected, oracle_class) = oracle(bytes);
    match class {
        Some(_) => expected.starts_with(&events),
        // Code 1014: see the last difference.
        None if expected.last() == Some(&unknown_code()) => events.len() == expected.len(),
        None => (events, None) == (expected, oracle_class),
    }
}

/// The result of tungstenite for a Close with a code that it does not know.
fn unknown_code() -> Event {
    Event::Close(Some((1002, "Protocol violation".into())))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn valid_streams_decode_alike(
        mut frames in messages(),
        close in option::of(close()),
        after in messages(),
        keep in option::of(any::<Index>()),
        delivery in delivery(),
    ) {
        if let Some(close) = close {
            // All that follows the Close is ignored.
            frames.push(close);
            frames.extend(after);
        }
        let mut bytes = wire(&frames);
        if let Some(keep) = keep {
            bytes.truncate(keep.index(bytes.len() + 1));
        }
        let outcome = ours(&bytes, &delivery);
        prop_assert_eq!(&outcome, &oracle(&bytes));
        prop_assert_eq!(outcome.1, None);
    }

    #[test]
    fn a_defect_is_refused_alike(
        mut frames in messages(),
        defect in defect(),
        at in any::<Index>(),
        delivery in delivery(),
    ) {
        defect.apply(&mut frames, at);
        let bytes = wire(&frames);
        let (events, class) = ours(&bytes, &delivery);
        let (expected, oracle_class) = oracle(&bytes);
        prop_assert_eq!(class, Some(defect.class()));
        match defect.oracle() {
            Some(class) => {
                prop_assert_eq!(oracle_class, Some(class));
                prop_assert_eq!(events, expected);
            }
            // tungstenite reports the defect later, or never.
            None => prop_assert!(expected.starts_with(&events)),
        }
    }

    /// Any byte may be wrong, so the defects include those that no test names. Damaged lengths
    /// leave frames incomplete, for which the fourth difference applies.
    #[test]
    fn damaged_streams_are_never_decoded_more_freely(
        frames in vec(message(), 1..4).prop_map(|messages| messages.concat()),
        close in close(),
        damage in vec((any::<Index>(), any::<u8>()), 1..4),
        heads_only in any::<bool>(),
        delivery in delivery(),
    ) {
        let frames = [frames, vec![close]].concat();
        let mut bytes = wire(&frames);
        // Most bytes are payload, so half of the cases aim at the heads.
        let heads: Vec<usize> = (0..frames.len())
            .flat_map(|i| {
                let start = wire(&frames[..i]).len();
                [start, start + 1]
            })
            .collect();
        for (at, byte) in damage {
            let at = if heads_only { *at.get(&heads) } else { at.index(bytes.len()) };
            bytes[at] = byte;
        }
        prop_assert!(no_more_freely(&bytes, &delivery));
    }

    #[test]
    fn garbage_is_never_decoded_more_freely(
        bytes in vec(any::<u8>(), 0..400),
        delivery in delivery(),
    ) {
        prop_assert!(no_more_freely(&bytes, &delivery));
    }
}
