//! Waits and durations. Time is paused in most tests, so that a long wait costs nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

/// Longer than anything that ends by itself. A wait this long means a hang.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// Longer than any answer takes.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// The real time that a [`Watchdog`] grants a test.
pub(crate) const BITE: Duration = Duration::from_secs(50);

/// Two ticks of tokio's clock, by which a timer may be late.
pub(crate) const EXACT: Duration = Duration::from_millis(2);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits for something that happens by itself.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    within(LONG, future).await
}

/// Awaits a future, and panics if it takes longer than `time`.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> F::Output {
    match timeout(time, future).await {
        Ok(output) => output,
        Err(_) => panic!("nothing came within {time:?}"),
    }
}

/// Aborts the process if a test takes too much real time. A session that spins keeps paused time
/// from advancing, so no timeout of the test would expire.
#[must_use = "it watches until it is dropped"]
pub(crate) struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    pub(crate) fn bites_after(time: Duration) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&done);
        let test = thread::current().name().unwrap_or("?").to_owned();
        thread::spawn(move || {
            let until = std::time::Instant::now() + time;
            while std::time::Instant::now() < until {
                thread::sleep(Duration::from_millis(20));
                if watched.load(Ordering::Relaxed) {
                    return;
                }
            }
            eprintln!("{test}: still running after {time:?}");
            std::process::abort();
        });
        Self(done)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Checks that `expected` has passed since `start`, and not more than a few ticks of the clock.
#[track_caller]
pub(crate) fn assert_after(start: Instant, expected: Duration) {
    let elapsed = start.elapsed();
    assert!(
        elapsed >= expected && elapsed <= expected + millis(5),
        "after {elapsed:?} instead of {expected:?}"
    );
}

/// Sends the time at which it is dropped.
pub(crate) struct Dropped(pub(crate) mpsc::UnboundedSender<Instant>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(Instant::now());
    }
}

pub(crate) fn drop_note() -> (Dropped, mpsc::UnboundedReceiver<Instant>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Dropped(sender), receiver)
}
