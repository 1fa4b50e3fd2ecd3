use std::io::{IsTerminal, Write, stderr};

/// The columns of the bar.
const WIDTH: usize = 24;

/// A line that shows how far a run is, for a person: it is drawn only on a terminal, and goes when it
/// is dropped.
pub struct Progress<'a> {
    run: &'a str,
    all: usize,
    is_seen: bool,
}

impl<'a> Progress<'a> {
    /// Begins a run of this many steps.
    pub fn new(run: &'a str, all: usize) -> Self {
        let is_seen = stderr().is_terminal();
        Self { run, all, is_seen }
    }

    /// Draws that `done` steps are over, and that this peer's turn is next.
    pub fn show(&self, done: usize, peer: &str) {
        let (run, all) = (self.run, self.all);
        self.draw(&format!("{run} {} {done} of {all}, {peer}", bar(done, all)));
    }

    fn draw(&self, line: &str) {
        if self.is_seen {
            // Nothing is lost if it cannot be seen.
            let _ = write!(stderr(), "\r\x1b[K{line}");
            let _ = stderr().flush();
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.draw("");
    }
}

fn bar(done: usize, all: usize) -> String {
    let full = WIDTH * done / all.max(1);
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_at_each_step() {
        for all in [1, 3, 99] {
            for done in 0..=all {
                let bar = bar(done, all);
                assert_eq!(bar.len(), WIDTH + 2, "{done} of {all}");
                assert_eq!(bar.contains('.'), done < all, "{done} of {all}");
            }
        }
    }
}
