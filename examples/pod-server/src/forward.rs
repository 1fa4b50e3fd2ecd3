//! The service of port-forward: a port of the pod, which is one of this machine.

use std::{io, net::Ipv4Addr, pin::pin, time::Duration};

use axum::http::Response;
use rustix::net::sockopt::set_socket_linger;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{Instant, interval_at, timeout},
};
use tower_wsstream::{
    BoxError, Rejection,
    portforward::{ForwardedPort, ForwardedStream, Protocols, Stall},
};

/// The size of a read from the target: a write of this size is not copied.
const PIECE: usize = 32 * 1024;

/// The size of a read from a target that is ahead of the client. Over SPDY, a client takes much more in
/// large frames, and 256 KiB are what a session takes at once with the default limits.
const LARGE: usize = 256 * 1024;

/// The reads of that size that may wait for their clients at the same time, in all sessions together.
static LARGE_READS: Semaphore = Semaphore::const_new(64);

/// A target that has ended its output may still take input from the client. On channels, the client
/// sees that end only with the end of the port, so the port ends once the client was silent for this
/// long.
const LINGER: Duration = Duration::from_secs(1);

/// The time for which a target may read nothing of an upload that holds up all connections of its
/// session.
///
/// It is too much for the memory of a session by then, and the other connections are of more use than
/// one that stands still. The target gets a reset, so the upload does not look complete. kubectl waits
/// for 30 seconds before it gives up the connections that were opened meanwhile.
const STALL: Duration = Duration::from_secs(20);

/// The interval at which an idle connection looks whether it was reset. Nothing else shows this while
/// the target neither reads nor writes.
const LOOK: Duration = Duration::from_secs(10);

/// Returns the subprotocols of port-forward.
pub fn protocols() -> Protocols {
    Protocols::default().on_stall(Stall::ResetAfter(STALL))
}

/// Connects to the port of this machine, and copies until both sides have ended.
pub(crate) async fn run(port: ForwardedPort) -> Result<(), BoxError> {
    to(Ipv4Addr::LOCALHOST, port).await
}

/// Connects to the port at `host`, and copies until both sides have ended.
pub async fn to(host: Ipv4Addr, port: ForwardedPort) -> Result<(), BoxError> {
    let has_half_close = port.has_half_close();
    let ForwardedPort {
        port,
        stream,
        request,
        ..
    } = port;
    // It would keep a read buffer of the server for as long as the port is open.
    drop(request);
    // At debug, because one request may name more than a hundred ports.
    tracing::debug!(port, "portforward");
    let mut target = TcpStream::connect((host, port)).await?;
    if let Err(error) = target.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    // Dropping the connection now resets it: to the target, an upload that was cut off must not
    // look complete.
    set_socket_linger(&target, Some(Duration::ZERO))?;
    if copy(stream, &mut target, has_half_close).await? {
        set_socket_linger(&target, None)?;
    }
    Ok(())
}

/// Logs a session: one line for all of its ports, and only if it was not refused.
pub(crate) fn log_answer<B>(response: Response<B>) -> Response<B> {
    if response.extensions().get::<Rejection>().is_none() {
        let status = response.status().as_u16();
        tracing::info!(status, "portforward");
    }
    response
}

/// Copies in both directions, and returns whether the target got all of the upload that it waited
/// for.
async fn copy(
    stream: ForwardedStream,
    target: &mut TcpStream,
    has_half_close: bool,
) -> io::Result<bool> {
    let (mut from_client, mut to_client) = stream.into_split();
    let (from_target, mut to_target) = target.split();
    let (moved, mut progress) = watch::channel(());
    // An error of the client ends this. One of the target is returned for later, because the
    // output of the target comes first.
    let up = async move {
        loop {
            let bytes = from_client.fill_buf().await?;
            let taken = match bytes {
                [] => return Ok::<_, io::Error>(to_target.shutdown().await),
                bytes => to_target.write_all(bytes).await,
            };
            if taken.is_err() {
                return Ok(taken);
            }
            let length = bytes.len();
            from_client.consume(length);
            moved.send_replace(());
        }
    };
    let down = async move {
        let (mut piece, mut size) = (Vec::new(), PIECE);
        let mut large = None;
        let mut look = interval_at(Instant::now() + LOOK, LOOK);
        loop {
            tokio::select! {
                biased;
                ready = from_target.readable() => ready?,
                // Sends nothing, and fails once the connection was reset. `write_all` would not look.
                _ = look.tick() => {
                    let _none = to_client.write(&[]).await?;
                    continue;
                }
            }
            piece.clear();
            piece.reserve_exact(size);
            match from_target.try_read_buf(&mut piece) {
                Ok(0) => break,
                Ok(length) => {
                    to_client.write_all(&piece).await?;
                    if length < PIECE && large.take().is_some() {
                        piece = Vec::new();
                    } else if length >= PIECE && has_half_close && large.is_none() {
                        large = LARGE_READS.try_acquire().ok();
                    }
                    size = if large.is_some() { LARGE } else { PIECE };
                }
                // An idle connection keeps no buffer.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (piece, large, size) = (Vec::new(), None, PIECE);
                }
                Err(error) => return Err(error),
            }
        }
        to_client.shutdown().await?;
        if !has_half_close {
            // Ends at once if `up` has ended.
            while let Ok(Ok(())) = timeout(LINGER, progress.changed()).await {}
        }
        Ok::<_, io::Error>(())
    };
    let (mut up, mut down) = (pin!(up), pin!(down));
    let sent = tokio::select! {
        received = &mut down => {
            received?;
            if !has_half_close {
                return Ok(true);
            }
            match up.await {
                Ok(sent) => sent,
                // kubectl takes the end of the output for that of the connection, and resets it.
                Err(_) => return Ok(false),
            }
        }
        sent = &mut up => {
            let sent = sent?;
            down.await?;
            sent
        }
    };
    sent.map(|()| true)
}
