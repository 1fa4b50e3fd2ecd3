//! The acts of attackers, who leave their sessions open.

use std::io::Write;

use super::{
    attacker::{Attacker, Carrier, connect},
    run::Run,
    target::{EXEC, FAILS, NEVER_READS, READS, WRITES},
};
use crate::{
    frames::{bomb, control, data, fin, headers, ping, reset, stored, syn},
    server::read_head,
};

const PORT_FORWARD: &str = "portforward.k8s.io";

/// The number of frames between two looks at the server.
const BATCH: u32 = 50;

/// The number of the first stream of connection `n`.
fn error_of(n: u32) -> u32 {
    4 * n + 1
}

/// Opens all sessions of a run.
fn open(run: &mut Run<'_>) -> Vec<Attacker> {
    let open = |_| Attacker::open(run.server, run.carrier, "/", PORT_FORWARD);
    (0..run.sessions).map(open).collect()
}

/// Sends the same bytes on every session.
fn send(run: &mut Run<'_>, frames: &[u8]) -> Vec<Attacker> {
    let mut attackers = open(run);
    for attacker in &mut attackers {
        attacker.send(frames);
    }
    attackers
}

/// Sends frames on every session, until there were enough of them or the server objects.
fn flood(
    run: &mut Run<'_>,
    reads: bool,
    next: impl FnMut(&mut Attacker, u32) -> Vec<u8>,
) -> Vec<Attacker> {
    let mut attackers = open(run);
    flood_on(run, &mut attackers, reads, next);
    attackers
}

fn flood_on(
    run: &mut Run<'_>,
    attackers: &mut [Attacker],
    reads: bool,
    mut next: impl FnMut(&mut Attacker, u32) -> Vec<u8>,
) {
    for n in (0..run.frames).step_by(BATCH as usize) {
        for attacker in &mut *attackers {
            if attacker.is_clear() && attacker.go_away.is_none() {
                let frames: Vec<u8> = (n..n + BATCH).flat_map(|n| next(attacker, n)).collect();
                attacker.send(&frames);
            }
        }
        run.drive(attackers, reads);
        run.exchange(attackers, reads);
    }
}

/// Opens a connection to `port` on every session.
fn connected(run: &mut Run<'_>, port: u16) -> Vec<Attacker> {
    let mut attackers = open(run);
    for attacker in &mut attackers {
        let pair = attacker.pair(1, port);
        attacker.send(&pair);
    }
    attackers
}

pub(super) fn header_bomb(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, &syn(1, &bomb(41 * 1024)))
}

pub(super) fn header_bomb_within_the_length(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, &syn(1, &bomb(16 * 1024)))
}

/// Fills the history of header blocks.
pub(super) fn large_headers(run: &mut Run<'_>) -> Vec<Attacker> {
    let value = "v".repeat(256);
    let names: Vec<String> = (0..15).map(|n| format!("n{n}")).collect();
    let fields: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*value)).collect();
    flood(run, true, |attacker, _| {
        let body = [&1_u32.to_be_bytes()[..], &attacker.block(&fields)].concat();
        control(8, &body)
    })
}

pub(super) fn headers_flood(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |attacker, _| {
        let body = [&1_u32.to_be_bytes()[..], &attacker.block(&[])].concat();
        control(8, &body)
    })
}

pub(super) fn announced_data(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = connected(run, NEVER_READS);
    for attacker in &mut attackers {
        let mut head = 3_u32.to_be_bytes().to_vec();
        head.extend(0x00ff_ffff_u32.to_be_bytes());
        attacker.send(&head);
    }
    attackers
}

/// Sends all of the largest SYN_STREAM but its last byte.
pub(super) fn cut_frame(run: &mut Run<'_>) -> Vec<Attacker> {
    let frame = syn(1, &bomb(16 * 1024));
    send(run, &frame[..frame.len() - 1])
}

/// Stops in the middle of the head of a message or of a frame.
pub(super) fn cut_head(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run);
    for attacker in &mut attackers {
        attacker.send_raw(&[0x82, 0xfe, 0xff]);
    }
    attackers
}

pub(super) fn half_pairs(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |attacker, n| attacker.half(2 * n + 1, READS))
}

pub(super) fn rapid_reset(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |attacker, n| {
        let mut frames = attacker.pair(error_of(n), NEVER_READS);
        frames.extend(reset(error_of(n) + 2));
        frames
    })
}

/// Opens connections that the target refuses.
pub(super) fn failures(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |attacker, n| attacker.pair(error_of(n), FAILS))
}

/// Opens connections whose streams have ended with their first frames.
pub(super) fn ended_at_once(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |attacker, n| {
        let (error, port) = (error_of(n), READS);
        let mut frames = attacker.half(error, port);
        let mut other = attacker.other_half(error, port);
        // Their flags say FIN.
        (frames[4], other[4]) = (1, 1);
        frames.extend(other);
        frames
    })
}

pub(super) fn unidirectional(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |attacker, n| {
        let mut frame = attacker.half(2 * n + 1, READS);
        frame[4] = 2;
        frame
    })
}

pub(super) fn pings(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |_, n| ping(2 * n + 1))
}

pub(super) fn pings_unread(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, false, |_, n| ping(2 * n + 1))
}

pub(super) fn settings(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |_, _| control(4, &[0; 4]))
}

pub(super) fn empty_data(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |_, _| data(1, b""))
}

pub(super) fn resets_of_nothing(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, true, |_, _| reset(9))
}

/// Sends a byte of data at a time, in frames of their own, and in messages of one byte.
pub(super) fn single_bytes(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = connected(run, READS);
    for _ in (0..run.frames).step_by(BATCH as usize) {
        let frames: Vec<u8> = (0..BATCH).flat_map(|_| data(3, b"x")).collect();
        for attacker in &mut attackers {
            attacker.send_singly(&frames);
        }
        run.drive(&mut attackers, true);
        run.exchange(&mut attackers, true);
    }
    attackers
}

/// Uploads more on stream 3 than fits anywhere.
fn upload(run: &mut Run<'_>, attackers: &mut [Attacker]) {
    let frames = data(3, &[0; 8192]).repeat(256);
    for attacker in &mut *attackers {
        attacker.send(&frames);
    }
    run.drive(attackers, false);
}

/// Uploads to a service that does not read.
pub(super) fn unread_upload(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = connected(run, NEVER_READS);
    upload(run, &mut attackers);
    attackers
}

/// Sends one byte to each of as many connections as there may be, none of which is read.
pub(super) fn a_byte_each(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run);
    for n in 0..127 {
        for attacker in &mut attackers {
            let mut frames = attacker.pair(error_of(n), NEVER_READS);
            frames.extend(data(error_of(n) + 2, b"x"));
            attacker.send(&frames);
        }
        run.drive(&mut attackers, true);
        run.exchange(&mut attackers, true);
    }
    attackers
}

/// Downloads, and does not read.
pub(super) fn unread_downloads(run: &mut Run<'_>) -> Vec<Attacker> {
    connected(run, WRITES)
}

/// Downloads through as many connections as there may be, and does not read.
pub(super) fn many_unread_downloads(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run);
    for attacker in &mut attackers {
        for n in 0..127 {
            let frames = attacker.pair(error_of(n), WRITES);
            attacker.send(&frames);
        }
    }
    attackers
}

/// Opens streams, and does not read the replies.
pub(super) fn replies_withheld(run: &mut Run<'_>) -> Vec<Attacker> {
    flood(run, false, |attacker, n| attacker.pair(error_of(n), FAILS))
}

/// Lets a download stand still, and opens streams whose replies would wait behind it.
pub(super) fn replies_behind_a_download(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = connected(run, WRITES);
    // One answer, so that the others are waited for. Then the download stands still.
    while attackers.iter().any(|attacker| attacker.asked == 0) {
        run.exchange(&mut attackers, true);
    }
    for attacker in &mut attackers {
        attacker.answers = false;
    }
    run.rest(&mut attackers, true);
    let value = "v".repeat(256);
    let names: Vec<String> = (0..12).map(|n| format!("n{n}")).collect();
    flood_on(run, &mut attackers, true, |attacker, n| {
        // In the queue of stream 3.
        let (stream, request) = (10 * n + 13, n.to_string());
        let mut fields = vec![
            ("streamtype", "error"),
            ("port", "80"),
            ("requestid", &*request),
        ];
        fields.extend(names.iter().map(|name| (&**name, &*value)));
        attacker.syn(stream, &fields)
    });
    run.rest(&mut attackers, true);
    for attacker in &mut attackers {
        attacker.answers = true;
    }
    attackers
}

pub(super) fn ids_used_up(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run);
    for attacker in &mut attackers {
        let mut frames = attacker.pair(0x7fff_fffd, READS);
        frames.extend(fin(0x7fff_ffff));
        attacker.send(&frames);
    }
    attackers
}

pub(super) fn ids_used_up_and_lower(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = open(run);
    for attacker in &mut attackers {
        let mut frames = attacker.pair(0x7fff_fffd, READS);
        frames.extend(attacker.half(5, READS));
        attacker.send(&frames);
    }
    attackers
}

fn commands(run: &mut Run<'_>, kinds: &[&str]) -> Vec<Attacker> {
    let path = format!("{EXEC}?command=cat&stdin=1&stdout=1");
    let open = |_| Attacker::open(run.server, Carrier::Post, &path, "v4.channel.k8s.io");
    let mut attackers: Vec<_> = (0..run.sessions).map(open).collect();
    for attacker in &mut attackers {
        for (n, kind) in kinds.iter().enumerate() {
            let frame = attacker.syn(2 * n as u32 + 1, &[("streamtype", kind)]);
            attacker.send(&frame);
        }
    }
    attackers
}

/// Opens some streams of commands, and never the others.
pub(super) fn incomplete_commands(run: &mut Run<'_>) -> Vec<Attacker> {
    commands(run, &["error", "stdin"])
}

/// Starts commands that run until their client goes.
pub(super) fn commands_left_alone(run: &mut Run<'_>) -> Vec<Attacker> {
    commands(run, &["error", "stdin", "stdout"])
}

/// Fills both directions of commands, and reads nothing.
pub(super) fn unread_commands(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = commands_left_alone(run);
    upload(run, &mut attackers);
    attackers
}

fn request(protocol: &str, more: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
         X-Stream-Protocol-Version: {protocol}\r\n{more}\r\n\r\n"
    )
}

/// Makes handshakes that fail, and leaves after each.
pub(super) fn refused_handshakes(run: &mut Run<'_>) -> Vec<Attacker> {
    // A protocol that does not exist, and a body that never comes.
    let requests = [
        (request("v9.example", "Content-Length: 0"), "HTTP/1.1 403"),
        (
            request(PORT_FORWARD, "Content-Length: 1000"),
            "HTTP/1.1 400",
        ),
    ];
    for n in 0..run.sessions as usize {
        let (request, answer) = &requests[n % requests.len()];
        let mut stream = connect(run.server.address());
        stream.write_all(request.as_bytes()).unwrap();
        let head = read_head(&mut stream);
        assert!(
            head.starts_with(answer.as_bytes()),
            "{}",
            head.escape_ascii()
        );
        run.gauge.look();
    }
    Vec::new()
}

/// Leaves before the answer to a handshake.
pub(super) fn abandoned_handshakes(run: &mut Run<'_>) -> Vec<Attacker> {
    for _ in 0..run.sessions {
        let mut stream = connect(run.server.address());
        let request = request(PORT_FORWARD, "Content-Length: 0");
        stream.write_all(request.as_bytes()).unwrap();
        run.gauge.look();
    }
    Vec::new()
}

/// Sends empty fragments of one message.
pub(super) fn fragments(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut attackers = connected(run, READS);
    let frame = |first: u8| [first, 0x80, 0, 0, 0, 0];
    for n in (0..run.frames).step_by(BATCH as usize) {
        for attacker in &mut attackers {
            attacker.send_raw(&frame(if n == 0 { 0x02 } else { 0x00 }));
            attacker.send_raw(&frame(0x00).repeat(BATCH as usize));
        }
        run.drive(&mut attackers, true);
        run.exchange(&mut attackers, true);
    }
    for attacker in &mut attackers {
        attacker.send_raw(&frame(0x80));
    }
    attackers
}

/// Names a header in upper case.
pub(super) fn garbage(run: &mut Run<'_>) -> Vec<Attacker> {
    send(run, &syn(1, &stored(&headers(&[("Port", "80")]), true)))
}
