//! An attack: how it is made, what is measured, and the bounds.

use super::{
    attacker::{Attacker, Carrier},
    gauge::{Figures, Gauge},
    run::{Pause, Run},
};
use crate::server::start;

const KIB: u64 = 1024;

/// The head of the table.
pub(super) const HEAD: &str = "\
    | attack | over | sessions | sent, KiB each | held, KiB each | heap, KiB | resident, KiB | tasks | descriptors | processes | then |\n\
    |---|---|---|---|---|---|---|---|---|---|---|";

/// The number of a PING that a session answers if it still works.
const LAST_PING: u32 = 0x7fff_ffff;

/// The memory that a thread of the server keeps for the next sessions: 16 chunks of windows, and 8
/// buffers for output. Tables that have grown for many sessions at once are the rest.
const KEPT: u64 = (16 * 16 + 8 * 100 + 64) * KIB;

/// The bytes of heap by which two states may differ between the same attacks.
const TOLERANCE: u64 = 16 * KIB;

/// The bytes of resident memory that the allocator may take beyond one and a half times the heap.
const OVERHEAD: u64 = 4 << 20;

/// The state of a session once the attacker has done its worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
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
    /// It was ended with a Close of this code.
    Closed(u16),
    /// It has ended after these seconds, in steps, although its client is still connected.
    Gone(&'static [u8]),
    /// There is no session.
    None,
}

/// An attack, and the bounds on what it costs.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) over: &'static [Carrier],
    run: fn(&mut Run<'_>) -> Vec<Attacker>,
    /// The number of sessions in a test, and at full size.
    pub(super) sessions: [u32; 2],
    /// The most sessions or handshakes at once, if there are fewer than in all.
    at_once: Option<u32>,
    /// The number of frames on each session, or of handshakes.
    pub(super) frames: [u32; 2],
    /// The bound on the heap of each session, in KiB.
    pub(super) heap: u64,
    /// The tasks, descriptors and processes of each session.
    pub(super) each: [u64; 3],
    /// The heap in KiB, and the tasks, that the connection of a session takes beside it.
    beside: fn(Carrier) -> [u64; 2],
    /// The end of its sessions, in a test and at full size.
    pub(super) end: [End; 2],
}

impl Attack {
    pub(super) const fn new(
        name: &'static str,
        run: fn(&mut Run<'_>) -> Vec<Attacker>,
        heap: u64,
        end: End,
    ) -> Self {
        Self {
            name,
            over: &[Carrier::Tunnel, Carrier::Post],
            run,
            sessions: [4, 256],
            at_once: None,
            frames: [0, 0],
            heap,
            each: [1, 1, 0],
            beside: |_| [0; 2],
            end: [end; 2],
        }
    }

    /// Sends this many frames on each of some sessions, in a test and at full size.
    pub(super) const fn frames(self, frames: [u32; 2]) -> Self {
        Self {
            sessions: [2, 8],
            frames,
            ..self
        }
    }

    /// Has this many sessions, in a test and at full size.
    pub(super) const fn sessions(self, sessions: [u32; 2]) -> Self {
        Self { sessions, ..self }
    }

    /// Never has more than this many sessions or handshakes at once.
    pub(super) const fn at_once(self, most: u32) -> Self {
        let at_once = Some(most);
        Self { at_once, ..self }
    }

    /// Has this many tasks, descriptors and processes for each session.
    pub(super) const fn each(self, each: [u64; 3]) -> Self {
        Self { each, ..self }
    }

    /// Allows for the connection of each session as well.
    pub(super) const fn beside(self, beside: fn(Carrier) -> [u64; 2]) -> Self {
        Self { beside, ..self }
    }

    /// Ends in this way in a test, because there are few frames.
    pub(super) const fn ends_in_a_test(self, end: End) -> Self {
        let end = [end, self.end[1]];
        Self { end, ..self }
    }

    /// Is made over one carrier only.
    pub(super) const fn over(self, over: &'static [Carrier]) -> Self {
        Self { over, ..self }
    }
}

/// The figures of an attack.
pub(super) struct Measured {
    pub(super) before: Figures,
    pub(super) peak: Figures,
    /// The figures after the last attack.
    pub(super) after: Figures,
    /// The bytes of heap that it has added to those after the attack before it.
    more: u64,
    /// The most bytes that were resident at once, beyond those before.
    pub(super) resident: u64,
    /// The bytes that were sent, on all sessions.
    pub(super) sent: u64,
    pub(super) end: End,
}

impl Attack {
    /// Attacks once. Returns the number of bytes that were sent, and how the sessions stand.
    fn make(&self, run: &mut Run<'_>, expected: End) -> (u64, End) {
        let mut attackers = (self.run)(run);
        run.drive(&mut attackers, false);
        // A busy server has not begun when nothing changes for a moment.
        let least = run.fresh.tasks + u64::from(run.sessions);
        let is_open = |seen: Figures| seen.tasks >= least;
        let open = match expected {
            End::Waits | End::Gone(_) => run.gauge.until(is_open),
            _ => run.gauge.settle(),
        };
        let end = self.end_of(&mut attackers, run, expected);
        run.gauge.settle();
        if matches!(end, End::Waits | End::Gone(_)) {
            assert!(is_open(open), "{}: a session has ended", self.name);
        }
        (attackers.iter().map(|one| one.sent).sum(), end)
    }

    /// Returns how all sessions stand.
    fn end_of(&self, attackers: &mut [Attacker], run: &mut Run<'_>, expected: End) -> End {
        if attackers.is_empty() || expected == End::None {
            return End::None;
        }
        if matches!(expected, End::Waits | End::Paused) {
            let all = |paused| attackers.iter().all(|one| one.is_paused() == paused);
            assert!(all(true) || all(false), "{}: some are paused", self.name);
            return if all(true) { End::Paused } else { End::Waits };
        }
        if let End::Gone(steps) = expected {
            for &seconds in steps {
                run.gauge.pass(seconds);
                run.exchange(attackers, false);
                run.gauge.settle();
            }
            let fresh = run.fresh;
            let is_gone =
                |seen: Figures| (seen.tasks, seen.descriptors) == (fresh.tasks, fresh.descriptors);
            let seen = run.gauge.until(is_gone);
            assert!(is_gone(seen), "{}: {seen:?}", self.name);
            return expected;
        }
        for attacker in &mut *attackers {
            attacker.hear();
            if attacker.go_away.is_none() {
                attacker.ask(LAST_PING);
            }
        }
        let is_done = |one: &Attacker| one.go_away.is_some() || one.answered == LAST_PING;
        let mut pause = Pause::new();
        while !attackers.iter().all(is_done) {
            let moved = run.exchange(attackers, true);
            assert!(!pause.is_over(moved), "{}: no answer", self.name);
        }
        let end = attackers[0].go_away;
        let same = attackers.iter().all(|one| one.go_away == end);
        assert!(same, "{}: some sessions have ended", self.name);
        match end {
            None => End::Served,
            Some(code) if code >= 1000 => End::Closed(code as u16),
            Some(1) => End::Fault,
            Some(_) => End::Over,
        }
    }

    /// Makes the attack in one way. Returns nothing in the server's process.
    pub(super) fn measure(&self, test: &str, carrier: Carrier, size: usize) -> Option<Measured> {
        let server = start(test)?;
        let mut run = Run {
            gauge: Gauge::new(&server),
            fresh: Figures::default(),
            server: &server,
            carrier,
            sessions: 1,
            frames: self.frames[0].min(100),
        };
        let end = self.end[size];
        let fresh = run.gauge.settle();
        run.fresh = fresh;
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
    pub(super) fn check(&self, carrier: Carrier, size: usize, measured: &Measured) {
        let sessions = u64::from(self.at_once.unwrap_or(self.sessions[size]));
        let what = format!("{} ({carrier:?})", self.name);
        let Measured {
            before,
            peak,
            after,
            ..
        } = measured;
        assert_eq!(measured.end, self.end[size], "{what}");
        let [heap, tasks_beside] = (self.beside)(carrier);
        let heap = sessions * (self.heap + heap) * KIB + KEPT;
        let most = before.heap + heap;
        assert!(peak.heap <= most, "{what}: {} bytes of heap", peak.heap);
        let most = heap * 3 / 2 + OVERHEAD;
        let resident = measured.resident;
        assert!(resident <= most, "{what}: {resident} bytes resident");
        let [tasks, descriptors, processes] = self.each;
        // One more: a handshake that is going on.
        let most = before.tasks + (tasks + tasks_beside) * sessions + 1;
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

    /// Returns a row of the table.
    pub(super) fn row(&self, carrier: Carrier, size: usize, measured: &Measured) -> String {
        let sessions = u64::from(self.sessions[size]);
        let [before, peak, after] = [measured.before, measured.peak, measured.after];
        let row = |of: fn(Figures) -> u64| {
            let [before, peak, after] = [before, peak, after].map(of);
            match (before, peak, after) {
                (0, 0, 0) => "0".to_owned(),
                _ => format!("{before} → {peak} → {after}"),
            }
        };
        let bound = self.heap + (self.beside)(carrier)[0];
        let carrier = match carrier {
            Carrier::Tunnel => "tunnel",
            Carrier::Post => "POST",
            Carrier::WebSocket => "HTTP/1.1",
            Carrier::Tls => "TLS",
            Carrier::Http2 => "HTTP/2",
        };
        let end = match measured.end {
            End::Served => "goes on".to_owned(),
            End::Fault => "GOAWAY 1".to_owned(),
            End::Over => "GOAWAY 0".to_owned(),
            End::Paused => "is not read".to_owned(),
            End::Waits => "waits".to_owned(),
            End::Closed(code) => format!("Close {code}"),
            End::Gone(steps) => {
                let seconds: u64 = steps.iter().copied().map(u64::from).sum();
                format!("ends in {seconds} s")
            }
            End::None => "-".to_owned(),
        };
        let at_once = u64::from(self.at_once.unwrap_or(self.sessions[size]));
        let each = (peak.heap - before.heap) as f64 / (at_once * KIB) as f64;
        format!(
            "| {} | {carrier} | {sessions} | {:.1} | {each:.1} of {bound} | {} | +{} | {} | {} | {} | {end} |",
            self.name,
            measured.sent as f64 / (sessions * KIB) as f64,
            row(|figures| figures.heap / KIB),
            measured.resident / KIB,
            row(|figures| figures.tasks),
            row(|figures| figures.descriptors),
            row(|figures| figures.processes),
        )
    }
}
