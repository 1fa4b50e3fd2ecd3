// Serves HTTP/1.1 and HTTP/2 on one listener, and WebSockets over both. A client that sends
// no request is disconnected. A client that does not read its answer is waited for: if that
// matters, the repository's `examples/pod-server` has the deadlines (`TCP_USER_TIMEOUT` for a
// connection, a reset for a stream of HTTP/2). The number of connections is not bounded: the
// guide's page `serving` says where a semaphore goes. Copy this file: the examples use it as
// it is.

use std::{convert::Infallible, io, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt};
use tower_wsstream::{BoxError, Sessions};

/// The time for the head of a request: the first one, which a silent client never sends, and
/// each that follows. Over HTTP/2 it is also the time between two Pings.
const HEAD: Duration = Duration::from_secs(30);

/// The time for sessions and requests that are open when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// The wait after an accept that failed, usually for lack of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The bytes that one stream of HTTP/2 may send before they are read: a channel's window.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The number of streams on one connection. A client that needs more opens another.
const STREAMS: u32 = 100;

/// An address of one kind or the other.
pub(crate) trait Listener {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Accepts a connection. Cancel safe.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Listener for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<Self::Io> {
        let (tcp, _) = TcpListener::accept(self).await?;
        // Without this, everything above 64 bytes is slow.
        let _ = tcp.set_nodelay(true);
        Ok(tcp)
    }
}

impl Listener for UnixListener {
    type Io = UnixStream;

    async fn accept(&self) -> io::Result<Self::Io> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

/// Serves a tower service, such as an axum `Router`, until `stop` is ready. Then it tells the
/// sessions to end, and returns when they have ended.
pub(crate) async fn serve<L, S, B>(listener: L, service: S, sessions: Sessions, stop: impl Future)
where
    L: Listener,
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD)
        .enable_connect_protocol()
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        // Even if all streams stall at once, the next byte has room.
        .initial_connection_window_size(STREAMS * STREAM_WINDOW);

    // Each connection holds a receiver, by which it learns of the stop and is waited for.
    let (stopping, told) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok(io) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let asked = Arc::new(Notify::new());
        let note = Arc::clone(&asked);
        let service = service.clone().map_request(move |request| {
            note.notify_one();
            request
        });
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(io), TowerToHyperService::new(service))
            .into_owned();
        let mut told = told.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            loop {
                tokio::select! {
                    // An error ends this connection only, and its client sees it.
                    _ = connection.as_mut() => return,
                    _ = told.changed() => break,
                    next = timeout(HEAD, asked.notified()) => if next.is_err() { break },
                }
            }
            // Requests that are being answered continue, and so do sessions. No new ones begin.
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        });
    }
    // No client shall wait in a queue that is no longer served.
    drop(listener);
    drop(told);
    // The drain begins with this call, before the connections are told: the 101 of a session that
    // began behind that would say `close`, which strict clients refuse.
    let drained = sessions.drain(DRAIN);
    stopping.send_replace(());
    // At the same time: over HTTP/2 a connection stays open as long as its sessions.
    let _ = tokio::join!(drained, timeout(DRAIN, stopping.closed()));
}
