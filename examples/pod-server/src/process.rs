//! A running command: its pipes or its terminal, and the guarantee that it does not outlive its
//! session.
//!
//! Each command leads a session of its own (`setsid`), so that all its processes can be found
//! and ended, and so that a terminal can control it.
//!
//! Some limits remain:
//!
//! * A command that is stuck in `execve` when the server exits runs once its program can be opened.
//!   The server does not know its ID yet, and cannot end it.
//! * tokio registers a child with epoll after the fork. If the kernel refuses that, for lack of
//!   memory or of watches, the start fails but the command runs. The pipes and the terminal are
//!   registered before the fork, so that nothing else can fail there. `std` would register nothing,
//!   but `pty_process` starts a command on an asynchronous terminal through tokio only, and tokio
//!   also reaps a process that was stuck in the kernel when it was given up.
//! * `pty_process` opens a terminal by its path in `/dev/pts`. If another instance of devpts is
//!   mounted there than the one of `/dev/ptmx`, the command gets a terminal of that instance.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use pty_process::Size;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::{
    net::unix::pipe,
    process::Command,
    sync::{RwLock, RwLockWriteGuard, oneshot},
    task::spawn_blocking,
    time::timeout,
};

use crate::{
    ending::{self, Manner},
    options::TOKEN_VARIABLE,
    reaper,
    stdio::{Input, Output, Terminal},
};

/// Shared by the commands that are being forked, and held exclusively while a terminal is opened.
/// `pty_process` makes the descriptor of a terminal close-on-exec in a second step, and a command
/// that is forked between the two would inherit it.
static FORKING: RwLock<()> = RwLock::const_new(());

/// The time after which a start has forked. A fork takes milliseconds, even on a busy machine; a
/// start that takes longer than this is waiting for `execve`, for example on a network file system
/// that does not answer. It then inherits nothing any more, and must not hold up the terminals.
const FORKED: Duration = Duration::from_secs(1);

/// Waits for the commands that are being started, except for those that are stuck, and lets no
/// other start for as long as the guard is held.
///
/// A runtime that shuts down refuses new descriptors, so that tokio would lose a command that was
/// forked a moment before.
pub async fn stop_starting() -> RwLockWriteGuard<'static, ()> {
    FORKING.write().await
}

/// A command to run, and the streams that its client asked for.
#[derive(Clone, Copy, Debug)]
pub struct Spec<'a> {
    pub argv: &'a [OsString],
    pub tty: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// The columns and rows of the terminal, if they are already known. A program that draws at
    /// once then draws in the right size.
    pub size: Option<(u16, u16)>,
}

/// A running command. If it is dropped before [`finish`](Self::finish), it is ended with all the
/// processes of its session, in the [`Manner`] that was set last.
#[derive(Debug)]
pub(crate) struct Process {
    /// `None` once the command is finished.
    leader: Option<Box<dyn ChildWrapper>>,
    pub(crate) exit: Exit,
    pub(crate) manner: Manner,
    pub(crate) input: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) terminal: Option<Terminal>,
}

impl Process {
    /// Starts the command, and returns once it runs.
    ///
    /// This waits until the program has been opened, but keeps no thread of the runtime busy with
    /// that. Each start that waits has one of the threads for blocking work, of which tokio has
    /// 512; further starts queue for one.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, a command that was already being started is ended as soon as it
    /// runs.
    pub(crate) async fn start(spec: Spec<'_>) -> Result<Self, CannotStart> {
        let program = spec.argv.first().cloned().unwrap_or_default();
        let prepared = if spec.tty {
            Prepared::on_terminal(spec).await
        } else {
            Prepared::on_pipes(spec)
        };
        let prepared = prepared.map_err(CannotStart::Setup)?;
        // In a task, which holds the lock until the fork even if this future is dropped before. If
        // nothing waits for the process any more, tokio drops it, and that ends its command.
        let started = tokio::spawn(async move {
            let forking = FORKING.read().await;
            let (begin, begun) = oneshot::channel();
            let mut starting = spawn_blocking(move || {
                let _ = begin.send(());
                prepared.start(program)
            });
            // It may have to queue for a thread. An error here is one of `starting` as well.
            let _ = begun.await;
            let started = timeout(FORKED, &mut starting).await;
            drop(forking);
            match started {
                Ok(started) => started,
                Err(_) => starting.await,
            }
        });
        let started = started.await.and_then(|started| started);
        started.unwrap_or_else(|error| Err(CannotStart::Setup(error.into())))
    }

    /// Waits for the exit of the first process, and returns its exit status. Call it when the
    /// output has ended.
    ///
    /// Processes that it has left in the background keep running, as under container runtimes. They
    /// do not hold the output, which has ended, so they were left on purpose.
    pub(crate) async fn finish(mut self) -> io::Result<ExitStatus> {
        self.exit.wait().await?;
        let mut leader = self
            .leader
            .take()
            .ok_or_else(|| io::Error::other("finished twice"))?;
        // This does not block, because the process has exited.
        leader.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            let ends = (self.input.take(), self.stdout.take(), self.stderr.take());
            reaper::end(leader, self.manner, (ends, self.terminal.take()));
        }
    }
}

/// A command that is ready to be started. All that it needs is open, so what fails from here on is
/// the start of its program.
struct Prepared {
    spawn: Box<dyn FnOnce() -> io::Result<Box<dyn ChildWrapper>> + Send>,
    input: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    terminal: Option<Terminal>,
}

impl Prepared {
    fn on_pipes(spec: Spec<'_>) -> io::Result<Self> {
        let (stdin, input) = input_pipe(spec.stdin)?;
        let (out, stdout) = output_pipe(spec.stdout)?;
        let (err, stderr) = output_pipe(spec.stderr)?;
        let mut command = command(spec.argv);
        command.stdin(stdin).stdout(out).stderr(err);
        Ok(Self {
            spawn: Box::new(|| {
                let child = CommandWrap::from(command).wrap(ProcessSession).spawn()?;
                // The child itself, without the wrapper that waits for a whole process group.
                Ok(child.into_inner())
            }),
            input,
            stdout,
            stderr,
            terminal: None,
        })
    }

    async fn on_terminal(spec: Spec<'_>) -> io::Result<Self> {
        let opening = FORKING.write().await;
        let opened = pty_process::open();
        drop(opening);
        let (pty, pts) = opened.map_err(plain)?;
        let terminal = Terminal::new(pty.as_fd().try_clone_to_owned()?);
        if let Some((columns, rows)) = spec.size {
            pty.resize(Size::new(rows, columns)).map_err(plain)?;
        }
        let mut command = command(spec.argv);
        // Container runtimes set this value, and every client's terminal understands it.
        command.env("TERM", "xterm");
        let (screen, keyboard) = pty.into_split();
        Ok(Self {
            spawn: Box::new(|| {
                let child = pty_process::Command::from(command).spawn(pts);
                Ok(Box::new(child.map_err(plain)?))
            }),
            input: spec.stdin.then_some(Input::Terminal {
                keyboard,
                mid_line: false,
            }),
            // Read even if the client did not ask for it: a terminal that is not read stops its
            // command.
            stdout: Some(Output::new(screen)),
            stderr: None,
            terminal: Some(terminal),
        })
    }

    /// Starts the command. Blocks until its program has been opened, which may take for ever.
    fn start(self, program: OsString) -> Result<Process, CannotStart> {
        let Self {
            spawn,
            input,
            stdout,
            stderr,
            terminal,
        } = self;
        let leader = spawn().map_err(|error| CannotStart::Exec { program, error })?;
        match Exit::new(&*leader) {
            Ok(exit) => Ok(Process {
                leader: Some(leader),
                exit,
                manner: Manner::Kill,
                input,
                stdout,
                stderr,
                terminal,
            }),
            Err(error) => {
                reaper::end(leader, Manner::Kill, (input, stdout, stderr, terminal));
                Err(CannotStart::Setup(error))
            }
        }
    }
}

/// Returns a command's end of its input, and the server's.
fn input_pipe(wanted: bool) -> io::Result<(Stdio, Option<Input>)> {
    if !wanted {
        return Ok((File::open("/dev/null")?.into(), None));
    }
    let (theirs, ours) = io::pipe()?;
    let ours = pipe::Sender::from_owned_fd(ours.into())?;
    Ok((theirs.into(), Some(Input::Pipe(ours))))
}

/// Returns a command's end of an output, and the server's.
fn output_pipe(wanted: bool) -> io::Result<(Stdio, Option<Output>)> {
    if !wanted {
        let null = File::options().write(true).open("/dev/null")?;
        return Ok((null.into(), None));
    }
    let (ours, theirs) = io::pipe()?;
    let ours = pipe::Receiver::from_owned_fd(ours.into())?;
    Ok((theirs.into(), Some(Output::new(ours))))
}

fn command(argv: &[OsString]) -> Command {
    let (program, arguments) = match argv.split_first() {
        Some((program, arguments)) => (program.as_os_str(), arguments),
        // `exec` refuses an empty name.
        None => ("".as_ref(), &[][..]),
    };
    let mut command = Command::new(program);
    // The command must not see the server's token.
    command.args(arguments).env_remove(TOKEN_VARIABLE);
    command
}

fn plain(error: pty_process::Error) -> io::Error {
    match error {
        pty_process::Error::Io(error) => error,
        pty_process::Error::Rustix(errno) => errno.into(),
        error => io::Error::other(error.to_string()),
    }
}

/// Detects that the first process of a command has exited, without reaping it. Reaping would free
/// its ID while other processes of its session live; see [`ending`].
#[derive(Debug)]
pub(crate) struct Exit {
    // A pidfd, which is readable once the process has exited. It is driven as a pipe, because
    // tokio's `AsyncFd` would need `unsafe`.
    process: pipe::Receiver,
}

impl Exit {
    fn new(leader: &dyn ChildWrapper) -> io::Result<Self> {
        let process = pidfd_open(ending::pid(leader)?, PidfdFlags::NONBLOCK)?;
        Ok(Self {
            process: pipe::Receiver::from_owned_fd_unchecked(process)?,
        })
    }

    /// Waits until the process has exited. Cancel safe, and may be called again afterwards.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        // Nothing is read, so it stays readable.
        self.process.readable().await
    }
}

/// The error of a command that could not be started. Its text reads like that of a container
/// runtime, because that is what people search for.
#[derive(Debug)]
pub enum CannotStart {
    /// The server could not open what the command needs. The program is not at fault.
    Setup(io::Error),
    /// The program could not be run.
    Exec { program: OsString, error: io::Error },
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unable to start process: ")?;
        let (program, error) = match self {
            Self::Setup(error) => return write!(f, "preparing the process: {}", text(error)),
            Self::Exec { program, error } => (program, error),
        };
        write!(f, "exec: {program:?}: ")?;
        match error.kind() {
            io::ErrorKind::NotFound if !program.as_bytes().contains(&b'/') => {
                f.write_str("executable file not found in $PATH")
            }
            // This error was found before the fork.
            io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
                f.write_str("an argument holds a NUL byte")
            }
            _ => f.write_str(&text(error)),
        }
    }
}

/// Returns the text of an error without Rust's `(os error 2)`, as in C and Go.
fn text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}

impl std::error::Error for CannotStart {}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
