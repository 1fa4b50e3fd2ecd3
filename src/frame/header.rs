use super::{error::FrameError, mask::Key};

/// The largest payload of a control frame (RFC 6455, 5.5), which is also the largest length that
/// fits into the second byte of a head (5.2).
pub(super) const MAX_CONTROL: usize = 125;

/// The longest head: two bytes, eight bytes of length, and four bytes of masking key.
pub(super) const MAX_HEAD: usize = 14;

pub(super) const FIN: u8 = 0x80;
pub(super) const MASK: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const LENGTH: u8 = 0x7f;
/// Values of the seven length bits that announce a longer length field.
pub(super) const LENGTH_16: u8 = 126;
pub(super) const LENGTH_64: u8 = 127;

/// The role of this end of the connection.
///
/// A server requires masked frames and sends unmasked ones, and a client does the opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The end that accepted the handshake.
    Server,
    /// The end that began the handshake. So far it only exists in tests.
    #[cfg_attr(
        not(any(test, feature = "__fuzz")),
        allow(dead_code, reason = "the rules of both roles belong together")
    )]
    Client,
}

/// The kinds of frames in RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum OpCode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl OpCode {
    fn from_bits(bits: u8) -> Option<OpCode> {
        Some(match bits {
            0x0 => OpCode::Continuation,
            0x1 => OpCode::Text,
            0x2 => OpCode::Binary,
            0x8 => OpCode::Close,
            0x9 => OpCode::Ping,
            0xa => OpCode::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        matches!(self, OpCode::Close | OpCode::Ping | OpCode::Pong)
    }
}

/// The head of a frame.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) fin: bool,
    pub(super) opcode: OpCode,
    pub(super) len: u64,
    pub(super) key: Key,
}

pub(super) enum Parsed {
    /// A head, and its length in bytes.
    Head(Header, usize),
    /// The head is incomplete. At least this many bytes are needed to continue.
    Need(usize),
}

/// Parses the head at the front of `bytes`, strictly by RFC 6455, 5.2.
///
/// Faults in the first two bytes are refused as soon as these have arrived. The decoder checks the
/// rules that depend on earlier frames.
#[inline]
pub(super) fn parse(bytes: &[u8], role: Role) -> Result<Parsed, FrameError> {
    let &[first, second, ..] = bytes else {
        return Ok(Parsed::Need(2));
    };
    if first & RESERVED != 0 {
        // Reserved bits belong to extensions, and we never accept one.
        return Err(FrameError::Protocol("reserved bit set"));
    }
    let Some(opcode) = OpCode::from_bits(first & OPCODE) else {
        return Err(FrameError::Protocol("reserved opcode"));
    };
    let fin = first & FIN != 0;
    let short = second & LENGTH;
    if opcode.is_control() {
        if !fin {
            return Err(FrameError::Protocol("fragmented control frame"));
        }
        if usize::from(short) > MAX_CONTROL {
            return Err(FrameError::Protocol("control frame above 125 bytes"));
        }
    }
    let masked = second & MASK != 0;
    match role {
        Role::Server if !masked => {
            return Err(FrameError::Protocol("unmasked frame from a client"));
        }
        Role::Client if masked => {
            return Err(FrameError::Protocol("masked frame from a server"));
        }
        _ => {}
    }

    let key_at = match short {
        LENGTH_16 => 4,
        LENGTH_64 => 10,
        _ => 2,
    };
    let head_len = key_at + if masked { 4 } else { 0 };
    let Some(head) = bytes.get(..head_len) else {
        return Ok(Parsed::Need(head_len));
    };
    let len = match short {
        LENGTH_16 => u64::from(u16::from_be_bytes(array(&head[2..]))),
        LENGTH_64 => u64::from_be_bytes(array(&head[2..])),
        _ => u64::from(short),
    };
    // "The minimal number of bytes MUST be used", and the highest of 64 bits must be 0.
    let minimal = match short {
        LENGTH_16 => len > MAX_CONTROL as u64,
        LENGTH_64 => len > u64::from(u16::MAX),
        _ => true,
    };
    if !minimal {
        return Err(FrameError::Protocol("length not in its shortest form"));
    }
    if len >> 63 != 0 {
        return Err(FrameError::Protocol("highest bit of a length set"));
    }
    let key = if masked {
        Key::new(array(&head[key_at..]))
    } else {
        Key::NONE
    };
    Ok(Parsed::Head(
        Header {
            fin,
            opcode,
            len,
            key,
        },
        head_len,
    ))
}

/// Returns the first `N` bytes.
///
/// # Panics
/// Panics if there are fewer.
#[inline]
pub(super) fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[..N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 4] = [9, 8, 7, 6];

    /// Writes a client's head without regard for the rules.
    fn head(first: u8, length: &[u8]) -> Vec<u8> {
        let mut head = vec![first, length[0] | MASK];
        head.extend_from_slice(&length[1..]);
        head.extend_from_slice(&KEY);
        head
    }

    fn long(len: u64) -> Vec<u8> {
        [&[127][..], &len.to_be_bytes()].concat()
    }

    fn short(len: u16) -> Vec<u8> {
        [&[126][..], &len.to_be_bytes()].concat()
    }

    fn server(bytes: &[u8]) -> Result<(bool, OpCode, u64), FrameError> {
        match parse(bytes, Role::Server)? {
            Parsed::Head(header, len) => {
                assert_eq!(len, bytes.len());
                assert!(header.key == Key::new(KEY));
                Ok((header.fin, header.opcode, header.len))
            }
            Parsed::Need(_) => panic!("incomplete"),
        }
    }

    fn rule(bytes: &[u8]) -> &'static str {
        match server(bytes) {
            Err(FrameError::Protocol(rule)) => rule,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_length_has_one_form() {
        for (length, len) in [
            (vec![0], 0),
            (vec![125], 125),
            (short(126), 126),
            (short(u16::MAX), 65_535),
            (long(65_536), 65_536),
            (long(u64::MAX >> 1), u64::MAX >> 1),
        ] {
            assert_eq!(
                server(&head(0x82, &length)),
                Ok((true, OpCode::Binary, len))
            );
        }
        for length in [
            short(0),
            short(125),
            long(0),
            long(125),
            long(126),
            long(65_535),
        ] {
            assert_eq!(
                rule(&head(0x82, &length)),
                "length not in its shortest form"
            );
        }
        for length in [long(1 << 63), long(u64::MAX)] {
            assert_eq!(rule(&head(0x82, &length)), "highest bit of a length set");
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused() {
        for bit in [0x10, 0x20, 0x40] {
            assert_eq!(rule(&head(0x82 | bit, &[0])), "reserved bit set");
        }
        for opcode in 0..16 {
            let known = matches!(opcode, 0..=2 | 8..=10);
            assert_eq!(
                server(&head(0x80 | opcode, &[0])).is_ok(),
                known,
                "{opcode}"
            );
            if !known {
                assert_eq!(rule(&head(0x80 | opcode, &[0])), "reserved opcode");
            }
        }
    }

    #[test]
    fn control_frames_are_whole_and_short() {
        for opcode in 8..=10 {
            assert!(server(&head(0x80 | opcode, &[124])).is_ok());
            assert!(server(&head(0x80 | opcode, &[125])).is_ok());
            for length in [short(126), long(65_536), short(1)] {
                assert_eq!(
                    rule(&head(0x80 | opcode, &length)),
                    "control frame above 125 bytes"
                );
            }
            assert_eq!(rule(&head(opcode, &[1])), "fragmented control frame");
        }
    }

    #[test]
    fn masking_depends_on_the_role() {
        let masked = head(0x82, &[3]);
        let plain = [0x82, 3];
        assert!(server(&masked).is_ok());
        assert_eq!(rule(&plain), "unmasked frame from a client");
        assert!(matches!(
            parse(&plain, Role::Client),
            Ok(Parsed::Head(Header { len: 3, .. }, 2))
        ));
        assert!(matches!(
            parse(&masked, Role::Client),
            Err(FrameError::Protocol("masked frame from a server"))
        ));
    }

    #[test]
    fn a_part_of_a_head_says_how_much_is_needed() {
        for length in [vec![5], short(300), long(70_000)] {
            let head = head(0x01, &length);
            for have in 0..head.len() {
                let needed = if have < 2 { 2 } else { head.len() };
                match parse(&head[..have], Role::Server) {
                    Ok(Parsed::Need(n)) => assert_eq!(n, needed),
                    _ => panic!("{have} of {}", head.len()),
                }
            }
            assert!(head.len() <= MAX_HEAD);
            assert!(server(&head).is_ok());
        }
    }
}
