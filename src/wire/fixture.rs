//! Fixtures for models of a session: wakers that note their wake-ups, and a transport whose room the
//! test chooses.

#[cfg(wsstream_loom)]
pub(crate) mod park;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Runs a case of a model to its end, in paused time.
pub(crate) fn run_paused<T>(case: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(case)
}

/// A task that runs only when it was woken.
#[derive(Debug, Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    /// Creates a task that has not run yet, and so may.
    pub(crate) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    /// Returns whether the task was woken since the last call.
    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A transport that buffers what it takes until it is flushed.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The number of bytes that it takes before it is full.
    pub(crate) room: usize,
    /// It cannot flush.
    pub(crate) is_stuck: bool,
    pub(crate) is_broken: bool,
    pub(crate) is_vectored: bool,
    buffered: Vec<u8>,
    /// The bytes that have reached the peer.
    pub(crate) out: Vec<u8>,
    /// The last waker that has found it full. tokio keeps no more than this one either.
    waker: Option<Waker>,
}

/// A handle of a [`Line`].
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLine(Arc<Mutex<Line>>);

impl SharedLine {
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// Changes the transport, and wakes the task that waits for it.
    pub(crate) fn wake(&self, change: impl FnOnce(&mut Line)) {
        let waker = self.with(|line| {
            change(line);
            line.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Makes room if something waits for it. Returns whether it did.
    pub(crate) fn relieve(&self, room: usize) -> bool {
        let full = self.with(|line| line.room == 0 && line.waker.is_some());
        if full {
            self.wake(|line| line.room += room);
        }
        full
    }

    fn poll(&self, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.with(|line| {
            if line.is_broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if line.room == 0 {
                line.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let mut taken = 0;
            for buf in bufs {
                let n = buf.len().min(line.room);
                line.buffered.extend_from_slice(&buf[..n]);
                line.room -= n;
                taken += n;
            }
            Poll::Ready(Ok(taken))
        })
    }
}

impl AsyncRead for SharedLine {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for SharedLine {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, &[io::IoSlice::new(buf)])
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.with(|line| line.is_vectored)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|line| {
            if line.is_broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if line.is_stuck {
                line.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            line.out.append(&mut line.buffered);
            Poll::Ready(Ok(()))
        })
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
