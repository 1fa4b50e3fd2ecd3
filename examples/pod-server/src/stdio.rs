//! The server's ends of a command's pipes, or of its terminal.

use std::{fmt, io, os::fd::OwnedFd};

use pty_process::OwnedWritePty;
use rustix::{
    io::Errno,
    termios::{Winsize, tcsetwinsize},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
};

/// The input of a command.
#[derive(Debug)]
pub(crate) enum Input {
    Pipe(pipe::Sender),
    Terminal {
        keyboard: OwnedWritePty,
        /// Set if the last byte left a line unfinished.
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

/// The output of a command.
pub(crate) struct Output(Box<dyn AsyncRead + Send + Unpin>);

impl Output {
    pub(crate) fn new(from: impl AsyncRead + Send + Unpin + 'static) -> Self {
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
    pub(crate) fn new(pty: OwnedFd) -> Self {
        Self(pty)
    }

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
