use super::header::{FIN, LENGTH_16, LENGTH_64, MAX_CONTROL, OpCode, array};

const MAX_SHORT: u64 = MAX_CONTROL as u64;
const MIN_16: u64 = MAX_SHORT + 1;
const MAX_16: u64 = u16::MAX as u64;

/// Returns the length of the head that [`frame_head`] writes for `len` bytes of payload.
#[inline]
pub(crate) fn head_len(len: u64) -> usize {
    match len {
        0..=MAX_SHORT => 2,
        MIN_16..=MAX_16 => 4,
        _ => 10,
    }
}

/// Appends the head of a frame as a server sends it.
///
/// The frame is not masked, so its payload can be sent from where it is, without a copy.
#[inline]
pub(crate) fn frame_head(out: &mut Vec<u8>, fin: bool, opcode: OpCode, len: u64) {
    let first = if fin { FIN } else { 0 } | opcode as u8;
    match len {
        0..=MAX_SHORT => out.extend_from_slice(&[first, len as u8]),
        MIN_16..=MAX_16 => {
            let [a, b] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, LENGTH_16, a, b]);
        }
        _ => {
            let mut head = [first, LENGTH_64, 0, 0, 0, 0, 0, 0, 0, 0];
            head[2..].copy_from_slice(&len.to_be_bytes());
            out.extend_from_slice(&head);
        }
    }
}

/// Changes the length of a frame in a head that [`frame_head`] has written. There must be room for the
/// head of this length.
#[cfg(feature = "spdy")]
pub(crate) fn set_frame_len(head: &mut [u8], len: u64) {
    match len {
        0..=MAX_SHORT => head[1] = len as u8,
        MIN_16..=MAX_16 => {
            head[1] = LENGTH_16;
            head[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            head[1] = LENGTH_64;
            head[2..10].copy_from_slice(&len.to_be_bytes());
        }
    }
}

/// Returns the lengths of the head and the payload of a frame that [`frame_head`] has written.
///
/// This finds the ends of queued frames, because a control frame may only go between two frames.
///
/// # Panics
/// Panics if `head` is not a whole head. It is never input from a peer.
#[inline]
pub(crate) fn read_frame_len(head: &[u8]) -> (usize, u64) {
    match head[1] {
        LENGTH_16 => (4, u64::from(u16::from_be_bytes(array(&head[2..])))),
        LENGTH_64 => (10, u64::from_be_bytes(array(&head[2..]))),
        short => (2, u64::from(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::header::{Header, Parsed, Role, parse};

    #[test]
    fn heads_are_read_as_they_were_written() {
        for len in [
            0,
            1,
            124,
            125,
            126,
            127,
            65_534,
            65_535,
            65_536,
            65_537,
            u64::MAX >> 1,
        ] {
            for opcode in [OpCode::Text, OpCode::Binary, OpCode::Continuation] {
                for fin in [false, true] {
                    let mut out = b"before".to_vec();
                    frame_head(&mut out, fin, opcode, len);
                    let head = &out[6..];
                    assert_eq!(head.len(), head_len(len));
                    assert_eq!(read_frame_len(head), (head.len(), len));
                    let Ok(Parsed::Head(read, read_len)) = parse(head, Role::Client) else {
                        panic!("{len}");
                    };
                    let Header {
                        fin: read_fin,
                        opcode: read_opcode,
                        len: payload,
                        ..
                    } = read;
                    assert_eq!((read_fin, read_opcode), (fin, opcode));
                    assert_eq!((read_len, payload), (head.len(), len));
                }
            }
        }
    }

    #[test]
    #[cfg(feature = "spdy")]
    fn a_head_whose_length_was_changed_is_that_of_the_new_length() {
        for before in [0, 125, 126, 65_535, 65_536] {
            for after in [0, 1, 125, 126, 127, 65_535, 65_536, 1 << 40] {
                let (mut head, mut expected) = (Vec::new(), Vec::new());
                frame_head(&mut head, true, OpCode::Binary, before);
                frame_head(&mut expected, true, OpCode::Binary, after);
                head.resize(expected.len(), 0);
                set_frame_len(&mut head, after);
                assert_eq!(head, expected, "{before} to {after}");
            }
        }
    }

    #[test]
    fn heads_have_the_bytes_of_the_rfc() {
        let head = |fin, opcode, len| {
            let mut out = Vec::new();
            frame_head(&mut out, fin, opcode, len);
            out
        };
        assert_eq!(head(true, OpCode::Text, 5), [0x81, 0x05]);
        assert_eq!(head(false, OpCode::Text, 3), [0x01, 0x03]);
        assert_eq!(head(true, OpCode::Continuation, 2), [0x80, 0x02]);
        assert_eq!(head(true, OpCode::Ping, 0), [0x89, 0x00]);
        assert_eq!(head(true, OpCode::Binary, 256), [0x82, 0x7e, 0x01, 0x00]);
        assert_eq!(
            head(true, OpCode::Binary, 65_536),
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn frames_can_be_walked() {
        let mut out = Vec::new();
        let lens = [0_usize, 125, 126, 70_000, 3];
        for len in lens {
            frame_head(&mut out, true, OpCode::Binary, len as u64);
            out.resize(out.len() + len, 0xff);
        }
        let mut at = 0;
        for len in lens {
            let (head, payload) = read_frame_len(&out[at..]);
            assert_eq!(payload, len as u64);
            at += head + len;
        }
        assert_eq!(at, out.len());
    }
}
