//! The server's side of a connection, which reads and writes in small pieces and may break.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::plan::{Fault, Setup};

/// The end of a connection that the server has.
pub(crate) struct Chopped {
    io: DuplexStream,
    chop: usize,
    fault: Option<Fault>,
    /// The bytes that were read and written.
    moved: [usize; 2],
    /// Set once the fault has shown.
    broken: Arc<AtomicBool>,
}

impl Chopped {
    pub(crate) fn new(io: DuplexStream, setup: &Setup, broken: Arc<AtomicBool>) -> Self {
        Self {
            io,
            chop: setup.chop,
            fault: setup.fault,
            moved: [0; 2],
            broken,
        }
    }

    fn check(&self, reading: bool) -> io::Result<()> {
        match self.fault {
            Some(fault)
                if fault.reading == reading && self.moved[usize::from(!reading)] >= fault.after =>
            {
                self.broken.store(true, Ordering::Relaxed);
                Err(fault.kind.into())
            }
            _ => Ok(()),
        }
    }
}

impl AsyncRead for Chopped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(true)?;
        if self.chop >= buf.remaining() {
            let before = buf.filled().len();
            let polled = Pin::new(&mut self.io).poll_read(cx, buf);
            self.moved[0] += buf.filled().len() - before;
            return polled;
        }
        let mut storage = [0; 4096];
        let most = self.chop.min(storage.len());
        let mut piece = ReadBuf::new(&mut storage[..most]);
        let polled = Pin::new(&mut self.io).poll_read(cx, &mut piece);
        buf.put_slice(piece.filled());
        self.moved[0] += piece.filled().len();
        polled
    }
}

impl AsyncWrite for Chopped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(false)?;
        let cut = &buf[..buf.len().min(self.chop)];
        let polled = Pin::new(&mut self.io).poll_write(cx, cut);
        if let Poll::Ready(Ok(n)) = polled {
            self.moved[1] += n;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all: usize = bufs.iter().map(|buf| buf.len()).sum();
        if all > self.chop {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[][..], |buf| buf));
        }
        self.check(false)?;
        let polled = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(n)) = polled {
            self.moved[1] += n;
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
