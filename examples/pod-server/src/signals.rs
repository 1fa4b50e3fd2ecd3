//! Signals that the server was started with ignored.
//!
//! A shell starts its background jobs with SIGINT ignored. Commands would inherit that, and
//! Ctrl-C would do nothing in their terminals. A signal with a handler is reset to its default
//! by `exec`, so the server gives each ignored signal a handler that does nothing. The server
//! still survives these signals, and nothing is left to do between fork and exec, where code of
//! ours would need `unsafe`.
//!
//! SIGTTIN and SIGTTOU stay ignored, because for them a handler that does nothing is not the same
//! as ignoring. The kernel sends SIGTTOU to a background process that writes to a terminal with
//! `stty tostop`. If the signal is ignored, the write is made; if it has a handler, the write is
//! restarted behind it and sends the signal again, for ever. The log of the server goes to such a
//! terminal. Commands inherit these two, and a shell with job control sets them itself.
//!
//! The signal mask, and SIGPIPE, which Rust's runtime ignores, are reset by `std`.

use std::fs;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// SIGRTMAX on Linux.
const LAST: i32 = 64;

/// The signals that are left as they are. The module's documentation has the reasons.
const LEFT_ALONE: [Signal; 3] = [Signal::PIPE, Signal::TTIN, Signal::TTOU];

/// Gives each ignored signal a handler, except for SIGPIPE, SIGTTIN and SIGTTOU. Call it before the
/// first command starts, in a runtime.
pub fn catch_ignored() {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = parse_ignored(&status).unwrap_or_default();
    for number in 1..=LAST {
        let is_ignored = ignored >> (number - 1) & 1 == 1;
        let is_left_alone = LEFT_ALONE.iter().any(|signal| signal.as_raw() == number);
        if is_ignored && !is_left_alone {
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
        in_own_process("trap '' HUP INT QUIT TSTP TTIN TTOU RTMAX", async || {
            let before = fs::read_to_string("/proc/self/status").unwrap();
            let (int, last) = (1 << 1, 1 << 63);
            assert_eq!(parse_ignored(&before).unwrap() & (int | last), int | last);
            catch_ignored();
            // A write to a terminal with `tostop` would be restarted for ever.
            let here = fs::read_to_string("/proc/self/status").unwrap();
            let (ttin, ttou) = (1 << 20, 1 << 21);
            assert_eq!(parse_ignored(&here).unwrap() & (ttin | ttou), ttin | ttou);
            let output = Command::new("cat").arg("/proc/self/status").output();
            let status = String::from_utf8(output.unwrap().stdout).unwrap();
            // The C library ignores 32 and 33, its own, in what it spawns.
            let ignored = parse_ignored(&status).unwrap() & !(0b11 << 31);
            assert_eq!(ignored, ttin | ttou, "{ignored:#x}");
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
