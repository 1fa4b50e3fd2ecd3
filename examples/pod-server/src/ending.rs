//! The end of commands that did not end by themselves: every process of their sessions is
//! killed.
//!
//! A session is more than a process group, because a shell with job control puts each of its
//! jobs into a group of its own. The number of a session is that of its first process, which
//! stays a zombie until its [`Ending`] is over: as long as it is not reaped, no other process
//! and no other session can have its number. A process that calls `setsid` itself has left the
//! session; a container would hold it, and plain processes cannot. A chain of processes in a
//! group of its own, each of which forks the next and exits, is missed as well, because a look
//! sees none of them.
//!
//! The processes of a session are found by a look at every process of the machine, one look for
//! all commands that are being ended: see [`advance`].

use std::{
    collections::HashMap,
    io,
    time::{Duration, Instant},
};

use process_wrap::tokio::ChildWrapper;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

use crate::stat::{Stat, is_short};

/// Between SIGHUP and SIGKILL: time for a shell to save its history and for an editor to save
/// its file. It is less than the second after which nothing may be left.
const HANG_UP: Duration = Duration::from_millis(800);

/// A process that SIGKILL has not ended in this time is stuck in the kernel, on a dead network
/// file system say, or belongs to another user. More signals do not help.
const GIVE_UP: Duration = Duration::from_secs(5);

/// The manner of ending a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// SIGKILL at once: the client is gone.
    Kill,
    /// SIGHUP, and SIGKILL a little later: the user has hung up.
    HangUp,
}

/// Returns the number of a child that was not waited for.
pub(crate) fn pid(leader: &dyn ChildWrapper) -> io::Result<Pid> {
    let id = leader.id().and_then(|id| i32::try_from(id).ok());
    id.and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::other("the command was waited for"))
}

/// One command that is being ended.
pub(crate) struct Ending {
    leader: Box<dyn ChildWrapper>,
    /// The number of the leader, of its process group, and of its session.
    session: Pid,
    manner: Manner,
    /// The start of this manner.
    since: Instant,
    /// Set if the rest of the session, beyond the leader's process group, has had the first
    /// signal.
    is_told: bool,
    has_leader: bool,
    _held: Box<dyn Send>,
}

impl Ending {
    /// Sends the first signal to the leader's process group before it returns.
    ///
    /// `held`, our ends of its pipes, is dropped at the very end. A command that ignores SIGHUP
    /// must not take our giving up for the end of its input, and so a cut upload for a complete
    /// one. One that handles SIGHUP must not die of SIGPIPE because it writes about that.
    pub(crate) fn new(
        leader: Box<dyn ChildWrapper>,
        manner: Manner,
        held: Box<dyn Send>,
    ) -> io::Result<Self> {
        let ending = Self {
            session: pid(&*leader)?,
            leader,
            manner,
            since: Instant::now(),
            is_told: false,
            has_leader: true,
            _held: held,
        };
        for &signal in ending.signals() {
            ending.signal_leader(signal);
        }
        Ok(ending)
    }

    fn signals(&self) -> &'static [Signal] {
        match self.manner {
            Manner::Kill => &[Signal::KILL],
            // As the kernel does on a hang-up: a stopped process handles no signal.
            Manner::HangUp => &[Signal::HUP, Signal::CONT],
        }
    }

    /// Signals the leader and its process group. Both numbers are still theirs, because the
    /// leader was not reaped. An error means that the group is gone.
    fn signal_leader(&self, signal: Signal) {
        let _ = kill_process_group(self.session, signal);
    }

    /// Sends what is due, and returns whether the rest of the session is to be looked for.
    fn is_looked_for(&mut self) -> bool {
        // Before the look: the leader may fork until it is gone.
        self.has_leader = self.has_leader && is_running(self.session);
        if self.manner == Manner::HangUp && self.since.elapsed() >= HANG_UP {
            (self.manner, self.since) = (Manner::Kill, Instant::now());
        }
        match self.manner {
            // Again and again: a process may fork while the others are looked for.
            Manner::Kill => {
                self.signal_leader(Signal::KILL);
                true
            }
            // The session has not ended as long as the leader lives, so nothing has to be
            // looked for.
            Manner::HangUp => !self.is_told || !self.has_leader,
        }
    }

    /// Signals a process of the session, unless it is the leader or has had the signal. Returns
    /// whether it is alive.
    fn signal(&self, process: Pid) -> io::Result<bool> {
        if process == self.session {
            return Ok(false);
        }
        // Its number may belong to another process by now. The descriptor pins the process that
        // has the number, and a second look tells which that is.
        let pinned = pidfd_open(process, PidfdFlags::empty())?;
        let Some(stat) = Stat::read(process)?.filter(|stat| stat.is_of(self.session)) else {
            return Ok(false);
        };
        // One SIGHUP is enough: a shell runs its trap for each.
        let is_due = match self.manner {
            Manner::Kill => true,
            Manner::HangUp => !self.is_told && stat.group != stat.session,
        };
        if is_due {
            for &signal in self.signals() {
                // A zombie gets it too: it may be a dead main thread with others alive.
                pidfd_send_signal(&pinned, signal)?;
            }
        }
        Ok(stat.is_alive())
    }

    fn is_given_up(&self) -> bool {
        let given_up = self.manner == Manner::Kill && self.since.elapsed() > GIVE_UP;
        if given_up {
            tracing::error!(session = %self.session, "processes of a session survive SIGKILL");
        }
        given_up
    }

    /// Gives up the claim on the session's number.
    fn finish(mut self) {
        // A process that the last look has missed is in this group as a rule.
        self.signal_leader(Signal::KILL);
        // Where the leader is stuck in the kernel, tokio reaps it later.
        let _ = self.leader.try_wait();
    }
}

/// Sends all endings what is due, looks for the processes of their sessions, and removes those
/// that are over. Calls `processes` once at most.
pub(crate) fn advance<P: Iterator<Item = io::Result<Pid>>>(
    endings: &mut Vec<Ending>,
    processes: impl FnOnce() -> P,
) {
    let mut sessions = HashMap::new();
    for (index, ending) in endings.iter_mut().enumerate() {
        if ending.is_looked_for() {
            sessions.insert(ending.session.as_raw_pid(), (index, false));
        }
    }
    if sessions.is_empty() {
        return;
    }
    // Without a descriptor to look with, no process is taken for dead.
    let mut is_blind = false;
    for process in processes() {
        let stat = process.and_then(|process| Ok((process, Stat::read(process)?)));
        let Ok((process, stat)) = stat else {
            is_blind = true;
            break;
        };
        let session = stat.map(|stat| stat.session);
        if let Some((index, is_alive)) = session.and_then(|session| sessions.get_mut(&session)) {
            *is_alive |= match endings[*index].signal(process) {
                Ok(is_alive) => is_alive,
                Err(error) => is_short(&error),
            };
        }
    }
    let over = endings.extract_if(.., |ending| {
        let Some(&(_, is_alive)) = sessions.get(&ending.session.as_raw_pid()) else {
            return false;
        };
        ending.is_told |= !is_blind;
        !(is_alive || is_blind || ending.has_leader) || ending.is_given_up()
    });
    over.for_each(Ending::finish);
}

/// Returns whether a child that was not reaped has not exited yet.
fn is_running(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), options).is_ok_and(|status| status.is_none())
}

#[cfg(test)]
#[path = "ending_tests.rs"]
mod tests;
