//! Many seeds on a number of threads.

use std::{
    env, process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{plan::Plan, scenario, shrink};

/// The real time of a session that makes no progress. In paused time, nothing else can wait.
const STUCK: u64 = 60;

/// The failures after which there is enough to look at.
const ENOUGH: usize = 3;

/// Runs as many seeds, whose plans `draw` returns, and panics if one of them fails. `SEEDS`, `FIRST` and
/// `THREADS` change what is run. `test` is the name of the test.
pub(crate) fn run(test: &str, seeds: u64, draw: fn(u64) -> Plan) {
    let number = |name| env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seeds = number("SEEDS").unwrap_or(seeds);
    let first = number("FIRST").unwrap_or(0);
    let threads = number("THREADS").unwrap_or(1) as usize;
    let start = Instant::now();
    let next = AtomicU64::new(first);
    let done = AtomicBool::new(false);
    let failures = AtomicUsize::new(0);
    let first_failure = Mutex::new(None);
    let current: Vec<_> = (0..threads).map(|_| Current::default()).collect();
    let work = &|at: &Current| {
        while failures.load(Ordering::Relaxed) < ENOUGH {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed - first >= seeds {
                break;
            }
            at.seed.store(seed, Ordering::Relaxed);
            at.since.store(start.elapsed().as_secs(), Ordering::Relaxed);
            if seed > first && (seed - first).is_multiple_of(100_000) {
                let secs = start.elapsed().as_secs();
                eprintln!("{test}: {} seeds in {secs} s", seed - first);
            }
            let plan = draw(seed);
            if let Err(wrong) = scenario::run(&plan) {
                failures.fetch_add(1, Ordering::Relaxed);
                let mut kept = first_failure.lock().unwrap_or_else(PoisonError::into_inner);
                kept.get_or_insert(seed);
                report(seed, shrink::shrink(plan, wrong));
            }
        }
        at.seed.store(u64::MAX, Ordering::Relaxed);
    };
    thread::scope(|scope| {
        let workers: Vec<_> = current
            .iter()
            .map(|at| scope.spawn(move || work(at)))
            .collect();
        scope.spawn(|| watch(&current, start, &done, draw));
        for worker in workers {
            let _ = worker.join();
        }
        done.store(true, Ordering::Relaxed);
    });
    let ran = next.load(Ordering::Relaxed).min(first + seeds) - first;
    let secs = start.elapsed().as_secs_f64();
    eprintln!(
        "{test}: {ran} seeds in {secs:.1} s, {:.0} a second",
        ran as f64 / secs
    );
    let failed = failures.load(Ordering::Relaxed);
    assert!(
        failed == 0,
        "{failed} seeds failed: FIRST={} SEEDS=1 cargo test --all-features --test churn {test}",
        first_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .unwrap_or_default()
    );
}

/// The seed that a thread runs.
struct Current {
    seed: AtomicU64,
    since: AtomicU64,
}

impl Default for Current {
    fn default() -> Self {
        Self {
            seed: AtomicU64::new(u64::MAX),
            since: AtomicU64::new(0),
        }
    }
}

/// Ends the process if a seed takes too much real time: a session that spins keeps paused time from
/// advancing.
fn watch(all: &[Current], start: Instant, done: &AtomicBool, draw: fn(u64) -> Plan) {
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(20));
        for at in all {
            let (seed, since) = (
                at.seed.load(Ordering::Relaxed),
                at.since.load(Ordering::Relaxed),
            );
            if seed != u64::MAX && start.elapsed().as_secs() > since + STUCK {
                eprintln!("seed {seed} spins\n{}", draw(seed));
                process::abort();
            }
        }
    }
}

fn report(seed: u64, (plan, wrong): (Plan, String)) {
    eprintln!("\nseed {seed}, {} steps:\n{plan}\n{wrong}", plan.len());
}
