//! The list of all attacks, with the bound on the heap of a session in KiB.

use super::{
    acts,
    attack::{Attack, End},
    attacker::Carrier,
};

const TUNNEL: &[Carrier] = &[Carrier::Tunnel];
const POST: &[Carrier] = &[Carrier::Post];

/// Header blocks, and frames that are announced or cut.
pub(super) fn frames() -> Vec<Attack> {
    vec![
        Attack::new("a header bomb of 41 KiB", acts::header_bomb, 8, End::Fault),
        Attack::new(
            "a header bomb of 16 KiB, which is the most",
            acts::header_bomb_within_the_length,
            32,
            End::Fault,
        ),
        Attack::new("HEADERS of 4 KiB", acts::large_headers, 64, End::Served).frames([300, 1_000]),
        Attack::new("headers in upper case", acts::garbage, 8, End::Fault),
        Attack::new(
            "16 MiB of DATA announced",
            acts::announced_data,
            16,
            End::Waits,
        ),
        Attack::new(
            "16 KiB of headers, but one byte",
            acts::cut_frame,
            24,
            End::Waits,
        ),
        Attack::new("three bytes of a head", acts::cut_head, 8, End::Waits),
    ]
}

/// Frames without end.
pub(super) fn floods() -> Vec<Attack> {
    vec![
        Attack::new("half pairs", acts::half_pairs, 128, End::Fault)
            .frames([300, 20_000])
            .ends_in_a_test(End::Served),
        Attack::new("open and reset", acts::rapid_reset, 256, End::Fault)
            .frames([300, 100_000])
            .ends_in_a_test(End::Served),
        Attack::new("connections that fail", acts::failures, 128, End::Served).frames([300, 3_000]),
        Attack::new("streams with FIN", acts::ended_at_once, 128, End::Served).frames([300, 3_000]),
        Attack::new(
            "unidirectional streams",
            acts::unidirectional,
            128,
            End::Fault,
        )
        .frames([300, 20_000])
        .ends_in_a_test(End::Served),
        Attack::new("PING", acts::pings, 128, End::Fault).frames([12_000, 100_000]),
        Attack::new("PING, answers unread", acts::pings_unread, 128, End::Paused)
            .frames([40_000, 100_000]),
        Attack::new("SETTINGS", acts::settings, 64, End::Fault).frames([12_000, 100_000]),
        Attack::new("HEADERS", acts::headers_flood, 64, End::Fault).frames([12_000, 100_000]),
        Attack::new("empty DATA", acts::empty_data, 64, End::Fault).frames([12_000, 100_000]),
        Attack::new("resets of nothing", acts::resets_of_nothing, 64, End::Fault)
            .frames([12_000, 100_000]),
        Attack::new("a byte in each frame", acts::single_bytes, 64, End::Served)
            .frames([1_000, 100_000]),
        Attack::new("empty fragments", acts::fragments, 64, End::Served)
            .frames([1_000, 100_000])
            .over(TUNNEL),
        Attack::new("the last stream", acts::ids_used_up, 16, End::Over),
        Attack::new(
            "the last stream, then a lower one",
            acts::ids_used_up_and_lower,
            16,
            End::Fault,
        ),
    ]
}

/// Clients that do not read, or do not go on.
pub(super) fn stalls() -> Vec<Attack> {
    vec![
        Attack::new(
            "an upload that is not read",
            acts::unread_upload,
            896,
            End::Paused,
        )
        .sessions([4, 64]),
        Attack::new(
            "127 bytes that are not read",
            acts::a_byte_each,
            2_560,
            End::Served,
        )
        .sessions([4, 64]),
        Attack::new(
            "a download that is not read",
            acts::unread_downloads,
            128,
            End::Waits,
        ),
        Attack::new(
            "127 downloads that are not read",
            acts::many_unread_downloads,
            640,
            End::Waits,
        )
        .sessions([4, 64]),
        Attack::new(
            "replies that are not read",
            acts::replies_withheld,
            256,
            End::Fault,
        )
        .frames([1_000, 20_000])
        .ends_in_a_test(End::Waits),
        Attack::new(
            "streams behind a download that stands still",
            acts::replies_behind_a_download,
            512,
            End::Fault,
        )
        .frames([100, 20_000])
        .ends_in_a_test(End::Served),
    ]
}

/// Commands and handshakes that are not completed.
pub(super) fn beginnings() -> Vec<Attack> {
    vec![
        Attack::new(
            "a command without stdout",
            acts::incomplete_commands,
            64,
            End::Waits,
        )
        .over(POST)
        .each([1, 4, 1]),
        Attack::new(
            "a command that is left alone",
            acts::commands_left_alone,
            64,
            End::Waits,
        )
        .over(POST)
        .each([1, 4, 1]),
        Attack::new(
            "a command whose output is not read",
            acts::unread_commands,
            512,
            End::Paused,
        )
        .over(POST)
        .each([1, 4, 1]),
        Attack::new(
            "handshakes that are refused",
            acts::refused_handshakes,
            16,
            End::None,
        )
        .sessions([100, 5_000])
        .over(POST),
        Attack::new(
            "handshakes that are left",
            acts::abandoned_handshakes,
            16,
            End::None,
        )
        .sessions([100, 5_000])
        .over(POST),
    ]
}
