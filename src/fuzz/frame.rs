use super::cuts::{Cuts, byte};
use crate::frame::{
    Decoder, FrameError, MessageKind, OpCode, Role, close_payload,
    fixture::{Event, Recorder, feed},
    frame_head, head_len, is_valid_close_code, read_frame_len,
};

/// The limits of a frame and of a message, of which the input chooses.
const FRAME_LIMITS: [u64; 4] = [u64::MAX, 1000, 125, 10];
const MESSAGE_LIMITS: [Option<u64>; 4] = [None, Some(2000), Some(125), Some(20)];

/// The output of a decoder for a stream of frames.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    events: Vec<Event>,
    /// The message that has not ended. It is not compared after a fault, because as much of it as
    /// precedes the fault in one read may be passed on or not.
    open: Option<(MessageKind, Vec<u8>)>,
    fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Protocol,
    Size,
    Utf8,
}

/// Decodes frames, of either role, with limits that the input chooses.
pub fn frame(mut input: &[u8]) {
    let choices = usize::from(byte(&mut input));
    let role = if choices & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let most = FRAME_LIMITS[choices >> 1 & 3];
    let most_of_message = MESSAGE_LIMITS[choices >> 3 & 3];
    let new = || Decoder::new(role, most, most_of_message);
    let mut cuts = Cuts::take(&mut input);
    let expected = by_the_book(input, role, most, most_of_message);

    assert_eq!(decoded(new(), input, &[], &[]), expected, "in one read");
    let ends = ends(&mut cuts, input);
    assert_eq!(decoded(new(), input, &ends, &[]), expected, "in pieces");
    // The sink pauses the decoder in each second turn, and has little room in the others.
    let rooms: Vec<usize> = ends
        .iter()
        .take(5)
        .flat_map(|end| [0, 1 + end % 300])
        .collect();
    assert_eq!(
        decoded(new(), input, &ends, &rooms),
        expected,
        "with little room"
    );

    if expected.fault.is_none() && expected.open.is_none() {
        again(expected.events, &mut cuts);
    }
}

fn ends(cuts: &mut Cuts, bytes: &[u8]) -> Vec<usize> {
    let mut end = 0;
    let pieces = cuts.pieces(bytes).into_iter();
    pieces
        .map(|piece| {
            end += piece.len();
            end
        })
        .collect()
}

fn decoded(mut decoder: Decoder, bytes: &[u8], ends: &[usize], rooms: &[usize]) -> Decoded {
    let mut recorder = Recorder::with_rooms(rooms);
    let fault = match feed(&mut decoder, &mut recorder, bytes, ends) {
        Ok(()) => None,
        Err(FrameError::Protocol(_)) => Some(Fault::Protocol),
        Err(FrameError::TooLarge) => Some(Fault::Size),
        Err(FrameError::Utf8) => Some(Fault::Utf8),
    };
    Decoded {
        events: recorder.events,
        open: recorder.open.filter(|_| fault.is_none()),
        fault,
    }
}

/// Encodes messages as a server does, in one frame or two, and decodes them as a client.
fn again(events: Vec<Event>, cuts: &mut Cuts) {
    let mut wire = Vec::new();
    let mut head = |fin, opcode, payload: &[u8]| {
        let start = wire.len();
        let len = payload.len() as u64;
        frame_head(&mut wire, fin, opcode, len);
        let head = &wire[start..];
        assert_eq!(head.len(), head_len(len));
        assert_eq!(read_frame_len(head), (head.len(), len));
        wire.extend_from_slice(payload);
    };
    for event in &events {
        match event {
            Event::Text(payload) | Event::Binary(payload) => {
                let (first, second) = payload.split_at(cuts.next(payload.len()));
                let opcode = match event {
                    Event::Text(_) => OpCode::Text,
                    _ => OpCode::Binary,
                };
                head(second.is_empty(), opcode, first);
                if !second.is_empty() {
                    head(true, OpCode::Continuation, second);
                }
            }
            Event::Ping(payload) => head(true, OpCode::Ping, payload),
            Event::Pong(payload) => head(true, OpCode::Pong, payload),
            Event::Close(close) => {
                let (code, reason) = close.clone().unzip();
                let payload = close_payload(code, &reason.unwrap_or_default());
                assert_eq!(payload.code(), code);
                head(true, OpCode::Close, payload.as_bytes());
            }
        }
    }
    let ends = ends(cuts, &wire);
    let decoder = Decoder::new(Role::Client, u64::MAX, None);
    let expected = Decoded {
        events,
        open: None,
        fault: None,
    };
    assert_eq!(
        decoded(decoder, &wire, &ends, &[]),
        expected,
        "encoded again"
    );
}

/// The reference: RFC 6455, sections 5.2 to 5.6, 7.4 and 8.1, applied to all bytes at once.
fn by_the_book(bytes: &[u8], role: Role, most: u64, most_of_message: Option<u64>) -> Decoded {
    let mut decoded = Decoded {
        events: Vec::new(),
        open: None,
        fault: None,
    };
    if let Err(fault) = read(bytes, role, most, most_of_message, &mut decoded) {
        decoded.fault = Some(fault);
        decoded.open = None;
    }
    decoded
}

fn read(
    mut rest: &[u8],
    role: Role,
    most: u64,
    most_of_message: Option<u64>,
    decoded: &mut Decoded,
) -> Result<(), Fault> {
    let mut announced = 0_u64;
    while let [first, second, ..] = *rest {
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let (masked, short) = (second & 0x80 != 0, second & 0x7f);
        let is_control = opcode >= 8;
        if first & 0x70 != 0
            || !matches!(opcode, 0..=2 | 8..=10)
            || is_control && (!fin || short > 125)
            || masked != (role == Role::Server)
        {
            return Err(Fault::Protocol);
        }
        let size = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((head, after)) = rest.split_at_checked(2 + size + if masked { 4 } else { 0 })
        else {
            return Ok(());
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &byte| n << 8 | u64::from(byte));
        let len = if size == 0 {
            u64::from(short)
        } else {
            number(&head[2..2 + size])
        };
        let least = match size {
            0 => 0,
            2 => 126,
            _ => 0x1_0000,
        };
        if len < least || len >> 63 != 0 {
            return Err(Fault::Protocol);
        }
        let have = after.len().min(usize::try_from(len).unwrap_or(usize::MAX));
        let key = if masked {
            &head[head.len() - 4..]
        } else {
            &[0][..]
        };
        let plain = after[..have]
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key);
        let is_whole = have as u64 == len;
        rest = &after[have..];
        if is_control {
            if !is_whole {
                return Ok(());
            }
            let payload: Vec<u8> = plain.collect();
            match opcode {
                8 => {
                    decoded.events.push(Event::Close(close(&payload)?));
                    return Ok(());
                }
                9 => decoded.events.push(Event::Ping(payload)),
                _ => decoded.events.push(Event::Pong(payload)),
            }
            continue;
        }
        if (opcode == 0) != decoded.open.is_some() {
            return Err(Fault::Protocol);
        }
        announced = if opcode == 0 {
            announced.saturating_add(len)
        } else {
            len
        };
        if len > most || most_of_message.is_some_and(|most| announced > most) {
            return Err(Fault::Size);
        }
        let kind = if opcode == 1 {
            MessageKind::Text
        } else {
            MessageKind::Binary
        };
        let (kind, message) = decoded.open.get_or_insert((kind, Vec::new()));
        message.extend(plain);
        let ends = fin && is_whole;
        if *kind == MessageKind::Text
            && let Err(error) = std::str::from_utf8(message)
            && (ends || error.error_len().is_some())
        {
            return Err(Fault::Utf8);
        }
        if ends && let Some((kind, message)) = decoded.open.take() {
            decoded.events.push(match kind {
                MessageKind::Text => Event::Text(message),
                MessageKind::Binary => Event::Binary(message),
            });
        }
    }
    Ok(())
}

/// Reads the payload of a Close frame (5.5.1).
fn close(payload: &[u8]) -> Result<Option<(u16, String)>, Fault> {
    if payload.is_empty() {
        return Ok(None);
    }
    let [high, low, reason @ ..] = payload else {
        return Err(Fault::Protocol);
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !is_valid_close_code(code) {
        return Err(Fault::Protocol);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Fault::Utf8)?;
    Ok(Some((code, reason.to_owned())))
}
