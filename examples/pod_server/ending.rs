//! The end of a command that did not end by itself: every process of its
//! session is killed.
//!
//! A session, and not the process group: a shell with job control puts each of
//! its jobs into a group of its own. The session's number is that of its first
//! process, which stays a zombie until [`Ending`] is through with it: as long
//! as it is not waited for, no other process and no other session can have its
//! number. A process that calls `setsid` itself has left the session: a
//! container would hold it, a plain process cannot.

use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Between SIGHUP and SIGKILL: time for a shell to save its history and for an
/// editor to save its file, and under the second after which nothing may be
/// left.
const HANG_UP: Duration = Duration::from_millis(800);

/// How often to look again until all are gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// A process that SIGKILL has not ended in this time sits in the kernel, on a
/// dead network file system say, or belongs to another user: more signals do
/// not help.
const GIVE_UP: Duration = Duration::from_secs(5);

/// How many [`Ending`]s are under way, for [`wait_for_all`].
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// How a command is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// SIGKILL at once: nobody is there any more.
    Kill,
    /// SIGHUP, and SIGKILL a little later: the user has hung up.
    HangUp,
}

/// Ends what is left of a command: sends the first signal before it returns, so
/// that it has gone out even if the server exits next, and does the rest on a
/// thread, because it is called from destructors, which cannot wait.
///
/// `held`, our ends of its pipes, is dropped at the very end. A command that
/// ignores SIGHUP must not take our giving up for the end of its input, and so a
/// cut upload for a complete one; and one that handles SIGHUP must not die of
/// SIGPIPE because it says so.
pub(crate) fn end(child: Child, manner: Manner, held: impl Send + 'static) {
    let ending = Ending::new(child);
    ending.signal(match manner {
        Manner::Kill => Signal::KILL,
        Manner::HangUp => Signal::HUP,
    });
    let rest = move || {
        if manner == Manner::HangUp {
            // As the kernel does on a hang-up: a stopped process hears nothing.
            ending.signal(Signal::CONT);
            ending.wait_until_gone(HANG_UP);
        }
        ending.kill_all();
        drop(held);
    };
    if let Err(error) = thread::Builder::new().name("ending".into()).spawn(rest) {
        tracing::error!(%error, "no thread to end a command with; the first signal was sent");
    }
}

/// Waits until every command that is being ended has ended, or `limit` is over.
pub(crate) fn wait_for_all(limit: Duration) {
    let start = Instant::now();
    while UNDER_WAY.load(Ordering::Acquire) > 0 && start.elapsed() < limit {
        thread::sleep(LOOK_AGAIN);
    }
}

struct Ending {
    leader: Child,
}

impl Ending {
    fn new(leader: Child) -> Self {
        // Paired with the release in `drop`; on its own it orders nothing.
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self { leader }
    }

    /// Signals every process of the session, and returns how many of them were
    /// alive.
    fn signal(&self, signal: Signal) -> usize {
        let leader = pid(&self.leader);
        // By number as well: a leader that has not come as far as its setsid
        // is not yet in its session. It cannot be someone else: not yet waited for.
        let _ = rustix::process::kill_process(leader, signal);
        processes()
            .filter(|&process| signal_member(process, leader, signal).unwrap_or(false))
            .count()
    }

    fn wait_until_gone(&self, limit: Duration) {
        let start = Instant::now();
        while alive(pid(&self.leader)) > 0 && start.elapsed() < limit {
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Again and again: a process may fork while the list is read.
    fn kill_all(&self) {
        let start = Instant::now();
        while self.signal(Signal::KILL) > 0 {
            if start.elapsed() > GIVE_UP {
                tracing::error!(
                    session = self.leader.id(),
                    "processes of a session survive SIGKILL"
                );
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Ends here the claim on its number. It was killed, or has given up on us.
        let _ = self.leader.wait();
        UNDER_WAY.fetch_sub(1, Ordering::Release);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Sends `signal` to `process` if it belongs to `session`; says whether it was
/// alive.
fn signal_member(process: Pid, session: Pid, signal: Signal) -> io::Result<bool> {
    if member(process, session).is_none() {
        return Ok(false);
    }
    // Its number may belong to another process by now. The descriptor pins
    // whoever has it, and a second look says who that is.
    let pinned = pidfd_open(process, PidfdFlags::empty())?;
    let Some(alive) = member(process, session) else {
        return Ok(false);
    };
    // A zombie gets it too: it may be a dead main thread with others alive.
    pidfd_send_signal(&pinned, signal)?;
    Ok(alive)
}

/// How many processes of `session` are alive.
fn alive(session: Pid) -> usize {
    processes()
        .filter(|&process| member(process, session) == Some(true))
        .count()
}

fn processes() -> impl Iterator<Item = Pid> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?))
}

/// `None` if the process is not of this session, else whether it is alive.
fn member(process: Pid, session: Pid) -> Option<bool> {
    let stat = std::fs::read(format!("/proc/{process}/stat")).ok()?;
    let (state, of) = parse_stat(&stat)?;
    (of == session.as_raw_nonzero().get()).then_some(!matches!(state, b'Z' | b'X'))
}

/// State and session of a line of `/proc/PID/stat`. The name in parentheses may
/// hold anything, blanks and parentheses too; what follows the last one cannot.
fn parse_stat(stat: &[u8]) -> Option<(u8, i32)> {
    let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
    // state, parent, process group, session
    let mut fields = str::from_utf8(&stat[after..])
        .ok()?
        .split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let session = fields.nth(2)?.parse().ok()?;
    Some((state, session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_hide_its_session() {
        assert_eq!(
            parse_stat(b"12 (a) S 1 2 3) R 1 12 34 0 -1 rest\n"),
            Some((b'R', 34))
        );
        assert_eq!(parse_stat(b"12 (\xff\n) Z 1 12 34 0 -1"), Some((b'Z', 34)));
        assert_eq!(parse_stat(b"12 (x) Z 1"), None);
        assert_eq!(parse_stat(b""), None);
    }

    /// In a session of its own: the test's may be led by a process outside of
    /// this PID namespace, and is then number 0 in here.
    #[test]
    fn a_process_is_found_in_its_session_alive_and_dead() {
        let mut child = std::process::Command::new("setsid")
            .args(["sleep", "60"])
            .spawn()
            .unwrap();
        let leader = pid(&child);
        let start = Instant::now();
        while alive(leader) == 0 && start.elapsed() < GIVE_UP {
            thread::sleep(LOOK_AGAIN);
        }
        let found = (member(leader, leader), alive(leader));
        child.kill().unwrap();
        while member(leader, leader) == Some(true) && start.elapsed() < GIVE_UP {
            thread::sleep(LOOK_AGAIN);
        }
        assert_eq!(
            (found, member(leader, leader)),
            ((Some(true), 1), Some(false))
        );
        child.wait().unwrap();
        assert_eq!(member(leader, leader), None);
    }
}
