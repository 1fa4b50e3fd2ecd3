use super::cuts::{Cuts, byte};
use crate::spdy::{
    Control, Decoder, Frame, GoAwayStatus, ResetStatus, Want, data_head, fin, go_away, ping,
    rst_stream, set_data_len, syn_reply,
};

/// The largest header block of a frame.
const MAX_BLOCK: usize = 16 * 1024;

/// The output of a decoder: a line for each frame, and the end.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    lines: Vec<String>,
    /// The payload of a DATA frame that is not complete.
    open: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Clean,
    Cut,
    Fault,
}

/// Decodes frames of a client.
pub fn spdy(mut input: &[u8]) {
    own_frames(byte(&mut input), input);
    let mut cuts = Cuts::take(&mut input);
    let expected = by_the_book(input);
    assert_eq!(decoded(input, |most| most), expected, "in one read");
    assert_eq!(
        decoded(input, |most| cuts.next(most)),
        expected,
        "in pieces"
    );
}

fn decoded(mut rest: &[u8], mut cut: impl FnMut(usize) -> usize) -> Decoded {
    let mut decoder = Decoder::new();
    let (mut lines, mut open) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let want = decoder.want();
        let (Want::Bytes(most) | Want::Data { left: most, .. } | Want::Skip { left: most }) = want;
        assert!(most > 0, "the decoder waits for nothing");
        let (piece, after) = rest.split_at(cut(most.min(rest.len())));
        rest = after;
        let frame = match want {
            Want::Bytes(_) => decoder.feed(piece),
            Want::Data { .. } => {
                open.extend_from_slice(piece);
                Ok(decoder.took(piece.len()))
            }
            Want::Skip { .. } => Ok(decoder.took(piece.len())),
        };
        match frame {
            Err(_) => {
                return Decoded {
                    lines,
                    open,
                    end: End::Fault,
                };
            }
            Ok(None) => {}
            Ok(Some(Frame::Control(control))) => {
                // A PING with an even number answers one of this end.
                let is_answer = matches!(control, Control::Ping { id } if id % 2 == 0);
                assert_eq!(control.is_answer(), is_answer);
                lines.push(format!("{control:?}"));
            }
            Ok(Some(Frame::Data { stream, fin })) => {
                lines.push(format!("{stream} {fin} {open:?}"));
                open.clear();
            }
        }
        // Never more than a frame may have, whatever its head announces.
        assert!(decoder.held() <= MAX_BLOCK + 10);
    }
    let end = if decoder.is_between_frames() {
        End::Clean
    } else {
        End::Cut
    };
    Decoded { lines, open, end }
}

/// The reference: the layout of SPDY/3.1, applied to all bytes at once.
fn by_the_book(mut rest: &[u8]) -> Decoded {
    let (mut lines, mut open) = (Vec::new(), Vec::new());
    let mut end = End::Clean;
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u32, |n, &byte| n << 8 | u32::from(byte))
    };
    while !rest.is_empty() {
        end = End::Cut;
        let Some((head, after)) = rest.split_at_checked(8) else {
            break;
        };
        let (first, flags, length) = (number(&head[..4]), head[4], number(&head[5..]) as usize);
        let is_data = first >> 31 == 0;
        let bounds = match first & 0xffff {
            _ if is_data => 0..=usize::MAX,
            1 => 10..=10 + MAX_BLOCK,
            2 | 8 => 4..=4 + MAX_BLOCK,
            3 | 7 => 8..=8,
            6 => 4..=4,
            _ => 0..=usize::MAX,
        };
        if first == 0 || !is_data && first >> 16 != 0x8003 || !bounds.contains(&length) {
            end = End::Fault;
            break;
        }
        let Some((body, after)) = after.split_at_checked(length) else {
            if is_data {
                open = after.to_vec();
            }
            break;
        };
        rest = after;
        end = End::Clean;
        if is_data {
            lines.push(format!("{first} {} {body:?}", flags & 1 != 0));
            continue;
        }
        let frame = match first & 0xffff {
            1 => Control::SynStream {
                stream: number(&body[..4]) & 0x7fff_ffff,
                fin: flags & 1 != 0,
                unidirectional: flags & 2 != 0,
                block: &body[10..],
            },
            2 | 8 => Control::Block { block: &body[4..] },
            3 => Control::RstStream {
                stream: number(&body[..4]) & 0x7fff_ffff,
            },
            6 => Control::Ping { id: number(body) },
            7 => Control::GoAway,
            _ => continue,
        };
        let is_zero = match frame {
            Control::RstStream { stream } => stream == 0 || number(&body[4..]) == 0,
            Control::Ping { id } => id == 0,
            _ => false,
        };
        if is_zero {
            end = End::Fault;
            break;
        }
        lines.push(format!("{frame:?}"));
    }
    Decoded { lines, open, end }
}

/// Writes frames of this end, which its own decoder has to read, as far as both ends send them.
fn own_frames(choice: u8, payload: &[u8]) {
    let stream = 2 * u32::from(choice) + 1;
    let mut wire = Vec::new();
    data_head(&mut wire, stream, false, 0);
    set_data_len(&mut wire, payload.len());
    wire.extend_from_slice(payload);
    fin(&mut wire, stream);
    ping(&mut wire, stream + 1);
    let status = [
        ResetStatus::ProtocolError,
        ResetStatus::RefusedStream,
        ResetStatus::Cancel,
        ResetStatus::InternalError,
    ];
    rst_stream(&mut wire, stream, status[usize::from(choice) % 4]);
    syn_reply(&mut wire, stream, choice.is_multiple_of(2));
    go_away(&mut wire, stream, GoAwayStatus::Ok);
    let mut lines = decoded(&wire, |most| most).lines;
    assert_eq!(lines.remove(0), format!("{stream} false {payload:?}"));
    assert_eq!(lines.remove(0), format!("{stream} true []"));
    assert_eq!(lines.remove(0), format!("Ping {{ id: {} }}", stream + 1));
    assert_eq!(lines.remove(0), format!("RstStream {{ stream: {stream} }}"));
    assert!(lines.remove(0).starts_with("Block"));
    assert_eq!(lines, ["GoAway"]);
}
