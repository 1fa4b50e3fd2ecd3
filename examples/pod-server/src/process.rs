//! A command that runs: its pipes or its terminal, and the promise that it does not outlive its
//! session.
//!
//! Each command leads a session of its own (`setsid`), so that all its processes can be found
//! and ended, and so that a terminal can control it.

use std::{
    ffi::OsString,
    fmt, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    process::{ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
};

use process_wrap::tokio::{ChildWrapper, CommandWrap, ProcessSession};
use pty_process::{OwnedWritePty, Size};
use rustix::{
    io::Errno,
    process::{PidfdFlags, pidfd_open},
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    process::{ChildStdin, Command},
};

use crate::{
    ending::{self, Manner},
    options::TOKEN_VARIABLE,
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
    /// Columns and rows of the terminal, if they are known already. A program that draws at
    /// once then draws in the right size.
    pub(crate) size: Option<(u16, u16)>,
}

/// A running command. If it is dropped before [`finish`](Self::finish), it is ended with all the
/// processes of its session, in the [`Manner`] that was set last.
#[derive(Debug)]
pub(crate) struct Process {
    /// `None` once finished.
    leader: Option<Box<dyn ChildWrapper>>,
    pub(crate) exit: Exit,
    pub(crate) manner: Manner,
    pub(crate) input: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) terminal: Option<Terminal>,
}

impl Process {
    /// Starts the command. Returns once it runs.
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
        let terminal = Terminal(pty.as_fd().try_clone_to_owned()?);
        if let Some((columns, rows)) = spec.size {
            pty.resize(Size::new(rows, columns)).map_err(plain)?;
        }
        let mut command = command(spec.argv);
        // As container runtimes set it, and as every client's terminal understands it.
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
                ending::end(leader, Manner::Kill, ());
                Err(error)
            }
        }
    }

    /// Waits for the exit of the first process, and returns its exit status. Call it when the
    /// output has ended.
    ///
    /// Processes that it has left in the background are left alone, as container runtimes do.
    /// They hold none of the output, which would not have ended otherwise, so they were left on
    /// purpose.
    pub(crate) async fn finish(mut self) -> io::Result<ExitStatus> {
        self.exit.wait().await?;
        let mut leader = self
            .leader
            .take()
            .ok_or_else(|| io::Error::other("finished twice"))?;
        // Does not wait: it has exited.
        leader.wait().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            let ends = (self.input.take(), self.stdout.take(), self.stderr.take());
            ending::end(leader, self.manner, (ends, self.terminal.take()));
        }
    }
}

fn command(argv: &[OsString]) -> Command {
    let (program, arguments) = match argv.split_first() {
        Some((program, arguments)) => (program.as_os_str(), arguments),
        // An empty name is refused by exec.
        None => ("".as_ref(), &[][..]),
    };
    let mut command = Command::new(program);
    // The token of the server is none of the command's business.
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

/// The server's end of a command's input.
#[derive(Debug)]
pub(crate) enum Input {
    Pipe(ChildStdin),
    Terminal {
        keyboard: OwnedWritePty,
        /// Whether the last byte left a line unfinished.
        mid_line: bool,
    },
}

impl Input {
    /// Writes as much of `bytes` as the command takes. An error means that it takes no more.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.write(bytes).await,
            Self::Terminal { keyboard, mid_line } => {
                let written = keyboard.write(bytes).await?;
                if let Some(last) = bytes[..written].last() {
                    *mid_line = !matches!(last, b'\n' | b'\r');
                }
                Ok(written)
            }
        }
    }

    /// Ends the input. A pipe is closed. A terminal has no end but a key for it: Ctrl-D, which
    /// sends a line that was begun, and ends the input at the start of one. Without it `cat` in
    /// a terminal would wait forever for a client that has ended its input.
    pub(crate) async fn end(self) -> io::Result<()> {
        const CTRL_D: &[u8] = &[4, 4];
        match self {
            Self::Pipe(_) => Ok(()),
            Self::Terminal {
                mut keyboard,
                mid_line,
            } => {
                keyboard
                    .write_all(if mid_line { CTRL_D } else { &CTRL_D[1..] })
                    .await
            }
        }
    }
}

/// The server's end of a command's output.
pub(crate) struct Output(Box<dyn AsyncRead + Send + Unpin>);

impl Output {
    fn new(from: impl AsyncRead + Send + Unpin + 'static) -> Self {
        Self(Box::new(from))
    }

    /// Reads some output. Returns 0 at its end, when every process that could write has closed
    /// it.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await {
            // How Linux says that a terminal's other side is closed. It comes after all output,
            // and never from a pipe.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::IO) => Ok(0),
            result => result,
        }
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").finish_non_exhaustive()
    }
}

/// A terminal, to be resized while its other two handles read and write.
#[derive(Debug)]
pub(crate) struct Terminal(OwnedFd);

impl Terminal {
    /// Tells the terminal its size. Its foreground processes get a SIGWINCH if that has changed.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(tcsetwinsize(&self.0, size)?)
    }
}

/// Tells when the first process of a command has exited, and does not reap it. Reaping would free
/// its number while other processes of its session live; see [`ending`].
#[derive(Debug)]
pub(crate) struct Exit {
    // A pidfd, which is readable once the process has exited. It is driven as a pipe, because
    // tokio's `AsyncFd` takes `unsafe`.
    process: pipe::Receiver,
}

impl Exit {
    fn new(leader: &dyn ChildWrapper) -> io::Result<Self> {
        let process = pidfd_open(ending::pid(leader)?, PidfdFlags::NONBLOCK)?;
        Ok(Self {
            process: pipe::Receiver::from_owned_fd_unchecked(process)?,
        })
    }

    /// Cancel safe, and may be called again afterwards.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        // Nothing is read, so it stays readable.
        self.process.readable().await
    }
}

/// A command that does not run. Its text reads like that of a container runtime, which is what
/// people search for.
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
            // Found before the fork.
            io::ErrorKind::InvalidInput if error.raw_os_error().is_none() => {
                f.write_str("an argument holds a NUL byte")
            }
            // Without Rust's `(os error 2)`, as C and Go say it.
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
