//! The end of commands that did not end by themselves: every process of their
//! sessions is killed.
//!
//! A session, and not the process group: a shell with job control puts each of
//! its jobs into a group of its own. The session's number is that of its first
//! process, which stays a zombie until its [`Ending`] is over: as long as it is
//! not waited for, no other process and no other session can have its number. A
//! process that calls `setsid` itself has left the session: a container would
//! hold it, a plain process cannot. Missed as well is a chain of processes in
//! a group of its own, each of which forks the next and exits: a look sees none of them.
//!
//! The processes of a session are found by a look at every process of the
//! machine. One thread looks, for all commands that are being ended at that
//! moment: a thousand sessions that are lost together cost a few looks, and not a
//! few each.

use std::collections::HashMap;
use std::io;
use std::process::Child;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open,
    pidfd_send_signal, waitid,
};

/// Between SIGHUP and SIGKILL: time for a shell to save its history and for an
/// editor to save its file, and under the second after which nothing may be
/// left.
const HANG_UP: Duration = Duration::from_millis(800);

/// The pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// How much longer a pause is than the look before it: on a machine with many
/// processes the thread uses a fifth of one processor, however many sessions end.
const REST: u32 = 4;

/// The longest pause, so that SIGKILL is not late.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A process that SIGKILL has not ended in this time sits in the kernel, on a
/// dead network file system say, or belongs to another user: more signals do
/// not help.
const GIVE_UP: Duration = Duration::from_secs(5);

/// How a command is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// SIGKILL at once: nobody is there any more.
    Kill,
    /// SIGHUP, and SIGKILL a little later: the user has hung up.
    HangUp,
}

/// Ends what is left of a command: sends the first signal to its process group
/// before it returns, so that it has gone out even if the server exits next, and
/// leaves the rest to a thread, because it is called from destructors, which
/// cannot wait.
///
/// `held`, our ends of its pipes, is dropped at the very end. A command that
/// ignores SIGHUP must not take our giving up for the end of its input, and so a
/// cut upload for a complete one; and one that handles SIGHUP must not die of
/// SIGPIPE because it says so.
pub(crate) fn end(child: Child, manner: Manner, held: impl Send + 'static) {
    let ending = Ending::new(child, manner, Box::new(held));
    ENDINGS.add(ending);
}

/// Waits until every command that is being ended has ended, or `limit` is over.
pub(crate) fn wait_for_all(limit: Duration) {
    ENDINGS.wait(limit);
}

static ENDINGS: Endings = Endings {
    state: Mutex::new(State {
        new: Vec::new(),
        is_running: false,
    }),
    all_ended: Condvar::new(),
};

/// All commands that are being ended, and the thread that does it, which is there
/// only as long as there are any.
struct Endings {
    state: Mutex<State>,
    all_ended: Condvar,
}

struct State {
    /// Those that the thread has not taken over yet.
    new: Vec<Ending>,
    /// The thread is there.
    is_running: bool,
}

impl Endings {
    fn add(&'static self, ending: Ending) {
        let mut state = self.lock();
        state.new.push(ending);
        if state.is_running {
            return;
        }
        let thread = thread::Builder::new().name("endings".into());
        match thread.spawn(|| self.run()) {
            Ok(_) => state.is_running = true,
            // The next command that ends tries again, for this one too.
            Err(error) => tracing::error!(%error, "no thread to end a command with"),
        }
    }

    fn run(&self) {
        let mut endings = Vec::new();
        loop {
            {
                let mut state = self.lock();
                endings.append(&mut state.new);
                if endings.is_empty() {
                    state.is_running = false;
                    self.all_ended.notify_all();
                    return;
                }
            }
            let start = Instant::now();
            advance(&mut endings, processes);
            thread::sleep((start.elapsed() * REST).clamp(LOOK_AGAIN, LONGEST_PAUSE));
        }
    }

    fn wait(&self, limit: Duration) {
        let state = self.lock();
        let waited = self
            .all_ended
            .wait_timeout_while(state, limit, |state| state.is_running);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One command that is being ended.
struct Ending {
    leader: Child,
    manner: Manner,
    /// Since when in this manner.
    since: Instant,
    /// Whether the rest of the session, beyond the leader's process group, has had the
    /// first signal.
    is_told: bool,
    has_leader: bool,
    _held: Box<dyn Send>,
}

impl Ending {
    fn new(leader: Child, manner: Manner, held: Box<dyn Send>) -> Self {
        let ending = Self {
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
        ending
    }

    fn session(&self) -> Pid {
        Pid::from_child(&self.leader)
    }

    fn signals(&self) -> &'static [Signal] {
        match self.manner {
            Manner::Kill => &[Signal::KILL],
            // As the kernel does on a hang-up: a stopped process hears nothing.
            Manner::HangUp => &[Signal::HUP, Signal::CONT],
        }
    }

    /// Signals the leader and its process group. Neither can be someone else's: the
    /// leader was not waited for.
    fn signal_leader(&self, signal: Signal) {
        let leader = self.session();
        if kill_process_group(leader, signal).is_err() {
            // It has not come as far as its setsid.
            let _ = kill_process(leader, signal);
        }
    }

    /// Sends what is due, and says whether the rest of the session is to be looked for.
    fn is_looked_for(&mut self) -> bool {
        // Before the look: until it has gone, the leader may fork.
        self.has_leader = self.has_leader && is_running(self.session());
        if self.manner == Manner::HangUp && self.since.elapsed() >= HANG_UP {
            (self.manner, self.since) = (Manner::Kill, Instant::now());
        }
        match self.manner {
            // Again and again: a process may fork while the others are looked for.
            Manner::Kill => {
                self.signal_leader(Signal::KILL);
                true
            }
            // As long as the leader lives the session has not ended, whoever else
            // is in it.
            Manner::HangUp => !self.is_told || !self.has_leader,
        }
    }

    /// Signals a process of the session, if it is not the leader and has not had the
    /// signal; says whether it is alive.
    fn signal(&self, process: Pid) -> io::Result<bool> {
        let session = self.session();
        if process == session {
            return Ok(false);
        }
        // Its number may belong to another process by now. The descriptor pins
        // whoever has it, and a second look says who that is.
        let pinned = pidfd_open(process, PidfdFlags::empty())?;
        let Some(stat) = Stat::read(process)?.filter(|stat| stat.is_of(session)) else {
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
            tracing::error!(
                session = self.leader.id(),
                "processes of a session survive SIGKILL"
            );
        }
        given_up
    }

    /// Gives up the claim on the session's number.
    fn finish(mut self) {
        // Whoever was missed by the last look is in its group as a rule.
        self.signal_leader(Signal::KILL);
        if self.leader.try_wait().is_ok_and(|status| status.is_some()) {
            return;
        }
        // It sits in the kernel, and others are not to wait for it.
        let waiting = thread::Builder::new().name("ending".into());
        let _ = waiting.spawn(move || self.leader.wait());
    }
}

/// Sends all endings what is due, looks for the processes of their sessions, and
/// removes those that are over. Calls `processes` once at most.
fn advance<P: Iterator<Item = io::Result<Pid>>>(
    endings: &mut Vec<Ending>,
    processes: impl FnOnce() -> P,
) {
    let mut sessions = HashMap::new();
    for (index, ending) in endings.iter_mut().enumerate() {
        if ending.is_looked_for() {
            sessions.insert(ending.session().as_raw_pid(), (index, false));
        }
    }
    if sessions.is_empty() {
        return;
    }
    // Without a descriptor to look with, nobody is taken for dead.
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
        let Some(&(_, is_alive)) = sessions.get(&ending.session().as_raw_pid()) else {
            return false;
        };
        ending.is_told |= !is_blind;
        !(is_alive || is_blind || ending.has_leader) || ending.is_given_up()
    });
    over.for_each(Ending::finish);
}

fn processes() -> impl Iterator<Item = io::Result<Pid>> {
    let (entries, error) = match std::fs::read_dir("/proc") {
        Ok(entries) => (Some(entries), None),
        Err(error) => (None, is_short(&error).then_some(Err(error))),
    };
    let pid = |name: &std::ffi::OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
    let entries = entries.into_iter().flatten();
    let pids = entries.filter_map(move |entry| pid(&entry.ok()?.file_name()).map(Ok));
    error.into_iter().chain(pids)
}

/// Whether an error says nothing about a process: there was no descriptor to look with.
fn is_short(error: &io::Error) -> bool {
    let short = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    short
        .map(|errno| Some(errno.raw_os_error()))
        .contains(&error.raw_os_error())
}

/// Whether a child that was not waited for has not exited yet.
fn is_running(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(child), options).is_ok_and(|status| status.is_none())
}

/// What `/proc/PID/stat` says of a process. (Its group and its session are 0 where
/// they are led from outside of this PID namespace, so they are no [`Pid`]s.)
#[derive(Debug, PartialEq)]
struct Stat {
    state: u8,
    group: i32,
    session: i32,
}

impl Stat {
    /// `None` if there is no such process any more.
    fn read(process: Pid) -> io::Result<Option<Self>> {
        match std::fs::read(format!("/proc/{process}/stat")) {
            Ok(stat) => Ok(Self::parse(&stat)),
            Err(error) if is_short(&error) => Err(error),
            // No such process any more, as a rule.
            Err(_) => Ok(None),
        }
    }

    /// The name in parentheses may hold anything, blanks and parentheses too; what
    /// follows the last one cannot.
    fn parse(stat: &[u8]) -> Option<Self> {
        let after = stat.iter().rposition(|&byte| byte == b')')? + 1;
        let mut fields = str::from_utf8(&stat[after..])
            .ok()?
            .split_ascii_whitespace();
        Some(Self {
            state: *fields.next()?.as_bytes().first()?,
            // Behind the parent.
            group: fields.nth(1)?.parse().ok()?,
            session: fields.next()?.parse().ok()?,
        })
    }

    fn is_of(&self, session: Pid) -> bool {
        self.session == session.as_raw_pid()
    }

    /// Whether the process is more than an entry that its parent has not read.
    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_hostile_process_name_does_not_hide_its_session() {
        let stat = |state, group, session| Stat {
            state,
            group,
            session,
        };
        assert_eq!(
            Stat::parse(b"12 (a) S 1 2 3) R 1 12 34 0 -1 rest\n"),
            Some(stat(b'R', 12, 34))
        );
        assert_eq!(
            Stat::parse(b"12 (\xff\n) Z 1 12 34 0 -1"),
            Some(stat(b'Z', 12, 34))
        );
        assert_eq!(Stat::parse(b"12 (x) Z 1 12"), None);
        assert_eq!(Stat::parse(b""), None);
    }

    /// Each in a session of its own, with a second process in a group of its own.
    fn commands(count: usize) -> Vec<(Child, Pid)> {
        let started: Vec<_> = (0..count)
            .map(|_| {
                Command::new("setsid")
                    .args(["bash", "-c", "set -m; sleep 1000 & echo $!; wait"])
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let with_second = |mut child: Child| {
            let mut line = String::new();
            let stdout = child.stdout.as_mut().unwrap();
            io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut line).unwrap();
            let second = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
            assert!(
                Stat::read(second)
                    .unwrap()
                    .unwrap()
                    .is_of(Pid::from_child(&child))
            );
            (child, second)
        };
        started.into_iter().map(with_second).collect()
    }

    #[test]
    fn commands_that_end_together_are_looked_for_together() {
        for manner in [Manner::Kill, Manner::HangUp] {
            let (children, seconds): (Vec<_>, Vec<_>) = commands(20).into_iter().unzip();
            let mut endings: Vec<_> = children
                .into_iter()
                .map(|child| Ending::new(child, manner, Box::new(())))
                .collect();
            let start = Instant::now();
            while !endings.is_empty() {
                let mut looks = 0;
                advance(&mut endings, || {
                    looks += 1;
                    processes()
                });
                assert!(looks <= 1, "{looks} looks");
                assert!(start.elapsed() < GIVE_UP, "{} left", endings.len());
                thread::sleep(LOOK_AGAIN);
            }
            for second in seconds {
                let left = Stat::read(second).unwrap().filter(Stat::is_alive);
                assert_eq!(left, None, "{second} survives {manner:?}");
            }
        }
    }

    /// As many connections as there are descriptors must not save a command.
    #[test]
    fn without_a_descriptor_left_nobody_is_taken_for_dead() {
        const CHILD: &str = "REVIEW_ATTACK_CHILD";
        const NAME: &str = "ending::tests::without_a_descriptor_left_nobody_is_taken_for_dead";
        // In a process of its own: the others want descriptors.
        if std::env::var_os(CHILD).is_none() {
            let output = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME])
                .env(CHILD, "1")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            return;
        }
        let (child, second) = commands(1).pop().unwrap();
        let mut crowd = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            crowd.push(file);
        }
        let mut endings = vec![Ending::new(child, Manner::Kill, Box::new(()))];
        let start = Instant::now();
        while !endings.is_empty() {
            advance(&mut endings, processes);
            thread::sleep(LOOK_AGAIN);
            // A few of them leave.
            if start.elapsed() > Duration::from_secs(1) {
                crowd.truncate(crowd.len().saturating_sub(10));
            }
        }
        drop(crowd);
        let left = Stat::read(second).unwrap().filter(Stat::is_alive);
        if left.is_some() {
            let _ = kill_process(second, Signal::KILL);
        }
        assert_eq!(left, None, "over after {:?}", start.elapsed());
    }

    /// A process that is another one whenever somebody looks: each forks one and exits.
    #[test]
    fn one_that_runs_from_process_to_process_is_ended() {
        // For 15 s, so that nothing stays behind a test that fails.
        const RUNNER: &str = r#"perl -e '$|=1; print "on\n"; $end=time+15; while(time<$end){ $p=fork; exit if $p }'"#;
        let cases = [
            ("RUNNER; exec sleep 20", Manner::Kill),
            ("trap '' HUP; RUNNER & exit", Manner::HangUp),
        ];
        for (script, manner) in cases {
            let script = script.replace("RUNNER", RUNNER);
            let mut child = Command::new("setsid")
                .args(["bash", "-c", &script])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdout = io::BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            io::BufRead::read_line(&mut stdout, &mut line).unwrap();
            thread::sleep(Duration::from_millis(200));
            let start = Instant::now();
            let mut endings = vec![Ending::new(child, manner, Box::new(()))];
            while !endings.is_empty() {
                advance(&mut endings, processes);
                thread::sleep(LOOK_AGAIN);
            }
            let took = start.elapsed();
            // Whoever lives holds the pipe.
            io::Read::read_to_end(&mut stdout, &mut Vec::new()).unwrap();
            let lived = start.elapsed() - took;
            assert!(
                lived < Duration::from_secs(2),
                "{script:?} {manner:?}: over after {took:?}, and lived on for {lived:?}"
            );
        }
    }

    #[test]
    fn one_that_is_deaf_is_not_looked_for_until_it_is_killed() {
        let mut child = Command::new("setsid")
            .args(["bash", "-c", "trap '' HUP; echo; read forever"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let ready = &mut [0];
        io::Read::read_exact(child.stdout.as_mut().unwrap(), ready).unwrap();
        let mut endings = vec![Ending::new(child, Manner::HangUp, Box::new(()))];
        for expected in [1, 0, 0] {
            let mut looks = 0;
            advance(&mut endings, || {
                looks += 1;
                processes()
            });
            assert_eq!((looks, endings.len()), (expected, 1));
        }
        endings[0].since -= HANG_UP;
        let start = Instant::now();
        while !endings.is_empty() {
            advance(&mut endings, processes);
            assert!(start.elapsed() < GIVE_UP);
            thread::sleep(LOOK_AGAIN);
        }
    }
}
