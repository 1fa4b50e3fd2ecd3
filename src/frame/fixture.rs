//! Fixtures for the tests of the decoder: frames that are written without regard for the rules, and
//! a recording sink whose room the test chooses.

use super::{
    decoder::Decoder,
    error::FrameError,
    mask::{Key, Masked},
    sink::{Control, MessageKind, Sink},
};

pub(super) const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The form in which the length of a frame is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Shortest,
    Bits16,
    Bits64,
    /// 64 bits with the highest one set.
    HighBit,
}

#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) fin: bool,
    pub(super) reserved: u8,
    pub(super) opcode: u8,
    pub(super) key: Option<[u8; 4]>,
    pub(super) form: Form,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// Creates a valid frame from a client.
    pub(super) fn new(fin: bool, opcode: u8, payload: impl Into<Vec<u8>>) -> Frame {
        let payload = payload.into();
        Frame {
            fin,
            reserved: 0,
            opcode,
            key: Some(KEY),
            form: Form::Shortest,
            payload,
        }
    }

    pub(super) fn is_control(&self) -> bool {
        self.opcode & 0x8 != 0
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let len = self.payload.len();
        let form = match (self.form, len) {
            (Form::Shortest, 126..=0xffff) => Form::Bits16,
            (Form::Shortest, 0x1_0000..) => Form::Bits64,
            (form, _) => form,
        };
        let mask = if self.key.is_some() { 0x80 } else { 0 };
        out.push((self.fin as u8) << 7 | self.reserved << 4 | self.opcode);
        match form {
            Form::Shortest => out.push(mask | len as u8),
            Form::Bits16 => {
                out.push(mask | 126);
                out.extend_from_slice(&(len as u16).to_be_bytes());
            }
            Form::Bits64 | Form::HighBit => {
                let high = if form == Form::HighBit { 1 << 63 } else { 0 };
                out.push(mask | 127);
                out.extend_from_slice(&(len as u64 | high).to_be_bytes());
            }
        }
        let start = out.len() + if self.key.is_some() { 4 } else { 0 };
        out.extend(self.key.iter().flatten());
        out.extend_from_slice(&self.payload);
        Key::new(self.key.unwrap_or_default()).apply(&mut out[start..]);
    }
}

/// Returns the bytes of a sequence of frames.
pub(super) fn wire<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames {
        frame.write(&mut out);
    }
    out
}

/// An output of the decoder, with the payload of each message in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// A sink that records its input, and checks that the decoder keeps the contract of [`Sink`].
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) events: Vec<Event>,
    /// The message that has not ended yet.
    pub(crate) open: Option<(MessageKind, Vec<u8>)>,
    /// The lengths of all pieces. A message that the decoder passes on whole is one piece.
    pub(super) pieces: Vec<usize>,
    /// The answers of `room`, used in turn. If there are none, room is unlimited.
    pub(super) rooms: Vec<usize>,
    pub(super) last_room: usize,
    turn: usize,
}

impl Recorder {
    pub(crate) fn with_rooms(rooms: impl Into<Vec<usize>>) -> Recorder {
        Recorder {
            rooms: rooms.into(),
            ..Recorder::default()
        }
    }

    fn message_over(&mut self, kind: MessageKind, payload: Vec<u8>) {
        self.events.push(match kind {
            MessageKind::Text => Event::Text(payload),
            MessageKind::Binary => Event::Binary(payload),
        });
    }
}

impl Sink for Recorder {
    type Error = FrameError;

    fn begin(&mut self, kind: MessageKind) -> Result<(), FrameError> {
        assert!(self.open.is_none());
        self.open = Some((kind, Vec::new()));
        Ok(())
    }

    fn room(&mut self) -> usize {
        assert!(self.open.is_some());
        self.last_room = match self.rooms.len() {
            0 => usize::MAX,
            len => self.rooms[self.turn % len],
        };
        self.turn += 1;
        self.last_room
    }

    fn payload(&mut self, piece: Masked<'_>) -> Result<(), FrameError> {
        assert!(!piece.is_empty() && piece.len() <= self.last_room);
        self.pieces.push(piece.len());
        let (kind, payload) = self.open.as_mut().unwrap();
        assert!(*kind == MessageKind::Binary || piece.as_plain().is_some());
        piece.append_to_vec(payload);
        // The room was for one piece. The decoder has to ask again before the next one.
        self.last_room = 0;
        Ok(())
    }

    fn end(&mut self) -> Result<(), FrameError> {
        let (kind, payload) = self.open.take().unwrap();
        self.message_over(kind, payload);
        Ok(())
    }

    fn message(&mut self, kind: MessageKind, piece: Masked<'_>) -> Result<bool, FrameError> {
        assert!((1..=125).contains(&piece.len()) && self.open.is_none());
        if let Some(room) = self.rooms.get(self.turn % self.rooms.len().max(1)) {
            self.turn += 1;
            if *room < piece.len() {
                return Ok(false);
            }
        }
        self.pieces.push(piece.len());
        let mut payload = Vec::new();
        piece.append_to_vec(&mut payload);
        self.message_over(kind, payload);
        Ok(true)
    }

    fn control(&mut self, control: Control<'_>) -> Result<(), FrameError> {
        self.events.push(match control {
            Control::Ping(payload) => Event::Ping(payload.to_vec()),
            Control::Pong(payload) => Event::Pong(payload.to_vec()),
            Control::Close(payload) => {
                Event::Close(payload.map(|(code, reason)| (code, reason.to_owned())))
            }
        });
        Ok(())
    }
}

/// Feeds `bytes`, cut at `cuts`, as a driver does: bytes for which the sink had no room are fed
/// again, before the next part.
pub(crate) fn feed(
    decoder: &mut Decoder,
    recorder: &mut Recorder,
    bytes: &[u8],
    cuts: &[usize],
) -> Result<(), FrameError> {
    let mut start = 0;
    let mut ends: Vec<usize> = cuts.to_vec();
    ends.push(bytes.len());
    ends.sort_unstable();
    for end in ends {
        start += decode(decoder, recorder, &bytes[start..end])?;
    }
    while start < bytes.len() {
        start += decode(decoder, recorder, &bytes[start..])?;
    }
    Ok(())
}

fn decode(
    decoder: &mut Decoder,
    recorder: &mut Recorder,
    input: &[u8],
) -> Result<usize, FrameError> {
    recorder.last_room = usize::MAX;
    let consumed = decoder.decode(input, recorder)?;
    assert!(
        consumed == input.len() || recorder.last_room == 0,
        "paused with room left"
    );
    assert_eq!(decoder.in_message(), recorder.open.is_some());
    Ok(consumed)
}
