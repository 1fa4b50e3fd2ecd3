//! The read half of the transport, and the watch over it while reading is paused.

use std::{
    fmt, io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::tcp::OwnedReadHalf,
};

use crate::wire::{ReadHalf, Wire};

/// The source of incoming bytes.
#[derive(Debug)]
pub(super) enum Half {
    /// There is no connection yet, or it is gone.
    None,
    Connected(ReadHalf),
    /// Reading has been paused long enough for the socket's error state to be watched.
    Watched(Watch),
}

/// Waits for an error of a socket that is not being read.
///
/// The FIN of a client that has died is not seen, because it comes after the unread data. But our
/// Pongs make its host send a reset, which is seen here within milliseconds.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    future: Pin<Box<dyn Future<Output = (OwnedReadHalf, bool)> + Send>>,
}

impl Watch {
    fn new(half: OwnedReadHalf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let future = Box::pin(async move {
            let broken = {
                let mut error = pin!(half.ready(Interest::ERROR));
                std::future::poll_fn(|cx| {
                    // Relaxed, because only the session's task sets and reads it.
                    if stopped.load(Ordering::Relaxed) {
                        return Poll::Ready(false);
                    }
                    error.as_mut().poll(cx).map(|_| true)
                })
                .await
            };
            (half, broken)
        });
        Self { stop, future }
    }

    /// Stops the watch, and returns the half.
    fn stop(mut self, cx: &mut Context<'_>) -> Option<OwnedReadHalf> {
        self.stop.store(true, Ordering::Relaxed);
        match self.future.as_mut().poll(cx) {
            Poll::Ready((half, _)) => Some(half),
            Poll::Pending => None,
        }
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Half {
    pub(super) fn is_connected(&self) -> bool {
        !matches!(self, Self::None)
    }

    pub(super) fn poll_read(
        &mut self,
        wire: &Wire,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Connected(ReadHalf::Tcp(half)) => Pin::new(half).poll_read(cx, buf),
            Self::Connected(ReadHalf::Shared) => wire.outbound.poll_read(cx, buf),
            Self::None | Self::Watched(_) => Poll::Pending,
        }
    }

    /// Watches the transport while reading is paused, where that is possible. Over TLS and HTTP/2,
    /// only the next write finds out that the connection is lost.
    pub(super) fn watch(&mut self) {
        *self = match std::mem::replace(self, Self::None) {
            Self::Connected(ReadHalf::Tcp(half)) => Self::Watched(Watch::new(half)),
            other => other,
        };
    }

    /// Ends the watch, because reading continues.
    pub(super) fn unwatch(&mut self, cx: &mut Context<'_>) {
        *self = match std::mem::replace(self, Self::None) {
            Self::Watched(watch) => match watch.stop(cx) {
                Some(half) => Self::Connected(ReadHalf::Tcp(half)),
                None => Self::None,
            },
            other => other,
        };
    }

    /// Waits for the loss of a watched connection, and returns the kind of its error.
    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::ErrorKind> {
        let Self::Watched(watch) = self else {
            return Poll::Pending;
        };
        match watch.future.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready((half, _)) => {
                let error = half.as_ref().take_error().ok().flatten();
                *self = Self::Connected(ReadHalf::Tcp(half));
                Poll::Ready(error.map_or(io::ErrorKind::ConnectionReset, |error| error.kind()))
            }
        }
    }
}
