// HTTP/1.1 and HTTP/2 on one listener, and WebSockets over both. A client that asks for
// nothing is let go. One that asks and does not read the answer is waited for: where that
// matters, `examples/pod-server` has the deadlines (`TCP_USER_TIMEOUT` for a connection, a
// reset for a stream of HTTP/2). A file to copy: the examples use it as it is.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tower::{Service, ServiceExt};
use tower_wsstream::{BoxError, Sessions};

/// For the head of a request: that of the first one, which a client that says nothing never
/// sends, and that of the next. Over HTTP/2 also between two Pings.
const HEAD: Duration = Duration::from_secs(30);

/// For sessions and requests that are there when the server stops.
const DRAIN: Duration = Duration::from_secs(10);

/// After an accept that failed: out of descriptors as a rule, until a connection ends.
const PAUSE: Duration = Duration::from_millis(100);

/// What one stream of HTTP/2 may send before it is read: as much as a channel holds.
const STREAM_WINDOW: u32 = 256 * 1024;

/// On one connection. A client that needs more opens another.
const STREAMS: u32 = 100;

/// Serves a tower service, such as an axum `Router`, until `stop` is ready; then tells the
/// sessions to end, and returns when they have.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    service: S,
    sessions: Sessions,
    stop: impl Future,
) where
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
        // All streams may stall at once, and the next byte still has room.
        .initial_connection_window_size(STREAMS * STREAM_WINDOW);

    // Each connection holds a receiver: it learns of the stop, and is waited for.
    let (stopping, told) = watch::channel(());
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        // Without it everything above 64 bytes is slow.
        let _ = tcp.set_nodelay(true);

        let asked = Arc::new(Notify::new());
        let note = Arc::clone(&asked);
        let service = service.clone().map_request(move |request| {
            note.notify_one();
            request
        });
        let connection = server
            .serve_connection_with_upgrades(TokioIo::new(tcp), TowerToHyperService::new(service))
            .into_owned();
        let mut told = told.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            loop {
                tokio::select! {
                    // An error is the end of one connection, and its client's to see.
                    _ = connection.as_mut() => return,
                    _ = told.changed() => break,
                    next = timeout(HEAD, asked.notified()) => if next.is_err() { break },
                }
            }
            // What is being answered goes on, sessions too; nothing new begins.
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        });
    }
    // No client waits in a queue that is not served any more.
    drop(listener);
    drop(told);
    stopping.send_replace(());
    // Beside each other: over HTTP/2 a connection is there as long as its sessions.
    let _ = tokio::join!(sessions.drain(DRAIN), timeout(DRAIN, stopping.closed()));
}
