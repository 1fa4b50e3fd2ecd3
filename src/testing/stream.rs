//! The stream that carries the client's frames.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

#[cfg(feature = "http2")]
use super::http2::Upgraded;

/// The client's end of the connection, or of its only stream over HTTP/2.
#[derive(Debug)]
pub(super) enum Stream {
    Http1(DuplexStream),
    #[cfg(feature = "http2")]
    Http2(Upgraded),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_read(cx, buf),
            #[cfg(feature = "http2")]
            Self::Http2(stream) => stream.pin().poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_write(cx, buf),
            #[cfg(feature = "http2")]
            Self::Http2(stream) => stream.pin().poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "http2")]
            Self::Http2(stream) => stream.pin().poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Http1(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "http2")]
            Self::Http2(stream) => stream.pin().poll_shutdown(cx),
        }
    }
}
