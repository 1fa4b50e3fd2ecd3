//! The transition from hyper's upgraded I/O to a [`Transport`].

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::wire::Transport;

/// Waits for the upgraded connection. Returns its transport, and the bytes that the server has read
/// beyond the request.
pub(super) fn poll(
    on: &mut OnUpgrade,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(Transport, Bytes)>> {
    let upgraded = ready!(Pin::new(on).poll(cx));
    let (transport, early) = upgraded.map(take_apart).map_err(io::Error::other)?;
    // Copied, because even an empty `Bytes` keeps hyper's read buffer alive.
    Poll::Ready(Ok((transport, Bytes::copy_from_slice(&early))))
}

/// Takes the TCP stream out of the I/O that hyper hands over.
///
/// If there is none, every byte goes through two layers of indirection, and reads take the lock of
/// the write side.
fn take_apart(upgraded: Upgraded) -> (Transport, Bytes) {
    // With hyper-util's auto server, and so with axum's `serve`, the type is a private wrapper that
    // only hyper-util can open.
    #[cfg(feature = "auto-server")]
    let upgraded =
        match hyper_util::server::conn::auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
            Ok(parts) => return (Transport::tcp(parts.io.into_inner()), parts.read_buf),
            Err(upgraded) => upgraded,
        };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => (Transport::tcp(parts.io.into_inner()), parts.read_buf),
        // This one returns the early bytes from its first reads.
        Err(upgraded) => (Transport::whole(TokioIo::new(upgraded)), Bytes::new()),
    }
}
