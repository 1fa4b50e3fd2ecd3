//! Counts of events by their names.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

/// The counts, which all clones share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<BTreeMap<String, u64>>>);

impl Tally {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: impl Into<String>, n: u64) {
        let mut counts = self.0.lock().expect("no panic");
        *counts.entry(what.into()).or_default() += n;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, n) in self.0.lock().expect("no panic").iter() {
            writeln!(f, "  {n:>12} {what}")?;
        }
        Ok(())
    }
}
