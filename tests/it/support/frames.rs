//! The frames of a client of SPDY, written by hand. The tests of memory use them as well.

/// Returns a control frame.
pub(crate) fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// Returns a SYN_STREAM with this packed block.
pub(crate) fn syn(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut body = stream.to_be_bytes().to_vec();
    body.extend([0; 6]);
    body.extend_from_slice(block);
    control(1, &body)
}

/// Returns a header block.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = (fields.len() as u32).to_be_bytes().to_vec();
    for (name, value) in fields {
        for text in [name, value] {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Packs a header block into one stored block, and a flush.
pub(crate) fn stored(block: &[u8], first: bool) -> Vec<u8> {
    let len = u16::try_from(block.len()).expect("a stored block");
    let mut packed = if first { vec![0x78, 0x01] } else { Vec::new() };
    packed.push(0);
    packed.extend(len.to_le_bytes());
    packed.extend((!len).to_le_bytes());
    packed.extend_from_slice(block);
    packed.extend([0, 0, 0, 0xff, 0xff]);
    packed
}

/// Returns a DATA frame.
pub(crate) fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Returns an empty DATA frame that ends the client's direction of a stream.
pub(crate) fn fin(stream: u32) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend([1, 0, 0, 0]);
    frame
}

/// Returns an RST_STREAM.
pub(crate) fn reset(stream: u32) -> Vec<u8> {
    control(3, &[stream.to_be_bytes(), 5_u32.to_be_bytes()].concat())
}

/// Returns a PING.
pub(crate) fn ping(id: u32) -> Vec<u8> {
    control(6, &id.to_be_bytes())
}

/// Returns the GOAWAY of kubectl.
pub(crate) fn go_away() -> Vec<u8> {
    control(7, &[0; 8])
}

/// Packs as many zeros as fit into `len` bytes: four times 258 in each byte.
pub(crate) fn bomb(len: usize) -> Vec<u8> {
    let (mut out, mut bits, mut count) = (vec![0x78, 0x01], 0_u32, 0);
    let mut put = |value: u32, n: u32| {
        bits |= value << count;
        count += n;
        while count >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            count -= 8;
        }
        out.len()
    };
    // A block with codes of its own: 286 for literals and lengths, and one for distances. The lengths
    // of these codes are given in codes for 18 (a run of zeros), 1 and 2.
    put(0b10 << 1, 3);
    put(29, 5);
    put(0, 5);
    put(14, 4);
    for order in 0..18 {
        let length = match order {
            2 => 1,
            15 | 17 => 2,
            _ => 0,
        };
        put(length, 3);
    }
    let (run, one, two) = ((0b0, 1), (0b01, 2), (0b11, 2));
    // The literal 0 has two bits, and so has the end of the block. A match of 258 bytes has one, and
    // so has the distance 1.
    for (value, n) in [
        two,
        run,
        (138 - 11, 7),
        run,
        (117 - 11, 7),
        two,
        run,
        (28 - 11, 7),
        one,
        one,
    ] {
        put(value, n);
    }
    put(0b01, 2);
    // A match after the other. The bits of both its codes are 0.
    while put(0, 2) < len - 8 {}
    put(0b11, 2);
    // A flush.
    put(0, 3);
    put(0, 7);
    out.extend([0, 0, 0xff, 0xff]);
    out
}
