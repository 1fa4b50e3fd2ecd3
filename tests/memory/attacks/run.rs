//! One attack that is being made.

use std::time::{Duration, Instant};

use super::{
    attacker::{Attacker, Carrier},
    gauge::{Figures, Gauge},
};
use crate::server::Server;

/// One attack that is being made.
pub(super) struct Run<'a> {
    pub(super) server: &'a Server,
    pub(super) gauge: Gauge,
    /// The figures before the first attack.
    pub(super) fresh: Figures,
    pub(super) carrier: Carrier,
    pub(super) sessions: u32,
    pub(super) frames: u32,
}

impl Run<'_> {
    /// Lets the server work, and the attackers with it. Returns whether bytes have moved.
    pub(super) fn exchange(&mut self, attackers: &mut [Attacker], reads: bool) -> bool {
        self.gauge.look();
        let mut moved = false;
        for attacker in attackers {
            moved |= attacker.write();
            moved |= reads && attacker.hear();
        }
        moved
    }

    /// Lets them work until the server has taken everything, or takes nothing for a while.
    pub(super) fn drive(&mut self, attackers: &mut [Attacker], reads: bool) {
        let mut pause = Pause::new();
        while attackers.iter().any(Attacker::is_waiting) {
            let moved = self.exchange(attackers, reads);
            if pause.is_over(moved) {
                attackers.iter_mut().for_each(Attacker::give_up);
            }
        }
    }

    /// Lets them work until no byte moves for a while.
    pub(super) fn rest(&mut self, attackers: &mut [Attacker], reads: bool) {
        let mut pause = Pause::new();
        while !pause.is_over(self.exchange(attackers, reads)) {}
    }
}

/// The time and the looks at the server since the last byte has moved.
///
/// Bytes may be in the kernel for a while, so looks alone are not enough. A busy machine may stop the
/// server for any time, so time alone is not either.
pub(super) struct Pause {
    since: Instant,
    looks: u32,
}

impl Pause {
    pub(super) fn new() -> Self {
        Self {
            since: Instant::now(),
            looks: 0,
        }
    }

    /// Counts a look. Returns whether nothing more is to be expected.
    pub(super) fn is_over(&mut self, moved: bool) -> bool {
        if moved {
            *self = Self::new();
        }
        self.looks += 1;
        self.looks > 50 && self.since.elapsed() > Duration::from_millis(250)
    }
}
