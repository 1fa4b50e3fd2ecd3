//! The server's end of a pseudo-terminal.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;
use tokio::net::unix::pipe;

/// The master side: what is written here is typed, what is read here would be
/// on the screen.
#[derive(Debug)]
pub(crate) struct Terminal {
    master: OwnedFd,
    // Duplicates of it, driven as if they were pipes: for reading and writing
    // they are, and tokio's general `AsyncFd` takes `unsafe`.
    screen: pipe::Receiver,
    keyboard: pipe::Sender,
}

impl Terminal {
    /// A new terminal, and the descriptor that becomes stdin, stdout and stderr
    /// of its command.
    pub(crate) fn open() -> io::Result<(Self, OwnedFd)> {
        // Without NOCTTY the terminal could become the server's own.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags)?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        // By ioctl and not by path: what /dev/pts shows may be another instance.
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        // Holds for the duplicates too.
        let status = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, status | OFlags::NONBLOCK)?;
        let screen = pipe::Receiver::from_owned_fd_unchecked(master.try_clone()?)?;
        let keyboard = pipe::Sender::from_owned_fd_unchecked(master.try_clone()?)?;
        Ok((
            Self {
                master,
                screen,
                keyboard,
            },
            slave,
        ))
    }

    /// Tells the terminal its size; its foreground processes get a SIGWINCH if it
    /// is a new one.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let size = Winsize {
            ws_col: columns,
            ws_row: rows,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        Ok(rustix::termios::tcsetwinsize(&self.master, size)?)
    }

    /// Reads what the command shows; 0 once nobody has the terminal open.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.screen.readable().await?;
            match self.screen.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // How Linux says that the other side is closed; comes after all
                // that was written.
                Err(error)
                    if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::IO) =>
                {
                    return Ok(0);
                }
                result => return result,
            }
        }
    }

    /// Types into the terminal.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.keyboard.writable().await?;
            match self.keyboard.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }
}
