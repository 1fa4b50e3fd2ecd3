//! A command that runs: its pipes or its terminal, and the promise that it does
//! not outlive its session.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixStream, unix::pipe};

use crate::ending::{self, Manner};
use crate::pty::Terminal;
use crate::trampoline::{self, Report};

/// What to run, and what of it is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec<'a> {
    pub(crate) argv: &'a [OsString],
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// Columns and rows of the terminal, if they are known already: a program
    /// that draws at once draws in the right size.
    pub(crate) size: Option<(u16, u16)>,
}

/// A running command. Dropped before [`finish`](Self::finish), it is ended with
/// all the processes of its session, in the [`Manner`] that was set last.
#[derive(Debug)]
pub(crate) struct Process {
    /// `None` once finished.
    child: Option<Child>,
    pub(crate) exit: Exit,
    pub(crate) manner: Manner,
    pub(crate) input: Option<Input>,
    pub(crate) stdout: Option<Output>,
    pub(crate) stderr: Option<Output>,
    pub(crate) terminal: Option<Arc<Terminal>>,
}

impl Process {
    /// Starts the command. Comes back when it runs, or with why it does not.
    ///
    /// Dropping the future ends what it has started.
    pub(crate) async fn start(spec: Spec<'_>) -> Result<Self, CannotStart> {
        Self::try_start(spec).await.map_err(|report| CannotStart {
            program: spec.argv.first().cloned().unwrap_or_default(),
            report,
        })
    }

    async fn try_start(spec: Spec<'_>) -> Result<Self, Report> {
        let mut ends = Ends::open(spec).map_err(Report::Setup)?;
        let (ours, theirs) = StdUnixStream::pair().map_err(Report::Setup)?;
        let arguments =
            trampoline::order(&ours, spec.argv, spec.tty, &ends.stdio).map_err(Report::Setup)?;
        // From here on the only copies are those on their way in the socket: a
        // pipe of which this process held both ends would never end.
        drop(ends.stdio);

        let child = trampoline_command()
            .stdin(OwnedFd::from(theirs))
            .spawn()
            .map_err(Report::Setup)?;
        let exit = match Exit::new(&child) {
            Ok(exit) => exit,
            Err(error) => {
                ending::end(child, Manner::Kill, ());
                return Err(Report::Setup(error));
            }
        };
        let process = Self {
            exit,
            child: Some(child),
            manner: Manner::Kill,
            input: ends.input.take(),
            stdout: ends.stdout.take(),
            stderr: ends.stderr.take(),
            terminal: ends.terminal.take(),
        };
        let report = converse(ours, &arguments).await.map_err(Report::Setup)?;
        trampoline::outcome(&report)?;
        Ok(process)
    }

    /// The first process has exited and its output has ended: its exit status.
    ///
    /// What it has left running in the background is left alone, as container
    /// runtimes do: it cannot be heard here (else the output would not have
    /// ended), so it was meant to be left.
    pub(crate) async fn finish(mut self) -> io::Result<ExitStatus> {
        self.exit.wait().await?;
        let mut child = self
            .child
            .take()
            .ok_or_else(|| io::Error::other("finished twice"))?;
        // Does not wait: it has exited.
        child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            let ends = (self.input.take(), self.stdout.take(), self.stderr.take());
            ending::end(child, self.manner, (ends, self.terminal.take()));
        }
    }
}

/// This very program, whatever has become of its file since it was started.
fn trampoline_command() -> Command {
    let mut command = Command::new("/proc/self/exe");
    // In a unit test "this program" is the test binary: see `trampoline::tests`.
    #[cfg(test)]
    command.args(["--exact", "--test-threads=1", "trampoline::tests::entry"]);
    command
        .arg(trampoline::MARK)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Sends the arguments, then reads the report.
async fn converse(socket: StdUnixStream, arguments: &[u8]) -> io::Result<Vec<u8>> {
    socket.set_nonblocking(true)?;
    let mut socket = UnixStream::from_std(socket)?;
    socket.write_all(arguments).await?;
    socket.shutdown().await?;
    let mut report = Vec::new();
    socket.read_to_end(&mut report).await?;
    Ok(report)
}

/// Both sides of what a command's descriptors 0, 1 and 2 are.
struct Ends {
    stdio: [OwnedFd; 3],
    input: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    terminal: Option<Arc<Terminal>>,
}

impl Ends {
    fn open(spec: Spec<'_>) -> io::Result<Self> {
        if spec.tty {
            Self::open_terminal(spec)
        } else {
            Self::open_pipes(spec)
        }
    }

    fn open_terminal(spec: Spec<'_>) -> io::Result<Self> {
        let (terminal, slave) = Terminal::open()?;
        if let Some((columns, rows)) = spec.size {
            terminal.resize(columns, rows)?;
        }
        let terminal = Arc::new(terminal);
        Ok(Self {
            stdio: [slave.try_clone()?, slave.try_clone()?, slave],
            input: spec.stdin.then(|| Input::Terminal {
                terminal: Arc::clone(&terminal),
                mid_line: false,
            }),
            // Read also when nobody wants it: a terminal that nobody reads stops
            // its command.
            stdout: Some(Output::Terminal(Arc::clone(&terminal))),
            stderr: None,
            terminal: Some(terminal),
        })
    }

    fn open_pipes(spec: Spec<'_>) -> io::Result<Self> {
        let (stdin, input) = if spec.stdin {
            let (theirs, ours) = io::pipe()?;
            (
                theirs.into(),
                Some(Input::Pipe(pipe::Sender::from_owned_fd(ours.into())?)),
            )
        } else {
            (File::open("/dev/null")?.into(), None)
        };
        let output = |wanted: bool| -> io::Result<(OwnedFd, Option<Output>)> {
            if !wanted {
                return Ok((File::options().write(true).open("/dev/null")?.into(), None));
            }
            let (ours, theirs) = io::pipe()?;
            Ok((
                theirs.into(),
                Some(Output::Pipe(pipe::Receiver::from_owned_fd(ours.into())?)),
            ))
        };
        let (out, stdout) = output(spec.stdout)?;
        let (err, stderr) = output(spec.stderr)?;
        Ok(Self {
            stdio: [stdin, out, err],
            input,
            stdout,
            stderr,
            terminal: None,
        })
    }
}

/// Where a command's input is written.
#[derive(Debug)]
pub(crate) enum Input {
    Pipe(pipe::Sender),
    Terminal {
        terminal: Arc<Terminal>,
        /// Whether the last byte left a line unfinished.
        mid_line: bool,
    },
}

impl Input {
    /// Writes what the command takes of `bytes`. An error means that it takes
    /// nothing more.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.write(bytes).await,
            Self::Terminal { terminal, mid_line } => {
                let written = terminal.write(bytes).await?;
                if let Some(last) = bytes[..written].last() {
                    *mid_line = !matches!(last, b'\n' | b'\r');
                }
                Ok(written)
            }
        }
    }

    /// The end of the input. A pipe is closed; a terminal has no end, but a key
    /// for it: Ctrl-D, which on a line that was begun first sends that line.
    /// Without it `cat` in a terminal would wait for ever for a client that has
    /// said that nothing more will come.
    pub(crate) async fn end(self) -> io::Result<()> {
        const CTRL_D: u8 = 4;
        match self {
            Self::Pipe(_) => Ok(()),
            Self::Terminal { terminal, mid_line } => {
                let keys: &[u8] = if mid_line {
                    &[CTRL_D, CTRL_D]
                } else {
                    &[CTRL_D]
                };
                let mut typed = 0;
                while typed < keys.len() {
                    typed += terminal.write(&keys[typed..]).await?;
                }
                Ok(())
            }
        }
    }
}

/// Where a command's output is read.
#[derive(Debug)]
pub(crate) enum Output {
    Pipe(pipe::Receiver),
    Terminal(Arc<Terminal>),
}

impl Output {
    /// 0 is the end: every process that could write has let go of it.
    pub(crate) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pipe(pipe) => pipe.read(buffer).await,
            Self::Terminal(terminal) => terminal.read(buffer).await,
        }
    }
}

/// Tells when the first process has exited, without waiting *for* it: that would
/// give its number away while other processes of its session live (see
/// [`ending`]).
#[derive(Debug)]
pub(crate) struct Exit {
    // A descriptor of the process, which is readable once it has exited, driven as if
    // it were a pipe, for the reason in `pty`. SIGCHLD would wake the tasks of all
    // commands whenever one exits.
    process: pipe::Receiver,
}

impl Exit {
    fn new(child: &Child) -> io::Result<Self> {
        let process = pidfd_open(Pid::from_child(child), PidfdFlags::NONBLOCK)?;
        Ok(Self {
            process: pipe::Receiver::from_owned_fd_unchecked(process)?,
        })
    }

    /// Cancel safe, and may be called again afterwards.
    pub(crate) async fn wait(&mut self) -> io::Result<()> {
        // Nothing is read, so that it stays readable.
        self.process.readable().await
    }
}

/// A command that does not run. Reads like the message of a container runtime,
/// because that is what people look for.
#[derive(Debug)]
pub(crate) struct CannotStart {
    program: OsString,
    report: Report,
}

impl fmt::Display for CannotStart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, report } = self;
        f.write_str("unable to start process: ")?;
        match report {
            Report::Exec(error)
                if error.kind() == io::ErrorKind::NotFound
                    && !program.as_bytes().contains(&b'/') =>
            {
                write!(f, "exec: {program:?}: executable file not found in $PATH")
            }
            Report::Exec(error) => write!(f, "exec: {program:?}: {}", plain(error)),
            Report::Setup(error) => write!(
                f,
                "exec: {program:?}: preparing the process: {}",
                plain(error)
            ),
        }
    }
}

impl std::error::Error for CannotStart {}

/// An error as C's `strerror` and Go say it: without Rust's `(os error 2)`.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}
