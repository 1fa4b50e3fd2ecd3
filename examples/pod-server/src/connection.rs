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
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::{
    stream_deadline::{Streams, Timed},
    write_deadline::WriteDeadline,
};

/// The deadline for a TLS handshake, which takes two round trips and some arithmetic. Until then
/// the client has sent no request, and costs a descriptor and the TLS state.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The deadline for a request, counted from the start of the connection or from the previous
/// request. A connection without a request costs a descriptor, and every client that reaches the
/// port can open many.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// The deadline for the answer to a Ping over HTTP/2. A connection in graceful shutdown ends only
/// once its client has acknowledged the shutdown, and a client that has vanished never does. Each
/// connection is therefore pinged every [`REQUEST_TIMEOUT`].
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// The deadline for a client that reads no byte of a plain answer. A user whose pager has stopped
/// at a page is not cut off, and a thousand clients that never read give their descriptors back
/// while the server is still usable. Until then such a client costs its place in the log, and at
/// most 4 MiB in the kernel.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// The time for a connection of a server that stops to flush its last answer. After it, a client
/// that has not acknowledged the shutdown is not waited for.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// The pause after a failed accept. Usually the server is out of descriptors until a connection
/// ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The receive window of one HTTP/2 stream. It is as large as that of the channel that reads the
/// stream.
const STREAM_WINDOW: u32 = 256 * 1024;

/// The largest number of streams on one connection. RFC 9113 (6.5.2) recommends no fewer than 100;
/// a client that needs more opens another connection.
const MAX_STREAMS: u32 = 100;

/// The receive window of one connection. It has room for the whole window of every stream, so
/// stalled sessions cannot take room from those that run beside them on the same connection. This
/// is also the cost of a connection whose sessions are all stalled: 25 MiB.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// The settings of all connections, and the router behind them. Cloning is cheap.
#[derive(Clone)]
pub(crate) struct Connections {
    tls: Option<TlsAcceptor>,
    http: auto::Builder<Streams>,
    router: Router,
    stop: watch::Receiver<()>,
}

impl Connections {
    /// Creates connections that shut down gracefully once `stop` has changed. Each connection
    /// holds a clone of the receiver, so its sender can wait for all of them.
    pub(crate) fn new(tls: Option<TlsAcceptor>, router: Router, stop: watch::Receiver<()>) -> Self {
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
        Self {
            tls,
            http,
            router,
            stop,
        }
    }

    /// Accepts and serves connections forever.
    pub(crate) async fn serve_all(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Set before the upgrade, because the library sees the connection only
                    // afterwards. Without it, the echo of a keystroke waits for an acknowledgement.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "TCP_NODELAY was not set");
                    }
                    let deadline = WriteDeadline::set(&stream, WRITE_TIMEOUT)
                        .inspect_err(|error| tracing::debug!(%error, "no write deadline"));
                    // The task includes the TLS handshake, so a client with a slow handshake does
                    // not keep others out.
                    tokio::spawn(self.clone().serve(stream, deadline.ok()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection until it ends or is upgraded. The upgrade lifts the deadline.
    pub(crate) async fn serve<I>(mut self, io: I, deadline: Option<WriteDeadline>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some(tls) = &self.tls else {
            return self.serve_http(io, deadline).await;
        };
        let accepted = tokio::select! {
            accepted = timeout(HANDSHAKE_TIMEOUT, tls.accept(io)) => accepted,
            _ = self.stop.changed() => return,
        };
        match accepted {
            Ok(Ok(stream)) => self.serve_http(stream, deadline).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake"),
            Err(_) => tracing::debug!("TLS handshake: not done after {HANDSHAKE_TIMEOUT:?}"),
        }
    }

    async fn serve_http<I>(self, io: I, deadline: Option<WriteDeadline>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Self {
            http,
            router,
            mut stop,
            ..
        } = self;
        let asked = Arc::new(Notify::new());
        let deadline = deadline.map(Arc::new);
        // Cloned for each answer, until its body is dropped.
        let answers = Arc::new(());
        let service = {
            let asked = Arc::clone(&asked);
            let answers = Arc::downgrade(&answers);
            service_fn(move |request: Request<_>| {
                asked.notify_one();
                let answer = router.clone().oneshot(request);
                let deadline = deadline.clone();
                let held = answers.upgrade();
                async move {
                    let response = answer.await?;
                    let limit = deadline.as_ref().map(|deadline| deadline.limit());
                    // Over HTTP/2, the socket keeps its deadline after an upgrade, because the
                    // other streams still use it. Each stream also has a deadline of its own, for a
                    // client that reads from the socket but not from the stream.
                    if let Some(deadline) = deadline
                        && response.status() == StatusCode::SWITCHING_PROTOCOLS
                    {
                        deadline.lift();
                    }
                    Ok::<_, Infallible>(response.map(|body| Timed::new(body, limit, held)))
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
                () = asked.notified(), if phase != Phase::Stopping => {
                    phase = Phase::Asking;
                    until = Instant::now() + REQUEST_TIMEOUT;
                }
                _ = stop.changed(), if phase != Phase::Stopping => {
                    if phase == Phase::Silent {
                        return;
                    }
                    phase = Phase::Stopping;
                    until = Instant::now() + STOP_GRACE;
                    served.as_mut().graceful_shutdown();
                }
                () = sleep_until(until), if phase != Phase::Leaving => match phase {
                    Phase::Stopping if Arc::strong_count(&answers) == 1 => return,
                    Phase::Stopping => until = Instant::now() + STOP_GRACE,
                    // hyper has no deadline for the bytes that tell HTTP/1.1 from HTTP/2, nor
                    // for the first request over HTTP/2.
                    Phase::Silent => {
                        tracing::debug!("connection: no request came for {REQUEST_TIMEOUT:?}");
                        return;
                    }
                    // Requests and sessions in flight go on for as long as they take, but nothing
                    // new begins: the client has to open another connection.
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

/// A phase in the life of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// No request has arrived.
    Silent,
    Asking,
    /// Shutting down gracefully: requests in flight are answered, and no others.
    Leaving,
    /// Leaving, because the server stops. The connection ends without its client's consent.
    Stopping,
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
