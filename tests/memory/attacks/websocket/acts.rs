//! Attacks within a session that is open.

use super::{
    super::{
        attacker::{Attacker, message},
        run::{Pause, Run},
        target::RESERVE,
    },
    frames::{BINARY, CLOSE, CONTINUATION, FIN, GOODBYE, PING, PONG, announced, frame},
    target::{ECHOES, NEVER_READS, READS, RETURNS, WRITES},
};

const V5: &str = "v5.channel.k8s.io";

/// The bytes of the reserve that a full channel gets at once, after a pause.
const LOAN: usize = 16 * 1024;

/// The number of looks at the server in which it takes what it has room for.
const LOOKS: u32 = 2;

/// The number of frames between two looks at the server.
const BATCH: u32 = 50;

/// Opens all sessions of a run.
fn open(run: &mut Run<'_>, path: &str) -> Vec<Attacker> {
    let open = |_| Attacker::open(run.server, run.carrier, path, V5);
    (0..run.sessions).map(open).collect()
}

/// Sends the same bytes on every session.
fn send(run: &mut Run<'_>, path: &str, bytes: &[u8]) -> Vec<Attacker> {
    let mut attackers = open(run, path);
    for attacker in &mut attackers {
        attacker.send_raw(bytes);
    }
    attackers
}

/// Sends frames on every session.
fn flood(
    run: &mut Run<'_>,
    path: &str,
    reads: bool,
    next: impl Fn(u32) -> Vec<u8>,
) -> Vec<Attacker> {
    let mut attackers = open(run, path);
    for n in (0..run.frames).step_by(BATCH as usize) {
        let frames: Vec<u8> = (n..n + BATCH).flat_map(&next).collect();
        for attacker in &mut attackers {
            if attacker.is_clear() {
                attacker.send_raw(&frames);
            }
        }
        run.drive(&mut attackers, reads);
        run.exchange(&mut attackers, reads);
    }
    attackers
}

/// Announces a frame whose length has its most significant bit set (RFC 6455, section 5.2).
pub(super) fn length_of_2_63(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, READS, &announced(FIN | BINARY, 1 << 63))
}

pub(super) fn longest_length(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, READS, &announced(FIN | BINARY, (1 << 63) - 1))
}

/// Announces the largest frame that is allowed, and sends two bytes of it.
pub(super) fn announced_frame(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut bytes = announced(FIN | BINARY, 4 << 30);
    bytes.extend([0, 7]);
    send(run, NEVER_READS, &bytes)
}

pub(super) fn cut_head(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, READS, &announced(FIN | BINARY, 9)[..9])
}

/// Sends messages byte by byte.
pub(super) fn slow_frames(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run, READS);
    for _ in 0..run.frames {
        for byte in frame(FIN | BINARY, b"\0abc") {
            for attacker in &mut attackers {
                attacker.send_raw(&[byte]);
            }
            run.drive(&mut attackers, true);
            run.exchange(&mut attackers, true);
        }
    }
    attackers
}

pub(super) fn pings(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, true, |_| frame(FIN | PING, &[7; 125]))
}

pub(super) fn pings_unread(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, false, |_| frame(FIN | PING, &[7; 125]))
}

pub(super) fn pongs(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, true, |_| frame(FIN | PONG, &[7; 125]))
}

/// Ends both channels, again and again.
pub(super) fn closes(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, NEVER_READS, true, |n| {
        frame(FIN | BINARY, &[CLOSE, (n % 2) as u8])
    })
}

/// Ends a channel that does not exist.
pub(super) fn close_of_no_channel(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, NEVER_READS, &frame(FIN | BINARY, &[CLOSE, 2]))
}

/// Sends Close frames, of which the first ends the session.
pub(super) fn goodbyes(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, true, |_| {
        frame(FIN | GOODBYE, &1000_u16.to_be_bytes())
    })
}

/// Sends messages for channels that do not exist.
pub(super) fn no_channels(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, true, |n| {
        frame(FIN | BINARY, &[(n % 250) as u8 + 2; 100])
    })
}

pub(super) fn empty_messages(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, true, |_| frame(FIN | BINARY, &[]))
}

/// Sends a message in fragments, which it completes.
fn fragments(run: &mut Run<'_>, fragment: &[u8]) -> Vec<Attacker> {
    let mut attackers = flood(run, READS, true, |n| match n {
        0 => frame(BINARY, &[0]),
        _ => frame(CONTINUATION, fragment),
    });
    for attacker in &mut attackers {
        if attacker.is_clear() {
            attacker.send_raw(&frame(FIN | CONTINUATION, fragment));
        }
    }
    run.drive(&mut attackers, true);
    attackers
}

pub(super) fn empty_fragments(run: &mut Run<'_>) -> Vec<Attacker> {
    fragments(run, &[])
}

pub(super) fn fragments_of_a_byte(run: &mut Run<'_>) -> Vec<Attacker> {
    fragments(run, b"x")
}

pub(super) fn messages_of_a_byte(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, READS, true, |_| frame(FIN | BINARY, b"\0x"))
}

/// Sends the same frames again and again, and reads nothing. Time passes until the reserve of a session
/// that is not read must be used up, even if only every second look finds what has to be read.
fn stuff(run: &mut Run<'_>, path: &str, begin: &[u8], frames: &[u8], times: u32) -> Vec<Attacker> {
    let mut attackers = send(run, path, begin);
    let all = frames.repeat(times as usize);
    for attacker in &mut attackers {
        attacker.send_raw(&all);
    }
    for _ in 0..2 * RESERVE / LOAN + 8 {
        run.gauge.pass(1);
        for _ in 0..LOOKS {
            run.exchange(&mut attackers, false);
        }
    }
    run.drive(&mut attackers, false);
    attackers
}

/// Sends more than fits anywhere, with Pings between.
fn upload(run: &mut Run<'_>, path: &str) -> Vec<Attacker> {
    let frames = [message(&[0; 8 * 1024]), frame(FIN | PING, &[7; 125])].concat();
    stuff(run, path, &[], &frames, 256)
}

/// Sends fragments of one byte to a service that does not read.
pub(super) fn unread_fragments(run: &mut Run<'_>) -> Vec<Attacker> {
    let first = frame(BINARY, &[0]);
    stuff(
        run,
        NEVER_READS,
        &first,
        &frame(CONTINUATION, b"x"),
        run.frames,
    )
}

/// Sends messages of one byte to a service that does not read.
pub(super) fn unread_messages(run: &mut Run<'_>) -> Vec<Attacker> {
    stuff(
        run,
        NEVER_READS,
        &[],
        &frame(FIN | BINARY, b"\0x"),
        run.frames,
    )
}

pub(super) fn unread_upload(run: &mut Run<'_>) -> Vec<Attacker> {
    upload(run, NEVER_READS)
}

/// Floods a service that answers everything.
pub(super) fn floods_unread(run: &mut Run<'_>) -> Vec<Attacker> {
    upload(run, ECHOES)
}

pub(super) fn unread_downloads(run: &mut Run<'_>) -> Vec<Attacker> {
    open(run, WRITES)
}

/// Does not read the output that its session has left behind.
pub(super) fn output_left(run: &mut Run<'_>) -> Vec<Attacker> {
    open(run, RETURNS)
}

/// Reads the Close of its session, and never answers it.
pub(super) fn never_closes(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run, RETURNS);
    let mut pause = Pause::new();
    while attackers.iter().any(|attacker| attacker.go_away.is_none()) {
        let moved = run.exchange(&mut attackers, true);
        assert!(!pause.is_over(moved), "no Close");
    }
    attackers
}

/// Leaves a session alone.
pub(super) fn left_alone(run: &mut Run<'_>) -> Vec<Attacker> {
    open(run, READS)
}
