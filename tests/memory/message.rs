//! A message of 1 GiB passes through some KiB of memory, in one frame or in a million.

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::server::{Server, start};

const GIB: u64 = 1 << 30;
const FRAGMENTS: u64 = 1_000_000;

/// The bytes by which resident memory may exceed that of a warm server.
const RISE: u64 = 2 << 20;

/// Each byte of the masking key, and therefore of a masked payload of zeros.
const KEY: u8 = 7;

/// Returns the head of a masked frame.
fn head(first: u8, len: u64) -> Vec<u8> {
    let mut head = vec![first];
    match len {
        ..126 => head.push(0x80 | len as u8),
        126..65536 => {
            head.push(0x80 | 126);
            head.extend((len as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(len.to_be_bytes());
        }
    }
    head.extend([KEY; 4]);
    head
}

/// Sends one message of `total` payload bytes for channel 0 in `fragments` frames, ends the input with
/// a Close, and returns the count of the server.
fn session(server: &Server, total: u64, fragments: u64) {
    let mut stream = server.connect("/sink");
    let zeros = vec![KEY; 64 * 1024];
    let mut pending = Vec::new();
    let mut left = total + 1;
    for n in 0..fragments {
        let len = if n + 1 == fragments {
            left
        } else {
            (total + 1) / fragments
        };
        left -= len;
        let fin = if n + 1 == fragments { 0x80 } else { 0 };
        pending.extend(head(fin | if n == 0 { 2 } else { 0 }, len));
        let mut body = len;
        while body > 0 {
            let piece = body.min(zeros.len() as u64);
            pending.extend_from_slice(&zeros[..piece as usize]);
            body -= piece;
            if pending.len() >= zeros.len() {
                stream.write_all(&pending).unwrap();
                pending.clear();
            }
        }
    }
    pending.extend(head(0x88, 0));
    stream.write_all(&pending).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let mut expected = vec![0x82, 9, 1];
    expected.extend(total.to_le_bytes());
    expected.extend([0x88, 0]);
    assert_eq!(answer, expected);
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_message_of_a_gibibyte_costs_nothing() {
    let Some(server) = start("message::a_message_of_a_gibibyte_costs_nothing") else {
        return;
    };
    for _ in 0..20 {
        session(&server, 4 << 20, 3);
    }
    let warm = server.resident();
    let highest = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                highest.fetch_max(server.resident(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(100));
            }
        });
        // A scope waits for its threads even if it panics.
        let _done = SetOnDrop(&done);
        session(&server, GIB, 1);
        session(&server, GIB, FRAGMENTS);
    });
    let rise = highest.into_inner().saturating_sub(warm);
    println!("resident memory: {warm} bytes warm, at most {rise} more");
    assert!(rise < RISE, "{rise} bytes more than after the warm-up");
}
