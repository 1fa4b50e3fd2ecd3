//! The list of all attacks, with the bound on the heap of a session in KiB.

use super::{
    super::{
        attack::{Attack, End},
        attacker::{Attacker, Carrier},
        run::Run,
        target::RESERVE,
    },
    acts, heads, streams,
    target::LEFT,
};

const ALL: &[Carrier] = &[Carrier::WebSocket, Carrier::Tls, Carrier::Http2];
const CLEAR: &[Carrier] = &[Carrier::WebSocket, Carrier::Http2];
const TLS_ALONE: &[Carrier] = &[Carrier::Tls];
const HTTP2: &[Carrier] = &[Carrier::Http2];

// The parts of a session's heap, in KiB.

/// The state of a session, its task, and the service's future.
const SESSION: u64 = 8;
/// A chunk, which is the least that data takes.
const CHUNK: u64 = 16;
/// The unread input of the only readable channel, in chunks.
const WINDOW: u64 = 256;
/// The bytes of one read for which there is no room.
const READ: u64 = 64;
/// Its share of the stall reserve, for unread input beyond the window.
const STALL_RESERVE: u64 = RESERVE as u64 / 1024;
/// The buffer of its output: the budget of its only writable channel and one write.
const OUTPUT: u64 = 100;
/// 16 Pongs that wait, and 16 that are leaving, in vectors that double.
const PONGS: u64 = 8;

// The heap of the server beside a session, in KiB.

/// A head of less than 8 KiB, as hyper reads and keeps it, and the task of the connection.
const HEAD_OF_A_REQUEST: u64 = 32;
/// The longest head that hyper reads, in a buffer that doubles.
const LONGEST_HEAD: u64 = 512;
/// The state of rustls, and a record that has not arrived in whole.
const TLS: u64 = 32;
/// The output that rustls buffers before it is full.
const UNSENT_TLS: u64 = 64;
/// The state of a connection of HTTP/2: the tables of its headers, and a buffer for each direction.
const HTTP2_STATE: u64 = 64;
/// The window of its stream, on this server.
const HTTP2_WINDOW: u64 = 256;
/// The window that its client has given, and two writes that are on their way to it in hyper.
const UNSENT_HTTP2: u64 = 64 + 2 * 60;
/// The buffer of hyper for a stream whose window is never full, and the same two writes.
const MOST_UNSENT_HTTP2: u64 = 400 + 2 * 60;

/// The steps in which time passes, in seconds: the server's time for a head, and over HTTP/2 for the
/// answer to a Ping.
const HEAD: End = End::Gone(&[31, 31]);

/// An attack whose connection holds nothing but its own state beside the session.
fn new(name: &'static str, run: fn(&mut Run<'_>) -> Vec<Attacker>, heap: u64, end: End) -> Attack {
    let connection = |carrier| beside(carrier, [TLS, HTTP2_STATE]);
    Attack::new(name, run, heap, end)
        .over(ALL)
        .beside(connection)
}

/// Returns the heap in KiB, and the tasks, that a connection takes beside its session. Over HTTP/2, it
/// has a task, and so has its stream.
fn beside(carrier: Carrier, [tls, http2]: [u64; 2]) -> [u64; 2] {
    match carrier {
        Carrier::Tls => [tls, 0],
        Carrier::Http2 => [http2, 2],
        _ => [0, 0],
    }
}

/// Allows for input that is not read.
fn unread(carrier: Carrier) -> [u64; 2] {
    beside(carrier, [TLS, HTTP2_STATE + HTTP2_WINDOW])
}

/// Allows for output that is not read.
fn unsent(carrier: Carrier) -> [u64; 2] {
    beside(carrier, [TLS + UNSENT_TLS, HTTP2_STATE + UNSENT_HTTP2])
}

/// Allows for unread input and unread output.
fn neither(carrier: Carrier) -> [u64; 2] {
    let http2 = HTTP2_STATE + HTTP2_WINDOW + UNSENT_HTTP2;
    beside(carrier, [TLS + UNSENT_TLS, http2])
}

/// Handshakes one after the other. Some may be there at once, because tokio looks for what has happened
/// to its sockets after 61 polls at the latest. There are fewer over TLS, whose own handshakes take long.
fn refused(handshakes: [u32; 2]) -> Attack {
    let name = "handshakes that are refused";
    new(name, heads::refused, HEAD_OF_A_REQUEST, End::None)
        .sessions(handshakes)
        .at_once(8)
}

/// Handshakes whose clients leave before the answer, which may be a session.
fn left(handshakes: [u32; 2]) -> Attack {
    let name = "handshakes that are left";
    new(name, heads::abandoned, HEAD_OF_A_REQUEST, End::None)
        .sessions(handshakes)
        .at_once(128)
}

/// Handshakes that fail, and heads that never end.
pub(super) fn heads() -> Vec<Attack> {
    vec![
        refused([100, 10_000]).over(CLEAR),
        refused([30, 1_000]).over(TLS_ALONE),
        new(
            "65,535 subprotocols offered",
            heads::many_subprotocols,
            LONGEST_HEAD,
            End::None,
        )
        .sessions([6, 100])
        .at_once(2),
        left([100, 10_000]).over(CLEAR),
        left([20, 1_000]).over(TLS_ALONE),
        new("slow heads", heads::slow_heads, HEAD_OF_A_REQUEST, HEAD),
        new("silence", heads::silent, SESSION, HEAD),
    ]
}

/// Frames that are announced, cut or slow.
pub(super) fn frames() -> Vec<Attack> {
    vec![
        new(
            "a length of 2⁶³",
            acts::length_of_2_63,
            SESSION,
            End::Closed(1002),
        ),
        new(
            "a length of 2⁶³ − 1",
            acts::longest_length,
            SESSION,
            End::Closed(1009),
        ),
        // The chunk of the bytes that have come.
        new(
            "4 GiB announced",
            acts::announced_frame,
            SESSION + CHUNK,
            End::Waits,
        ),
        new(
            "half the head of a frame",
            acts::cut_head,
            SESSION,
            End::Waits,
        ),
        new(
            "CLOSE of a channel that does not exist",
            acts::close_of_no_channel,
            SESSION,
            End::Closed(1002),
        ),
        new("slow frames", acts::slow_frames, SESSION, End::Served)
            .frames([3, 100])
            .sessions([4, 64]),
        new(
            "a session that is left alone",
            acts::left_alone,
            SESSION,
            End::Waits,
        ),
    ]
}

/// A flood whose frames are all taken, so that only what the service has not read yet waits.
fn flood(name: &'static str, run: fn(&mut Run<'_>) -> Vec<Attacker>, end: End) -> Attack {
    new(name, run, SESSION + CHUNK + PONGS, end).frames([1_000, 20_000])
}

/// A flood of single bytes that are not read.
fn unread_bytes(name: &'static str, run: fn(&mut Run<'_>) -> Vec<Attacker>) -> Attack {
    let heap = SESSION + WINDOW + READ + STALL_RESERVE;
    new(name, run, heap, End::Paused)
        .beside(unread)
        .frames([1_000, 1_000_000])
        .sessions([2, 4])
        .ends_in_a_test(End::Waits)
}

/// Frames without end.
pub(super) fn floods() -> Vec<Attack> {
    vec![
        flood("Pings", acts::pings, End::Served),
        flood("Pings, Pongs unread", acts::pings_unread, End::Waits)
            .beside(unsent)
            .frames([12_000, 20_000]),
        flood("Pongs", acts::pongs, End::Served),
        flood("CLOSE of channels", acts::closes, End::Served),
        flood("Close frames", acts::goodbyes, End::Closed(1000)),
        flood("messages for no channel", acts::no_channels, End::Served),
        flood("empty messages", acts::empty_messages, End::Served),
        flood("empty fragments", acts::empty_fragments, End::Served),
        flood(
            "a byte in each fragment",
            acts::fragments_of_a_byte,
            End::Served,
        ),
        flood(
            "a byte in each message",
            acts::messages_of_a_byte,
            End::Served,
        ),
        unread_bytes("a byte in each fragment, unread", acts::unread_fragments),
        unread_bytes("a byte in each message, unread", acts::unread_messages),
    ]
}

/// Clients that do not read, are not read, or do not close.
pub(super) fn stalls() -> Vec<Attack> {
    vec![
        new(
            "an upload that is not read",
            acts::unread_upload,
            SESSION + WINDOW + READ + STALL_RESERVE + PONGS,
            End::Paused,
        )
        .beside(unread)
        .sessions([4, 32]),
        // The service has a buffer of its own.
        new(
            "a flood whose echo is not read",
            acts::floods_unread,
            SESSION + 8 + WINDOW + READ + STALL_RESERVE + OUTPUT + PONGS,
            End::Paused,
        )
        .beside(neither)
        .sessions([4, 32]),
        new(
            "a download that is not read",
            acts::unread_downloads,
            SESSION + OUTPUT,
            End::Waits,
        )
        .beside(unsent)
        .sessions([4, 64]),
        // The message is the service's choice. After the time in which a byte has to leave, the kernel
        // may take some more: it tells of room only if there is a third. Then the server has its own time
        // for a connection.
        new(
            "output that is left unread",
            acts::output_left,
            SESSION + LEFT as u64 / 1024,
            End::Gone(&[91, 91, 31, 31]),
        )
        .beside(unsent)
        .sessions([4, 64]),
        // After our Close, after our FIN, and the server's.
        new(
            "a Close without an answer",
            acts::never_closes,
            SESSION + LEFT as u64 / 1024,
            End::Gone(&[31, 31, 31]),
        )
        .beside(unsent)
        .sessions([4, 64]),
    ]
}

/// Attacks in which the heap is that of a connection, with so much for each of its 100 sessions. Each has
/// two tasks, as everywhere.
fn of_streams(
    name: &'static str,
    run: fn(&mut Run<'_>) -> Vec<Attacker>,
    heap: u64,
    end: End,
) -> Attack {
    let sessions = u64::from(streams::STREAMS);
    Attack::new(name, run, HTTP2_STATE + sessions * heap, end)
        .over(HTTP2)
        .each([1 + 2 * sessions, 1, 0])
}

/// Streams of HTTP/2 without end.
pub(super) fn streams() -> Vec<Attack> {
    vec![
        of_streams("rapid reset", streams::rapid_reset, SESSION, End::None).frames([1_000, 20_000]),
        of_streams(
            "accepted and reset",
            streams::accepted_and_reset,
            SESSION,
            HEAD,
        )
        .frames([200, 2_000]),
        of_streams("CONNECT", streams::connects, SESSION, End::Waits).frames([150, 1_000]),
        of_streams(
            "downloads, the connection unread",
            streams::unread_downloads,
            SESSION + OUTPUT + MOST_UNSENT_HTTP2,
            End::Waits,
        )
        .frames([100, 100])
        .sessions([1, 4]),
    ]
}
