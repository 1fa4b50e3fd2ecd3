//! The pod's own process: this program, started with a mark.
//!
//! It prints `tick N` once a second and echoes each line that it reads. It is written with the
//! standard library alone, like any program that knows nothing of pods.

use std::{
    ffi::OsString,
    io::{self, BufRead, Read, Write},
    process::exit,
    thread,
    time::{Duration, Instant},
};

/// The first argument that makes this program the process of the pod.
pub(crate) const MARK: &str = "pod-server-main";

const EVERY: Duration = Duration::from_secs(1);

/// A longer line comes back in pieces of this size, and a tick may fall between them.
const LINE: u64 = 8 * 1024;

/// Returns the command that starts this very program, even if its file was replaced.
pub(crate) fn argv() -> Vec<OsString> {
    let mut argv = vec!["/proc/self/exe"];
    // In a unit test this program is the test binary: see `tests::entry`.
    #[cfg(test)]
    argv.extend(["--exact", "--test-threads=1", "ticker::tests::entry"]);
    argv.push(MARK);
    argv.into_iter().map(OsString::from).collect()
}

/// Runs the process. A failed write ends it, because its output has no reader.
pub(crate) fn run() -> ! {
    thread::spawn(|| {
        // The end of the input is not the end of the ticks.
        if echo(io::stdin().lock(), io::stdout()).is_err() {
            exit(1);
        }
    });
    let mut next = Instant::now();
    for number in 1_u64.. {
        if writeln!(io::stdout(), "tick {number}").is_err() {
            break;
        }
        next += EVERY;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    exit(1)
}

/// Echoes each line as it is, until there are no more.
fn echo(mut input: impl BufRead, mut output: impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    while input.by_ref().take(LINE).read_until(b'\n', &mut line)? > 0 {
        // In one call, so that no tick falls into it.
        output.write_all(&line)?;
        output.flush()?;
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process itself, if [`MARK`] is among the arguments: tests that start the pod start
    /// this test binary, whose `main` is not ours.
    #[test]
    fn entry() {
        if std::env::args().any(|arg| arg == MARK) {
            run();
        }
    }

    #[test]
    fn lines_come_back_as_they_are() {
        /// Remembers the calls.
        struct Writes(Vec<Vec<u8>>);
        impl Write for Writes {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let long = "x".repeat(LINE as usize + 1);
        let mut output = Writes(Vec::new());
        echo(
            format!("one\n\n\u{e9}\r\n{long}\nno end").as_bytes(),
            &mut output,
        )
        .unwrap();
        let lines: Vec<_> = output
            .0
            .iter()
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        assert_eq!(
            lines,
            ["one\n", "\n", "\u{e9}\r\n", &long[1..], "x\n", "no end"]
        );
    }
}
