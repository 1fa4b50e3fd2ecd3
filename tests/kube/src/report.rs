//! A line a check, a line at the end.

use std::future::Future;
use std::time::{Duration, Instant};

/// The checks that failed, in words.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Far above what any check takes; only a hang takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Report {
    only: Option<String>,
    passed: usize,
    failed: usize,
}

impl Report {
    /// With a word, only checks whose name has it in it are run.
    pub(crate) fn new(only: Option<String>) -> Self {
        Self {
            only,
            passed: 0,
            failed: 0,
        }
    }

    /// Runs a check; what it returns is added to its line.
    pub(crate) async fn check(
        &mut self,
        name: String,
        check: impl Future<Output = Result<String, Failure>>,
    ) {
        if self.only.as_ref().is_some_and(|only| !name.contains(only)) {
            return;
        }
        let started = Instant::now();
        let outcome = match tokio::time::timeout(PATIENCE, check).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("still running after {PATIENCE:?}").into()),
        };
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(note) => {
                self.passed += 1;
                let note = if note.is_empty() {
                    note
                } else {
                    format!(": {note}")
                };
                println!("ok {name} ({seconds:.1} s){note}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAIL {name} ({seconds:.1} s): {error}");
            }
        }
    }

    /// Prints the closing line; whether all is well. No check at all is a failure.
    pub(crate) fn finish(mut self) -> bool {
        if self.passed + self.failed == 0 {
            println!("kube: no check ran");
            self.failed = 1;
        }
        println!("kube: {} passed, {} failed", self.passed, self.failed);
        self.failed == 0
    }
}

/// Fails unless both are equal.
pub(crate) fn equal<T: PartialEq + std::fmt::Debug>(
    seen: T,
    wanted: T,
    what: &str,
) -> Result<(), Failure> {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {seen:?}, wanted {wanted:?}").into())
    }
}
