//! One listener, HTTP/1.1 and HTTP/2 on it, and WebSockets over both.

use std::{convert::Infallible, time::Duration};

use axum::{Router, serve::Listener};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;

/// For the head of a request of HTTP/1.1.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What one stream of HTTP/2 may send before somebody reads it: as much as a channel.
const STREAM_WINDOW: u32 = 256 * 1024;

/// On one connection; a client that needs more opens another.
const MAX_STREAMS: u32 = 100;

/// All streams may be stalled at once, and the next byte still has room: with less,
/// stalled sessions would hold up gRPC beside them.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// Serves connections until it is dropped; those that there are go on. For what a server
/// that faces strangers needs beyond this (TLS, deadlines for silent connections, a
/// drain), see the example `pod_server`.
pub(crate) async fn serve(mut listener: TcpListener, app: Router) -> Infallible {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT);
    http.http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    loop {
        // axum's `accept`: it survives a lack of descriptors.
        let (stream, _) = Listener::accept(&mut listener).await;
        // Without it everything above 64 bytes is slow.
        let _ = stream.set_nodelay(true);
        let (http, service) = (http.clone(), TowerToHyperService::new(app.clone()));
        tokio::spawn(async move {
            let io = TokioIo::new(stream);
            // What goes wrong with a connection is its client's to see.
            let _ = http.serve_connection_with_upgrades(io, service).await;
        });
    }
}
