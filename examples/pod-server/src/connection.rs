//! Connections: TLS if it is asked for, HTTP/1.1 or HTTP/2 on it, and a deadline for every wait
//! for the client.
//!
//! axum's `serve` has none of these deadlines. `examples/support/serve.rs` has those that most
//! servers need, in a form to copy; beside them this file has TLS, and deadlines for clients that
//! do not read their answers.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::Request, http::StatusCode};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::{
    stream_deadline::{Streams, Timed},
    write_deadline::WriteDeadline,
};

/// For a TLS handshake, which is two round trips and some arithmetic. Until then the client has
/// shown nothing, and costs a descriptor and the state of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For a request, from the start of a connection and from one request to the next. A connection
/// without a request costs a descriptor, and every client that reaches the port can open many.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// For the answer to a Ping, over HTTP/2. A connection in graceful shutdown ends only once its
/// client has acknowledged that, and a client that has vanished never does. So each is pinged
/// every [`REQUEST_TIMEOUT`].
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// For a client of a plain answer that takes no byte of it. A reader of the page at which a pager
/// has stopped is not cut off, and a thousand clients that never read give their descriptors back
/// while the server is still usable. Until then a client costs what the kernel holds for it,
/// 4 MiB at most, and its place in the log.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The pause after a failed accept. As a rule the server is out of descriptors, until a
/// connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How much one stream of HTTP/2 may send before it is read: as much as the receive window of a
/// channel, which is what reads it.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The streams on one connection. RFC 9113 (6.5.2) recommends no less than 100; a client that
/// needs more opens another connection.
const MAX_STREAMS: u32 = 100;

/// All streams may be stalled at once, each with its whole window unread, and the next byte still
/// has room. With less, stalled sessions would take the window from those that run beside them on
/// the same connection. This is also the cost of a connection whose sessions are all stalled:
/// 25 MiB.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// How connections are served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections {
    tls: Option<TlsAcceptor>,
    http: auto::Builder<Streams>,
    router: Router,
}

impl Connections {
    pub(crate) fn new(tls: Option<TlsAcceptor>, router: Router) -> Self {
        let mut http = auto::Builder::new(Streams);
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(REQUEST_TIMEOUT)
            .keep_alive_timeout(PING_TIMEOUT)
            .enable_connect_protocol()
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        Self { tls, http, router }
    }

    /// Accepts and serves connections forever.
    pub(crate) async fn serve_all(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Not after the upgrade, because the library sees only that. Without it the
                    // echo of a keystroke waits for an acknowledgement.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY was not set");
                    }
                    let deadline = WriteDeadline::set(&stream, WRITE_TIMEOUT)
                        .inspect_err(|error| tracing::debug!(%error, "no write deadline"));
                    // In a task even during the TLS handshake: a client that is slow at it keeps
                    // no other out.
                    tokio::spawn(self.clone().serve(stream, deadline.ok()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection until it ends or is upgraded. The upgrade lifts its deadline.
    pub(crate) async fn serve<I>(self, io: I, deadline: Option<WriteDeadline>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(tls) = &self.tls else {
            return self.serve_http(io, deadline).await;
        };
        match timeout(HANDSHAKE_TIMEOUT, tls.accept(io)).await {
            Ok(Ok(stream)) => self.serve_http(stream, deadline).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
            Err(_) => tracing::debug!("TLS handshake: not done after {HANDSHAKE_TIMEOUT:?}"),
        }
    }

    async fn serve_http<I>(self, io: I, deadline: Option<WriteDeadline>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self { http, router, .. } = self;
        let asked = Arc::new(Notify::new());
        let deadline = deadline.map(Arc::new);
        let service = {
            let asked = Arc::clone(&asked);
            service_fn(move |request: Request<_>| {
                asked.notify_one();
                let answer = router.clone().oneshot(request);
                let deadline = deadline.clone();
                async move {
                    let response = answer.await?;
                    let limit = deadline.as_ref().map(|deadline| deadline.limit());
                    // Over HTTP/2 an upgraded stream leaves the socket, and the deadline on it,
                    // to the other streams. Those have one each beside it, for a client that
                    // reads from the socket, but nothing of a stream.
                    if let Some(deadline) = deadline
                        && response.status() == StatusCode::SWITCHING_PROTOCOLS
                    {
                        deadline.lift();
                    }
                    Ok::<_, Infallible>(response.map(|body| Timed::new(body, limit)))
                }
            })
        };
        let mut served = pin!(http.serve_connection_with_upgrades(TokioIo::new(io), service));
        let mut phase = Phase::Silent;
        let mut until = Instant::now() + REQUEST_TIMEOUT;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut served => break outcome,
                () = asked.notified() => {
                    phase = Phase::Asking;
                    until = Instant::now() + REQUEST_TIMEOUT;
                }
                () = sleep_until(until), if phase != Phase::Leaving => match phase {
                    // hyper has no deadline for the bytes that tell HTTP/1.1 from HTTP/2, nor
                    // for the first request over HTTP/2.
                    Phase::Silent => {
                        tracing::debug!("connection: no request came for {REQUEST_TIMEOUT:?}");
                        return;
                    }
                    // Requests in flight go on for as long as they take, and so do sessions;
                    // nothing new begins. A client opens another connection for that.
                    Phase::Asking | Phase::Leaving => {
                        phase = Phase::Leaving;
                        served.as_mut().graceful_shutdown();
                    }
                },
            }
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection");
        }
    }
}

/// The life of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// No request has come.
    Silent,
    Asking,
    /// Shut down gracefully: it gets the answers that it waits for, and no others.
    Leaving,
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
