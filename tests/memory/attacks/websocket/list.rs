//! The list of all attacks, with the bound on the heap of a session in KiB.

use super::{
    super::{
        attack::{Attack, End},
        attacker::{Attacker, Carrier},
        run::Run,
    },
    acts, heads, streams,
};

const ALL: &[Carrier] = &[Carrier::WebSocket, Carrier::Tls, Carrier::Http2];
const HTTP2: &[Carrier] = &[Carrier::Http2];

/// The steps in which time passes, in seconds: the server's time for a head, and over HTTP/2 for the
/// answer to a Ping.
const HEAD: End = End::Gone(&[31, 31]);

fn new(name: &'static str, run: fn(&mut Run<'_>) -> Vec<Attacker>, heap: u64, end: End) -> Attack {
    // Over HTTP/2, the connection has a task beside those of its stream.
    Attack::new(name, run, heap, end).over(ALL).each([3, 1, 0])
}

/// Handshakes that fail, and heads that never end.
pub(super) fn heads() -> Vec<Attack> {
    vec![
        new("handshakes that are refused", heads::refused, 64, End::None)
            .sessions([100, 10_000])
            .at_once(8),
        new(
            "65,535 subprotocols offered",
            heads::many_subprotocols,
            1_024,
            End::None,
        )
        .sessions([4, 100])
        .at_once(8),
        new("handshakes that are left", heads::abandoned, 64, End::None)
            .sessions([100, 10_000])
            .at_once(128),
        new("slow heads", heads::slow_heads, 64, HEAD),
        new("silence", heads::silent, 64, HEAD),
    ]
}

/// Frames that are announced, cut or slow.
pub(super) fn frames() -> Vec<Attack> {
    vec![
        new(
            "a length of 2⁶³",
            acts::length_of_2_63,
            64,
            End::Closed(1002),
        ),
        new(
            "a length of 2⁶³ − 1",
            acts::longest_length,
            64,
            End::Closed(1009),
        ),
        new("4 GiB announced", acts::announced_frame, 64, End::Waits),
        new("half the head of a frame", acts::cut_head, 64, End::Waits),
        new("slow frames", acts::slow_frames, 64, End::Served)
            .frames([3, 100])
            .sessions([4, 64]),
        new(
            "a session that is left alone",
            acts::left_alone,
            64,
            End::Waits,
        ),
    ]
}

fn flood(name: &'static str, run: fn(&mut Run<'_>) -> Vec<Attacker>) -> Attack {
    new(name, run, 128, End::Served).frames([1_000, 100_000])
}

/// Frames without end.
pub(super) fn floods() -> Vec<Attack> {
    vec![
        flood("Pings", acts::pings),
        new("Pings, Pongs unread", acts::pings_unread, 256, End::Waits).frames([1_000, 100_000]),
        flood("Pongs", acts::pongs),
        flood("CLOSE of channels", acts::closes),
        flood("messages for no channel", acts::no_channels),
        flood("empty messages", acts::empty_messages),
        flood("empty fragments", acts::empty_fragments),
        flood("a byte in each fragment", acts::fragments_of_a_byte),
        flood("a byte in each message", acts::messages_of_a_byte),
        new(
            "a byte in each fragment, unread",
            acts::unread_fragments,
            512,
            End::Waits,
        )
        .frames([1_000, 100_000]),
    ]
}

/// Clients that do not read, are not read, or do not close.
pub(super) fn stalls() -> Vec<Attack> {
    vec![
        new(
            "an upload that is not read",
            acts::unread_upload,
            1_280,
            End::Paused,
        )
        .sessions([4, 64]),
        new(
            "a flood whose echo is not read",
            acts::floods_unread,
            1_280,
            End::Paused,
        )
        .sessions([4, 64]),
        new(
            "a download that is not read",
            acts::unread_downloads,
            768,
            End::Waits,
        )
        .sessions([4, 64]),
        // The time in which a byte has to leave, and then the server's for a connection.
        new(
            "output that is left unread",
            acts::output_left,
            768,
            End::Gone(&[91, 31, 31]),
        )
        .sessions([4, 64]),
        // After our Close, after our FIN, and the server's.
        new(
            "a Close without an answer",
            acts::never_closes,
            768,
            End::Gone(&[31, 31, 31]),
        )
        .sessions([4, 64]),
    ]
}

/// Streams of HTTP/2 without end.
pub(super) fn streams() -> Vec<Attack> {
    vec![
        new("rapid reset", streams::rapid_reset, 512, End::None)
            .over(HTTP2)
            .frames([1_000, 100_000])
            .each([301, 1, 0]),
        new(
            "accepted and reset",
            streams::accepted_and_reset,
            2_048,
            HEAD,
        )
        .over(HTTP2)
        .frames([200, 10_000])
        .each([301, 1, 0]),
        new("CONNECT", streams::connects, 2_048, End::Waits)
            .over(HTTP2)
            .frames([150, 1_000])
            .each([301, 1, 0]),
    ]
}
