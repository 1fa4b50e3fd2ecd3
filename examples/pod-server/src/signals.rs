//! Signals that the server was started with ignored.
//!
//! A shell starts its background jobs with SIGINT ignored. Commands would inherit that, and
//! Ctrl-C would do nothing in their terminals. A signal with a handler is reset to its default
//! by `exec`, so the server gives each ignored signal a handler that does nothing: that changes
//! nothing for the server, and leaves nothing to do between fork and exec, where code of ours
//! would need `unsafe`.
//!
//! The signal mask, and SIGPIPE, which Rust's runtime ignores, are reset by `std`.

use std::fs;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// SIGRTMAX on Linux.
const LAST: i32 = 64;

/// Gives each ignored signal a handler. Call it before the first command starts, in a runtime.
pub(crate) fn catch_ignored() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = parse_ignored(&status).unwrap_or_default();
    for number in 1..=LAST {
        let is_ignored = ignored >> (number - 1) & 1 == 1;
        if is_ignored && number != Signal::PIPE.as_raw() {
            // The handler stays when the stream is dropped. Some signals cannot have one: the C
            // library's own, SIGKILL and SIGSTOP, and those of a fault, which are never ignored.
            let _ = signal(SignalKind::from_raw(number));
        }
    }
}

/// Finds the set of ignored signals in `/proc/PID/status`; the lowest bit is signal 1.
fn parse_ignored(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::own_process::in_own_process;

    /// Shells start background jobs like this.
    #[test]
    fn a_signal_that_is_ignored_here_is_default_in_a_command() {
        in_own_process("trap '' HUP INT QUIT TSTP RTMAX", async || {
            let before = fs::read_to_string("/proc/self/status").unwrap();
            let (int, last) = (1 << 1, 1 << 63);
            assert_eq!(parse_ignored(&before).unwrap() & (int | last), int | last);
            catch_ignored();
            let output = Command::new("cat").arg("/proc/self/status").output();
            let status = String::from_utf8(output.unwrap().stdout).unwrap();
            // The C library ignores 32 and 33, its own, in what it spawns.
            let ignored = parse_ignored(&status).unwrap() & !(0b11 << 31);
            assert_eq!(ignored, 0, "{ignored:#x}");
        });
    }

    #[test]
    fn the_ignored_signals_are_read() {
        let status = "Name:\tsh\nSigQ:\t0/9\nSigBlk:\t0000000000000001\n\
            SigIgn:\t8000000000001006\nSigCgt:\t0000000000000000\n";
        assert_eq!(parse_ignored(status), Some(0x8000_0000_0000_1006));
        assert_eq!(parse_ignored("SigIgn:\n"), None);
        assert_eq!(parse_ignored(""), None);
    }
}
