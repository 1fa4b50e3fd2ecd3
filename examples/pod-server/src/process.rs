//! A running command: its pipes or its terminal, and the guarantee that it does not outlive its
//! session.
//!
//! Each command leads a session of its own (`setsid`), so that all its processes can be found
//! and ended, and so that a terminal can control it.

use std::{
    ffi::OsString,
    fmt, io,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use pty_process::Size;
use rustix::process::{PidfdFlags, pidfd_open};
use tokio::{net::unix::pipe, process::Command};

use crate::{
    ending::{self, Manner},
    options::TOKEN_VARIABLE,
    reaper,
    stdio::{Input, Output, Terminal},
};

/// Held while a command starts. `pty_process` makes the descriptor of a terminal close-on-exec
/// in a second step, and a command that started between the two would inherit it.
static STARTING: Mutex<()> = Mutex::new(());

/// A command to run, and the streams that its client asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<'a> {
    pub(crate) argv: &'a [OsString],
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// The columns and rows of the terminal, if they are already known. A program that draws at
    /// once then draws in the right size.
    pub(crate) size: Option<(u16, u16)>,
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
    pub(crate) fn start(spec: Spec<'_>) -> Result<Self, CannotStart> {
        let starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        let started = if spec.tty {
            Self::on_terminal(spec)
        } else {
            Self::on_pipes(spec)
        };
        drop(starting);
        started.map_err(|error| CannotStart {
            program: spec.argv.first().cloned().unwrap_or_default(),
            error,
        })
    }

    fn on_pipes(spec: Spec<'_>) -> io::Result<Self> {
        let stdio = |wanted| {
            if wanted {
                Stdio::piped()
            } else {
                Stdio::null()
            }
        };
        let mut command = command(spec.argv);
        command
            .stdin(stdio(spec.stdin))
            .stdout(stdio(spec.stdout))
            .stderr(stdio(spec.stderr));
        let child = CommandWrap::from(command).wrap(ProcessSession).spawn()?;
        // The child itself, without the wrapper that waits for a whole process group.
        let mut process = Self::new(child.into_inner())?;
        if let Some(leader) = &mut process.leader {
            process.input = leader.stdin().take().map(Input::Pipe);
            process.stdout = leader.stdout().take().map(Output::new);
            process.stderr = leader.stderr().take().map(Output::new);
        }
        Ok(process)
    }

    fn on_terminal(spec: Spec<'_>) -> io::Result<Self> {
        let (pty, pts) = pty_process::open().map_err(plain)?;
        let terminal = Terminal::new(pty.as_fd().try_clone_to_owned()?);
        if let Some((columns, rows)) = spec.size {
            pty.resize(Size::new(rows, columns)).map_err(plain)?;
        }
        let mut command = command(spec.argv);
        // Container runtimes set this value, and every client's terminal understands it.
        command.env("TERM", "xterm");
        let child = pty_process::Command::from(command)
            .spawn(pts)
            .map_err(plain)?;
        let mut process = Self::new(Box::new(child))?;
        let (screen, keyboard) = pty.into_split();
        process.input = spec.stdin.then_some(Input::Terminal {
            keyboard,
            mid_line: false,
        });
        // Read even if the client did not ask for it: a terminal that is not read stops its
        // command.
        process.stdout = Some(Output::new(screen));
        process.terminal = Some(terminal);
        Ok(process)
    }

    fn new(leader: Box<dyn ChildWrapper>) -> io::Result<Self> {
        match Exit::new(&*leader) {
            Ok(exit) => Ok(Self {
                leader: Some(leader),
                exit,
                manner: Manner::Kill,
                input: None,
                stdout: None,
                stderr: None,
                terminal: None,
            }),
            Err(error) => {
                reaper::end(leader, Manner::Kill, ());
                Err(error)
            }
        }
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
pub(crate) struct CannotStart {
    program: OsString,
    error: io::Error,
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, error } = self;
        write!(f, "unable to start process: exec: {program:?}: ")?;
        match error.kind() {
            io::ErrorKind::NotFound if !program.as_bytes().contains(&b'/') => {
                f.write_str("executable file not found in $PATH")
            }
            // This error was found before the fork.
            io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
                f.write_str("an argument holds a NUL byte")
            }
            // The text leaves out Rust's `(os error 2)`, as in C and Go.
            _ => match error.to_string().split_once(" (os error") {
                Some((text, _)) => f.write_str(&text.to_lowercase()),
                None => write!(f, "{error}"),
            },
        }
    }
}

impl std::error::Error for CannotStart {}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
