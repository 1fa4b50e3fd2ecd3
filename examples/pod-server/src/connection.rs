//! One connection: TLS where it is asked for, HTTP/1.1 or HTTP/2 on it, and no
//! wait for its client that has no end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceExt};
use tower_wsstream::BoxError;

use crate::stream_deadline::{Streams, Timed};
use crate::write_deadline::WriteDeadline;

/// A handshake is two round trips and some arithmetic. Until it is over the
/// client has shown nothing, and costs a descriptor and the state of TLS.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// For a request: from the first moment of a connection, because one that says
/// nothing costs a descriptor, and whoever reaches the port can open many; and
/// from one request to the next.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// For the answer to a Ping, over HTTP/2. A connection that is told to go does so
/// only once its client has acknowledged that, which one that has vanished never
/// does; so it is asked every [`REQUEST_TIMEOUT`] whether it is there.
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What one stream of HTTP/2 may send before somebody reads it: as much as the
/// receive window of a channel, which is what reads it.
const STREAM_WINDOW: u32 = 256 * 1024;

/// On one connection. RFC 9113 (6.5.2) recommends no less than 100; a client
/// that needs more opens another connection.
const MAX_STREAMS: u32 = 100;

/// All streams may be stalled at once, each with its whole window unread, and
/// the next byte still has room: with less, stalled sessions would take the
/// window from those that run beside them on the same connection. This is also
/// what a connection whose sessions are all stalled costs: 25 MiB.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// How connections are served. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Connections<S> {
    tls: Option<TlsAcceptor>,
    http: auto::Builder<Streams>,
    service: S,
}

impl<S> Connections<S> {
    pub(crate) fn new(tls: Option<TlsAcceptor>, service: S) -> Self {
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
        Self { tls, http, service }
    }

    /// Serves a connection until it ends or is upgraded. Its deadline is lifted where it
    /// is upgraded.
    pub(crate) async fn serve<I, B>(self, io: I, deadline: Option<WriteDeadline>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
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

    async fn serve_http<I, B>(self, io: I, deadline: Option<WriteDeadline>)
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { http, service, .. } = self;
        let news = Arc::new(Notify::new());
        let deadline = deadline.map(Arc::new);
        let service = {
            let news = Arc::clone(&news);
            service_fn(move |request| {
                news.notify_one();
                let answer = service.clone().oneshot(request);
                let deadline = deadline.clone();
                async move {
                    let response = answer.await?;
                    let limit = deadline.as_ref().map(|deadline| deadline.limit());
                    // Over HTTP/2 what is upgraded leaves the socket, and the deadline
                    // on it, to the other streams. Those have one each beside it: for a
                    // client that reads from the socket, but nothing of a stream.
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
                () = news.notified() => {
                    phase = Phase::Asking;
                    until = Instant::now() + REQUEST_TIMEOUT;
                }
                () = sleep_until(until), if phase != Phase::Leaving => match phase {
                    // hyper has no deadline for the bytes that tell HTTP/1.1
                    // from HTTP/2, nor for a first request over HTTP/2.
                    Phase::Silent => {
                        tracing::debug!("connection: no request came for {REQUEST_TIMEOUT:?}");
                        return;
                    }
                    // What is being answered goes on for as long as it takes,
                    // sessions too; nothing new begins. A client opens another
                    // connection for that.
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

/// What a connection has done with its time.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    /// No request has come.
    Silent,
    Asking,
    /// Told that it gets no more answers than it waits for.
    Leaving,
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
