//! Every end of a session, on every subprotocol and transport, through a proxy that makes faults.
//!
//! The observations of both sides are compared with the table in the guide's page `ends`. This writes a new one,
//! for review:
//!
//! ```console
//! UPDATE=1 cargo test --all-features --test it faults::each_end_is_what_the_table_says
//! ```

mod carrier;
mod cell;
mod client;
mod end;
mod honest;
mod http2_end;
mod observer;
mod outcome;
mod service;
mod table;
mod watched;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use self::{
    carrier::Carrier,
    end::{End, SECTIONS},
    honest::{EXCEPTIONS, lies},
    outcome::Outcome,
    table::{Cells, render},
};
use crate::support::{BITE, Watchdog, millis, proxy::Pace};

/// Behind this line, the page is the table.
const MARK: &str = "<!-- Below, this page is written by the test `faults`. -->\n";

/// Returns all cells that exist.
fn places() -> Vec<(End, Carrier)> {
    let ends = SECTIONS.iter().flat_map(|(_, ends)| *ends);
    let all = ends.flat_map(|end| {
        Carrier::all()
            .into_iter()
            .map(move |carrier| (*end, carrier))
    });
    all.filter(|(end, carrier)| end.is_impossible(*carrier).is_none())
        .collect()
}

/// Runs all cells, on a few threads.
fn run_all(places: &[(End, Carrier)], pace: Pace) -> Cells {
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Cells::new()));
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((end, carrier)) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = AssertUnwindSafe(|| cell::run(*end, *carrier, pace));
                    match catch_unwind(run) {
                        Ok(outcome) => _ = cells.lock().unwrap().insert((*end, *carrier), outcome),
                        Err(_) => failed.lock().unwrap().push((*end, *carrier)),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "cells that panicked, see above: {failed:#?}"
    );
    cells.into_inner().unwrap()
}

/// Returns what happens if the proxy makes no fault but those of the ends. Several tests use it.
fn direct() -> &'static Cells {
    static CELLS: OnceLock<Cells> = OnceLock::new();
    CELLS.get_or_init(|| run_all(&places(), Pace::AsTheyCome))
}

/// Checks that no end lies, and that each exception is still needed.
fn check_honesty(cells: &Cells) {
    let mut needed = BTreeSet::new();
    let mut found = Vec::new();
    for ((end, carrier), outcome) in cells {
        for lie in lies(*end, *carrier, outcome) {
            match EXCEPTIONS.iter().find(|e| (e.covers)(*end, *carrier, lie)) {
                Some(exception) => _ = needed.insert(exception.name),
                None => found.push((lie, *end, *carrier, outcome)),
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
    for exception in EXCEPTIONS {
        assert!(
            needed.contains(exception.name),
            "nobody needs {}",
            exception.name
        );
    }
}

#[test]
fn each_end_is_what_the_table_says() {
    let _watchdog = Watchdog::bites_after(3 * BITE);
    let cells = direct();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/ends.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (head, table) = page.split_once(MARK).expect("the mark");
    let seen = format!("\n{}", render(cells));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, format!("{head}{MARK}{seen}")).unwrap();
    } else {
        compare(table, &seen);
    }
    check_honesty(cells);
}

/// Compares two texts line by line.
fn compare(table: &str, seen: &str) {
    let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (in_table, in_seen) = (lines(table), lines(seen));
    let mut difference = String::new();
    for line in in_table.difference(&in_seen) {
        difference.push_str(&format!("-{line}\n"));
    }
    for line in in_seen.difference(&in_table) {
        difference.push_str(&format!("+{line}\n"));
    }
    assert!(
        table == seen,
        "src/docs/ends.md differs from what happens (+). If that is meant, run `UPDATE=1 cargo \
         test --all-features --test it faults::each_end`, and review what it changes:\n{difference}"
    );
}

/// Splitting and delaying are no faults, so they change nothing but times.
#[test]
fn bytes_one_by_one_or_late_change_no_end() {
    let _watchdog = Watchdog::bites_after(3 * BITE);
    let mut places = places();
    // This one takes real time.
    places.retain(|(end, _)| *end != End::Aborted);
    let timeless = |outcome: &Outcome| Outcome {
        after: None,
        ..outcome.clone()
    };
    for pace in [Pace::OneByOne, Pace::Delayed(millis(100))] {
        for (place, seen) in &run_all(&places, pace) {
            let expected = timeless(&direct()[place]);
            assert_eq!(timeless(seen), expected, "{place:?}, {pace:?}");
        }
    }
}
