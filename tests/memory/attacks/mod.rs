//! Attacks over SPDY: what each costs the server at most, and that nothing of it stays.
//!
//! Each attack is made on a server of its own, after a small one. Then it is made again until it adds
//! nothing to what the server keeps.

mod attacker;
mod gauge;
mod rows;
pub(crate) mod target;

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use self::{
    attacker::{Attacker, Carrier},
    gauge::{Figures, Gauge},
};
use crate::{
    frames::ping,
    server::{Server, allow_descriptors, start},
};

const KIB: u64 = 1024;

/// The number of a PING that a session answers if it still works.
const LAST_PING: u32 = 0x7fff_ffff;

/// The memory that a thread of the server keeps for the next sessions: 16 chunks of windows, and 8
/// buffers for output. Tables that have grown for many sessions at once are the rest.
const KEPT: u64 = (16 * 16 + 8 * 100 + 64) * KIB;

/// The bytes of heap by which two states may differ between the same attacks.
const TOLERANCE: u64 = 16 * KIB;

/// The bytes of resident memory that the allocator may take beyond the heap.
const OVERHEAD: u64 = 4 << 20;

/// How a session stands once the attacker has done its worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It answers PINGs, as any other session.
    Served,
    /// It was ended with GOAWAY, because the client broke the protocol or flooded.
    Fault,
    /// It was ended with GOAWAY in order.
    Over,
    /// The client is not read any more.
    Paused,
    /// It waits for the rest of what has begun.
    Waits,
    /// There is no session.
    None,
}

/// An attack, and the bounds on what it costs.
struct Attack {
    name: &'static str,
    over: &'static [Carrier],
    run: fn(&mut Run<'_>) -> Vec<Attacker>,
    /// The number of sessions in a test, and at full size.
    sessions: [u32; 2],
    /// The number of frames on each session, or of handshakes.
    frames: [u32; 2],
    /// The bound on the heap of each session, in KiB.
    heap: u64,
    /// The tasks, descriptors and processes of each session.
    each: [u64; 3],
    /// How its sessions end, in a test and at full size.
    end: [End; 2],
}

/// One attack that is being made.
struct Run<'a> {
    server: &'a Server,
    gauge: Gauge,
    carrier: Carrier,
    sessions: u32,
    frames: u32,
}

impl Run<'_> {
    /// Lets the server work, and the attackers with it. Returns whether bytes have moved.
    fn exchange(&mut self, attackers: &mut [Attacker], reads: bool) -> bool {
        self.gauge.look();
        let mut moved = false;
        for attacker in attackers {
            moved |= attacker.write();
            moved |= reads && attacker.hear();
        }
        moved
    }

    /// Lets them work until the server has taken everything, or takes nothing for a while.
    fn drive(&mut self, attackers: &mut [Attacker], reads: bool) {
        let mut pause = Pause::new();
        while attackers.iter().any(Attacker::is_waiting) {
            let moved = self.exchange(attackers, reads);
            if pause.is_over(moved) {
                attackers.iter_mut().for_each(Attacker::give_up);
            }
        }
    }

    /// Lets them work until no byte moves for a while.
    fn rest(&mut self, attackers: &mut [Attacker], reads: bool) {
        let mut pause = Pause::new();
        while !pause.is_over(self.exchange(attackers, reads)) {}
    }
}

/// The time and the looks at the server since the last byte has moved.
///
/// Bytes may be in the kernel for a while, so looks alone are not enough. A busy machine may stop the
/// server for any time, so time alone is not either.
struct Pause {
    since: Instant,
    looks: u32,
}

impl Pause {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            looks: 0,
        }
    }

    /// Counts a look. Returns whether nothing more is to be expected.
    fn is_over(&mut self, moved: bool) -> bool {
        if moved {
            *self = Self::new();
        }
        self.looks += 1;
        self.looks > 50 && self.since.elapsed() > Duration::from_millis(250)
    }
}

const BOTH: &[Carrier] = &[Carrier::Tunnel, Carrier::Post];
const TUNNEL: &[Carrier] = &[Carrier::Tunnel];
const POST: &[Carrier] = &[Carrier::Post];

impl Attack {
    const fn new(
        name: &'static str,
        run: fn(&mut Run<'_>) -> Vec<Attacker>,
        heap: u64,
        end: End,
    ) -> Self {
        Self {
            name,
            over: BOTH,
            run,
            sessions: [8, 256],
            frames: [0, 0],
            heap,
            each: [1, 1, 0],
            end: [end; 2],
        }
    }

    /// Makes so little of it in a test that the session goes on.
    const fn served_in_a_test(self) -> Self {
        Self {
            end: [End::Served, self.end[1]],
            ..self
        }
    }

    /// Sends this many frames on each of some sessions, in a test and at full size.
    const fn frames(self, frames: [u32; 2]) -> Self {
        Self {
            sessions: [4, 16],
            frames,
            ..self
        }
    }

    const fn over(self, over: &'static [Carrier]) -> Self {
        Self { over, ..self }
    }
}

/// The figures of an attack.
struct Measured {
    before: Figures,
    peak: Figures,
    /// The figures after the last attack.
    after: Figures,
    /// The bytes of heap that it has added to those after the attack before it.
    more: u64,
    /// The most bytes that were resident at once, beyond those before.
    resident: u64,
    /// The bytes that were sent, on all sessions.
    sent: u64,
    end: End,
}

impl Attack {
    /// Attacks once. Returns the number of bytes that were sent, and how the sessions stand.
    fn make(&self, run: &mut Run<'_>, expected: End) -> (u64, End) {
        let mut attackers = (self.run)(run);
        run.drive(&mut attackers, false);
        let open = run.gauge.settle();
        let end = self.end_of(&mut attackers, run, expected);
        run.gauge.settle();
        if end == End::Waits {
            let sessions = u64::from(run.sessions);
            assert!(open.tasks > sessions, "{}: a session has ended", self.name);
        }
        (attackers.iter().map(|one| one.sent).sum(), end)
    }

    /// Returns how all sessions stand.
    fn end_of(&self, attackers: &mut [Attacker], run: &mut Run<'_>, expected: End) -> End {
        if attackers.is_empty() {
            return End::None;
        }
        if matches!(expected, End::Waits | End::Paused) {
            let all = |paused| attackers.iter().all(|one| one.is_paused() == paused);
            assert!(all(true) || all(false), "{}: some are paused", self.name);
            return if all(true) { End::Paused } else { End::Waits };
        }
        for attacker in &mut *attackers {
            attacker.hear();
            if attacker.go_away.is_none() {
                attacker.send(&ping(LAST_PING));
            }
        }
        let is_done = |one: &Attacker| one.go_away.is_some() || one.answered == LAST_PING;
        let mut pause = Pause::new();
        while !attackers.iter().all(is_done) {
            let moved = run.exchange(attackers, true);
            if pause.is_over(moved) {
                panic!("{}: no answer: {:#?}", self.name, attackers.iter().map(|a| a.debug()).collect::<Vec<_>>());
            }
        }
        let end = attackers[0].go_away;
        let same = attackers.iter().all(|one| one.go_away == end);
        assert!(same, "{}: some sessions have ended", self.name);
        match end {
            None => End::Served,
            Some(1) => End::Fault,
            Some(_) => End::Over,
        }
    }

    /// Makes the attack in one way. Returns nothing in the server's process.
    fn measure(&self, test: &str, carrier: Carrier, size: usize) -> Option<Measured> {
        let server = start(test)?;
        let mut run = Run {
            gauge: Gauge::new(&server),
            server: &server,
            carrier,
            sessions: 1,
            frames: self.frames[0].min(100),
        };
        let end = self.end[size];
        let fresh = run.gauge.settle();
        self.make(&mut run, self.end[0]);
        let before = run.gauge.until(|seen| seen.counts() == fresh.counts());
        let resident = server.resident();
        (run.sessions, run.frames) = (self.sessions[size], self.frames[size]);
        run.gauge.highest = before;
        let (sent, end) = self.make(&mut run, end);
        let is_over = |seen: Figures| seen.counts() == before.counts();
        let mut after = run.gauge.until(is_over);
        // What is kept for later sessions may grow for some time.
        let mut more = u64::MAX;
        for _ in 0..5 {
            if more > TOLERANCE && is_over(after) {
                self.make(&mut run, end);
                let next = run.gauge.until(is_over);
                more = next.heap.saturating_sub(after.heap);
                after = next;
            }
        }
        Some(Measured {
            before,
            peak: run.gauge.highest,
            after,
            more,
            resident: run.gauge.most_resident().saturating_sub(resident),
            sent,
            end,
        })
    }

    /// Checks the bounds.
    fn check(&self, carrier: Carrier, size: usize, measured: &Measured) {
        let sessions = u64::from(self.sessions[size]);
        let what = format!("{} ({carrier:?})", self.name);
        let Measured {
            before,
            peak,
            after,
            ..
        } = measured;
        assert_eq!(measured.end, self.end[size], "{what}");
        let most = before.heap + sessions * self.heap * KIB + KEPT;
        assert!(peak.heap <= most, "{what}: {} bytes of heap", peak.heap);
        let most = sessions * self.heap * KIB + KEPT + OVERHEAD;
        let resident = measured.resident;
        assert!(resident <= most, "{what}: {resident} bytes resident");
        let [tasks, descriptors, processes] = self.each;
        // One more: a handshake that is going on.
        let most = before.tasks + tasks * sessions + 1;
        assert!(peak.tasks <= most, "{what}: {} tasks", peak.tasks);
        let most = before.descriptors + descriptors * sessions + 1;
        assert!(peak.descriptors <= most, "{what}: {}", peak.descriptors);
        let most = processes * sessions;
        assert!(peak.processes <= most, "{what}: {}", peak.processes);
        assert_eq!(peak.threads, before.threads, "{what}: threads");
        assert_eq!(after.counts(), before.counts(), "{what}: what is left");
        let kept = after.heap.saturating_sub(before.heap);
        assert!(kept <= KEPT, "{what}: {kept} bytes are kept");
        let more = measured.more;
        assert!(more <= TOLERANCE, "{what}: each adds {more} bytes");
    }
}

/// Makes all of these attacks in a size, and returns a row of a table for each.
fn attack(test: &str, attacks: &[Attack], size: usize) -> String {
    allow_descriptors();
    let mut table = String::new();
    for attack in attacks {
        for &carrier in attack.over {
            let Some(measured) = attack.measure(test, carrier, size) else {
                return table;
            };
            let sessions = u64::from(attack.sessions[size]);
            let row = row(attack, carrier, sessions, &measured);
            print!("{row}");
            table += &row;
            attack.check(carrier, size, &measured);
        }
    }
    table
}

fn row(attack: &Attack, carrier: Carrier, sessions: u64, measured: &Measured) -> String {
    let Measured {
        before,
        peak,
        after,
        ..
    } = measured;
    let mut row = String::new();
    let kib = |bytes: u64| (bytes as f64 / KIB as f64 * 10.0).round() / 10.0;
    let _ = writeln!(
        row,
        "| {} | {carrier:?} | {sessions} | {} | {} (≤ {}) | {} → {} → {} | {} | {} → {} → {} | {} → {} → {} | {:?} |",
        attack.name,
        kib(measured.sent / sessions),
        kib((peak.heap - before.heap) / sessions),
        attack.heap,
        kib(before.heap),
        kib(peak.heap),
        kib(after.heap),
        kib(measured.resident),
        before.tasks,
        peak.tasks,
        after.tasks,
        before.descriptors,
        peak.descriptors,
        after.descriptors,
        measured.end,
    );
    row
}

fn headers() -> Vec<Attack> {
    vec![
        Attack::new("header bomb", rows::header_bomb, 32, End::Fault),
        Attack::new("bomb within", rows::header_bomb_within_the_length, 64, End::Fault),
        Attack::new("HEADERS", rows::headers_flood, 64, End::Fault).frames([300, 20_000]).served_in_a_test(),
        Attack::new("16 MiB DATA", rows::announced_data, 32, End::Waits),
        Attack::new("cut frame", rows::cut_frame, 24, End::Waits),
        Attack::new("cut head", rows::cut_head, 16, End::Waits),
        Attack::new("garbage", rows::garbage, 16, End::Fault),
    ]
}

fn floods() -> Vec<Attack> {
    vec![
        Attack::new("half pairs", rows::half_pairs, 128, End::Fault).frames([300, 20_000]).served_in_a_test(),
        Attack::new("rapid reset", rows::rapid_reset, 128, End::Fault).frames([300, 100_000]).served_in_a_test(),
        Attack::new("failures", rows::failures, 128, End::Served).frames([300, 20_000]),
        Attack::new("ended at once", rows::ended_at_once, 128, End::Served).frames([300, 20_000]),
        Attack::new("unidirectional", rows::unidirectional, 128, End::Fault).frames([300, 20_000]).served_in_a_test(),
        Attack::new("PING", rows::pings, 128, End::Fault).frames([12_000, 100_000]),
        Attack::new("PING unread", rows::pings_unread, 128, End::Paused).frames([12_000, 100_000]),
        Attack::new("SETTINGS", rows::settings, 128, End::Fault).frames([12_000, 100_000]),
        Attack::new("empty DATA", rows::empty_data, 128, End::Fault).frames([12_000, 100_000]),
        Attack::new("RST", rows::resets_of_nothing, 128, End::Fault).frames([12_000, 100_000]),
        Attack::new("single bytes", rows::single_bytes, 128, End::Served).frames([1_000, 100_000]),
        Attack::new("fragments", rows::fragments, 128, End::Served).frames([1_000, 100_000]).over(TUNNEL),
        Attack::new("ids", rows::ids_used_up, 128, End::Over),
        Attack::new("ids lower", rows::ids_used_up_and_lower, 128, End::Fault),
    ]
}

fn stalls() -> Vec<Attack> {
    vec![
        Attack::new("unread upload", rows::unread_upload, 512, End::Paused),
        Attack::new("a byte each", rows::a_byte_each, 2560, End::Served),
        Attack::new("unread downloads", rows::unread_downloads, 512, End::Waits),
        Attack::new("many unread downloads", rows::many_unread_downloads, 1024, End::Waits),
Attack { end: [End::Waits, End::Fault], ..Attack::new("replies withheld", rows::replies_withheld, 256, End::Fault).frames([1_000, 20_000]) },
        Attack::new("replies behind", rows::replies_behind_a_download, 1024, End::Fault).frames([100, 20_000]).served_in_a_test(),
        Attack::new("incomplete commands", rows::incomplete_commands, 64, End::Waits).over(POST),
        Attack { each: [1, 3, 1], ..Attack::new("commands", rows::commands_left_alone, 64, End::Waits).over(POST) },
        Attack { each: [1, 3, 1], ..Attack::new("unread commands", rows::unread_commands, 512, End::Paused).over(POST) },
    ]
}

fn handshakes() -> Vec<Attack> {
    vec![
        Attack { sessions: [100, 5_000], each: [2, 1, 0], ..Attack::new("refused handshakes", rows::refused_handshakes, 64, End::None).over(POST) },
        Attack { sessions: [100, 5_000], each: [2, 1, 0], ..Attack::new("abandoned handshakes", rows::abandoned_handshakes, 64, End::None).over(POST) },
        Attack { each: [2, 1, 0], ..Attack::new("unfinished handshakes", rows::unfinished_handshakes, 64, End::Waits).over(POST) },
    ]
}

#[test]
fn header_blocks_and_frames_are_bounded() {
    attack("attacks::header_blocks_and_frames_are_bounded", &headers(), 0);
}

#[test]
fn floods_are_bounded() {
    attack("attacks::floods_are_bounded", &floods(), 0);
}

#[test]
fn stalls_are_bounded() {
    attack("attacks::stalls_are_bounded", &stalls(), 0);
}

#[test]
fn handshakes_leave_nothing() {
    attack("attacks::handshakes_leave_nothing", &handshakes(), 0);
}

#[test]
#[ignore = "prints the table of the documentation"]
fn at_full_size() {
    for attacks in [headers(), floods(), stalls(), handshakes()] {
        attack("attacks::at_full_size", &attacks, 1);
    }
}
