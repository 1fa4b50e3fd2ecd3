//! The transport: a TCP stream, or any other upgraded connection.
//!
//! A TCP stream is split, so that reading takes no lock. Any other connection stays whole, behind
//! the writers' lock, because splitting it would only add a second lock.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// An upgraded connection of any type.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection that was handed over, in two parts with different owners.
pub(crate) struct Transport {
    pub(crate) read: ReadHalf,
    pub(crate) write: WriteHalf,
}

impl Transport {
    /// Splits a TCP stream, and disables Nagle's algorithm.
    ///
    /// Our writes are already as large as they should be. With the algorithm, every message above
    /// 64 bytes takes three times as long.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        // Fails only for a dead socket. Without the option, a socket is merely slower.
        let _ = stream.set_nodelay(true);
        let (read, write) = stream.into_split();
        Self {
            read: ReadHalf::Tcp(read),
            write: WriteHalf::Tcp(write),
        }
    }

    /// Keeps the connection whole.
    pub(crate) fn whole(io: impl Io + 'static) -> Self {
        Self {
            read: ReadHalf::Shared,
            write: WriteHalf::Whole(Box::pin(io)),
        }
    }
}

/// The half for reading.
#[derive(Debug)]
pub(crate) enum ReadHalf {
    Tcp(OwnedReadHalf),
    /// The connection is whole, and the write half owns it.
    Shared,
}

/// The half for writing.
pub(crate) enum WriteHalf {
    Tcp(OwnedWriteHalf),
    Whole(Pin<Box<dyn Io>>),
}

impl fmt::Debug for WriteHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Whole(_) => "Whole",
        })
    }
}

impl WriteHalf {
    pub(crate) fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(half) => half.is_write_vectored(),
            Self::Whole(io) => io.is_write_vectored(),
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_write(cx, bytes),
            Self::Whole(io) => io.as_mut().poll_write(cx, bytes),
        }
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_write_vectored(cx, slices),
            Self::Whole(io) => io.as_mut().poll_write_vectored(cx, slices),
        }
    }

    /// Returns whether the transport may buffer written bytes until it is flushed.
    pub(crate) fn needs_flush(&self) -> bool {
        matches!(self, Self::Whole(_))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_flush(cx),
            Self::Whole(io) => io.as_mut().poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(half) => Pin::new(half).poll_shutdown(cx),
            Self::Whole(io) => io.as_mut().poll_shutdown(cx),
        }
    }

    /// Closes the connection, whose other half has already been dropped.
    ///
    /// Dropping an `OwnedWriteHalf` instead would first shut down the socket, which is closed a
    /// moment later anyway.
    pub(crate) fn close(self) {
        match self {
            Self::Tcp(half) => half.forget(),
            Self::Whole(io) => drop(io),
        }
    }

    /// Reads from a transport that is not split.
    ///
    /// # Panics
    /// Panics if it is split, because its other half is for reading.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(_) => unreachable!("a split transport is read through its other half"),
            Self::Whole(io) => io.as_mut().poll_read(cx, buf),
        }
    }
}
