//! The messages that a client sends.
#![allow(dead_code, reason = "each bench uses a part of it")]

/// Returns `count` masked messages on channel 0: binary, or base64 text.
pub(crate) fn messages(size: usize, base64: bool, count: usize) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let payload: Vec<u8> = (0..size).map(|i| (i * 31) as u8).collect();
    let mut body = vec![if base64 { b'0' } else { 0 }];
    match base64 {
        true => tower_wsstream::bench::base64_encode(&payload, &mut body),
        false => body.extend(payload),
    }
    let mut frame = vec![0x80 | if base64 { 1 } else { 2 }];
    match body.len() {
        len @ 0..126 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 127);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend(KEY);
    frame.extend(
        body.iter()
            .zip(KEY.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame.repeat(count)
}

/// Returns the number of messages that make about 1 MiB.
pub(crate) fn many(size: usize) -> usize {
    (1 << 20) / size
}

/// Sizes of messages, from a typed line to a buffer of kubectl's.
pub(crate) const SIZES: [usize; 3] = [64, 1024, 32 * 1024];

/// The bytes that one read of a connection takes.
pub(crate) const READ: usize = 16 * 1024;
