//! The output of a command whose client waits for all of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::AsyncWrite;

/// The most that is kept: as much as a message of gRPC may hold at containerd, for both outputs.
const LIMIT: usize = 8 * 1024 * 1024;

/// The first [`LIMIT`] bytes that were written. The rest is discarded, so that the command ends.
#[derive(Debug, Default)]
pub(crate) struct Captured(Vec<u8>);

impl Captured {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl AsyncWrite for Captured {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let room = bytes.len().min(LIMIT - self.0.len());
        self.0.extend_from_slice(&bytes[..room]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
