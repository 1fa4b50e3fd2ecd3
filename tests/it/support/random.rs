//! Scenarios made from random numbers. Each can be repeated by its seed.

use std::{env, panic, sync::Once};

/// Runs `scenario` once for each seed. Panics whose message says "on purpose" are not printed.
///
/// The environment variable `SEEDS` replaces the number of seeds, and `FIRST` the first one:
/// `SEEDS=6000 cargo test --all-features --test it any_peer`.
pub(crate) async fn for_each_seed(seeds: u64, scenario: impl AsyncFn(u64)) {
    hide_panics_on_purpose();
    let number = |name| env::var(name).ok().and_then(|n| n.parse().ok());
    let first = number("FIRST").unwrap_or(0);
    for seed in first..first + number("SEEDS").unwrap_or(seeds) {
        scenario(seed).await;
    }
}

fn hide_panics_on_purpose() {
    static HOOK: Once = Once::new();

    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info.to_string().contains("on purpose") {
                default(info);
            }
        }));
    });
}

/// A xorshift generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn of_seed(seed: u64) -> Self {
        // Spreads consecutive seeds, whose first numbers would be alike.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..10 {
            random.next(2);
        }
        random
    }

    /// Returns a second, independent generator.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next(u64::MAX) | 1)
    }

    /// Returns a number below `below`.
    pub(crate) fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    /// Returns a number of any magnitude up to 64 Ki.
    pub(crate) fn about(&mut self) -> u64 {
        let bits = self.next(17);
        self.next(1 << bits)
    }
}
