//! The step between the server and a command: this program, started again.
//!
//! A command wants a session of its own (so that all its processes can be found
//! and killed, and so that a terminal can be its controlling one) and default
//! signal dispositions (a server started with SIGINT ignored, as shells start
//! background jobs, would pass that on, and Ctrl-C would be dead in its
//! terminal). Both must happen in the child before it execs. Rust's hook for
//! code between fork and exec is `unsafe`, rightly so; a process of our own that
//! prepares itself and then execs the command needs none.
//!
//! ```text
//!   server                                trampoline
//!     | spawn, socket as its stdin            |
//!     |-------------------------------------->|
//!     | fds 0, 1, 2 and "tty?", argv, FIN     |
//!     |-------------------------------------->| setsid, controlling terminal, signals
//!     |                                       | exec
//!     |        EOF: the command runs          |
//!     |<--------------------------------------|
//!     |        or: why it does not            |
//! ```
//!
//! Descriptors and arguments travel over the socket rather than by inheritance:
//! a descriptor that the trampoline can inherit could be inherited by any other
//! process that the server starts at that moment, and an end of a pipe in a
//! stranger's hands keeps the pipe from ever reaching its end.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};

use crate::args::TOKEN_VARIABLE;

/// The first argument that makes this program a trampoline.
pub(crate) const MARK: &str = "pod-server-trampoline";

/// What kind of descriptors come with an order.
const PIPES: u8 = b'p';
const TERMINAL: u8 = b't';

/// A report is one of these and a decimal errno.
const EXEC_FAILED: u8 = b'x';
const SETUP_FAILED: u8 = b's';

/// Exit code of a trampoline that did not become its command. Nobody sees it:
/// the report is what counts.
const NOT_EXECUTED: i32 = 127;

/// Why there is no command.
#[derive(Debug)]
pub(crate) enum Report {
    /// The exec itself failed: no such command, no permission ...
    Exec(io::Error),
    /// A step before it failed.
    Setup(io::Error),
}

/// Server's side: hands over what the command is to be. `stdio` are its
/// descriptors 0, 1 and 2.
///
/// Does not block: `socket` is fresh, so the first message fits. What is left to
/// write, the arguments, is returned, because they may not.
pub(crate) fn order(
    socket: &UnixStream,
    argv: &[OsString],
    tty: bool,
    stdio: &[OwnedFd; 3],
) -> io::Result<Vec<u8>> {
    let descriptors = stdio.each_ref().map(AsFd::as_fd);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    let kind = [if tty { TERMINAL } else { PIPES }];
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&kind)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;

    let mut arguments = Vec::new();
    for argument in argv {
        if argument.as_bytes().contains(&0) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an argument holds a NUL byte",
            ));
        }
        arguments.extend_from_slice(argument.as_bytes());
        arguments.push(0);
    }
    Ok(arguments)
}

/// Server's side: what the socket carried until its EOF. Nothing at all means
/// that the exec closed it, which is how success looks.
pub(crate) fn outcome(report: &[u8]) -> Result<(), Report> {
    let Some((&kind, errno)) = report.split_first() else {
        return Ok(());
    };
    let errno = str::from_utf8(errno)
        .ok()
        .and_then(|text| text.parse().ok());
    let error = errno.map_or_else(
        || io::Error::other("unknown error"),
        io::Error::from_raw_os_error,
    );
    Err(if kind == EXEC_FAILED {
        Report::Exec(error)
    } else {
        Report::Setup(error)
    })
}

/// The trampoline's whole life: becomes the command, or says why not.
pub(crate) fn run() -> ! {
    let mut socket = match rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3) {
        Ok(socket) => UnixStream::from(socket),
        Err(_) => std::process::exit(NOT_EXECUTED),
    };
    let (kind, error) = match prepare(&mut socket) {
        // Returns only when it fails. The duplicate of the socket is
        // close-on-exec, so success closes it.
        Ok(mut command) => (EXEC_FAILED, command.exec()),
        Err(error) => (SETUP_FAILED, error),
    };
    let mut report = vec![kind];
    report.extend(error.raw_os_error().unwrap_or_default().to_string().bytes());
    // If the server is gone there is nobody to tell.
    let _ = socket.write_all(&report);
    std::process::exit(NOT_EXECUTED)
}

fn prepare(socket: &mut UnixStream) -> io::Result<Command> {
    let (tty, [stdin, stdout, stderr]) = receive(socket)?;
    let mut arguments = Vec::new();
    socket.read_to_end(&mut arguments)?;

    // Works because a process that was just spawned leads no process group.
    rustix::process::setsid()?;
    if tty {
        // After setsid: only a session without a terminal can take one.
        rustix::process::ioctl_tiocsctty(&stdin)?;
    }
    rustix::stdio::dup2_stdin(&stdin)?;
    rustix::stdio::dup2_stdout(&stdout)?;
    rustix::stdio::dup2_stderr(&stderr)?;
    handle_ignored_signals()?;

    // Each ends in a NUL, the last one too.
    arguments.pop();
    let mut arguments = arguments.split(|&byte| byte == 0).map(OsStr::from_bytes);
    // `split` yields at least one, and an empty name is the exec's to refuse.
    let mut command = Command::new(arguments.next().unwrap_or_default());
    command.args(arguments);
    // The command has no business with the server's token.
    command.env_remove(TOKEN_VARIABLE);
    if tty {
        // What container runtimes set, and what every client's terminal can do.
        command.env("TERM", "xterm");
    }
    Ok(command)
}

fn receive(socket: &UnixStream) -> io::Result<(bool, [OwnedFd; 3])> {
    let mut kind = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut kind)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let descriptors: Vec<OwnedFd> = ancillary
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        })
        .flatten()
        .collect();
    let descriptors = descriptors
        .try_into()
        .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((kind[0] == TERMINAL, descriptors))
}

/// Gives every ignored signal a handler, which exec resets to the default; an ignored
/// signal it would leave ignored. (The mask, and SIGPIPE, which Rust's runtime
/// ignores, are reset by `exec` itself.)
///
/// SIGKILL and SIGSTOP cannot be ignored, and SIGILL, SIGFPE and SIGSEGV cannot
/// be registered safely; nobody ignores those.
fn handle_ignored_signals() -> io::Result<()> {
    // SIGRTMAX on Linux.
    const LAST: i32 = 64;
    /// The first of the real-time signals, two of which are the C library's own.
    const FIRST_REAL_TIME: i32 = 32;

    // Not all, although that would do: a handler costs more than the rest of the
    // trampoline. Where it cannot be read they are taken for ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = parse_ignored(&status).unwrap_or(u64::MAX);
    let flag = Arc::new(AtomicBool::new(false));
    for signal in 1..=LAST {
        let is_ignored = ignored >> (signal - 1) & 1 == 1;
        if !is_ignored || signal_hook::consts::FORBIDDEN.contains(&signal) {
            continue;
        }
        let registered = signal_hook::flag::register(signal, Arc::clone(&flag));
        if signal < FIRST_REAL_TIME {
            registered?;
        }
    }
    Ok(())
}

/// The set of ignored signals in `/proc/PID/status`; the lowest bit is signal 1.
fn parse_ignored(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests that start commands start this test binary, whose `main` is not
    /// ours, with [`MARK`] among its arguments: then this is the trampoline.
    #[test]
    fn entry() {
        if std::env::args().any(|arg| arg == MARK) {
            run();
        }
    }

    #[test]
    fn the_ignored_signals_are_read() {
        let status = "Name:\tsh\nSigQ:\t0/9\nSigBlk:\t0000000000000001\n\
            SigIgn:\t8000000000001006\nSigCgt:\t0000000000000000\n";
        assert_eq!(parse_ignored(status), Some(0x8000_0000_0000_1006));
        assert_eq!(parse_ignored("SigIgn:\n"), None);
        assert_eq!(parse_ignored(""), None);
    }

    #[test]
    fn a_report_tells_the_step_and_the_error() {
        assert!(outcome(b"").is_ok());
        assert!(
            matches!(outcome(b"x2"), Err(Report::Exec(e)) if e.kind() == io::ErrorKind::NotFound)
        );
        assert!(
            matches!(outcome(b"s1"), Err(Report::Setup(e)) if e.kind() == io::ErrorKind::PermissionDenied)
        );
        assert!(matches!(outcome(b"s"), Err(Report::Setup(_))));
    }
}
