//! The server's end of a connection, which notes how the server ends it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{http2_end::Http2End, outcome::Transported};
use crate::support::proxy::Far;

/// The server's end of the connection, which notes how the server ends it.
pub(super) struct Watched {
    pub(super) io: Far,
    pub(super) seen: Arc<Mutex<Transported>>,
    /// Follows the frames of HTTP/2, if that is the transport.
    pub(super) http2: Option<Http2End>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        let this = &mut *self;
        if let (Poll::Ready(Ok(n)), Some(http2)) = (&written, &mut this.http2) {
            http2.wrote(&buf[..*n], &mut this.seen.lock().unwrap());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_shutdown(cx);
        if self.http2.is_none() && matches!(done, Poll::Ready(Ok(()))) {
            self.seen.lock().unwrap().fin = true;
        }
        done
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.seen.lock().unwrap().dropped = true;
    }
}
