//! The handshake over HTTP/2, with an extended CONNECT (RFC 8441) on a connection of its own.

use std::{
    future::{pending, poll_fn},
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body;
use hyper::{body::Incoming, client::conn::http2 as client, ext::Protocol, service::Service};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{io::AsyncWriteExt, sync::mpsc, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};

use super::{
    Refused,
    client::Opened,
    server::{LAST, Server},
    stream::Stream,
};
use crate::{
    BoxError,
    body::{NoBody, ResponseBody},
};

/// The smallest initial window of a connection (RFC 9113, 6.9.2).
const LEAST_WINDOW: u32 = 65_535;

type Io = TokioIo<hyper::upgrade::Upgraded>;

/// The upgraded stream. The mutex is never locked: it only makes the type `Sync`, which hyper's
/// `Upgraded` is not.
#[derive(Debug)]
pub(super) struct Upgraded {
    io: Mutex<Option<Io>>,
    dropped: mpsc::UnboundedSender<Io>,
}

impl Upgraded {
    fn new(io: Io) -> Self {
        let (dropped, mut last) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            if let Some(io) = last.recv().await {
                let _ = timeout(LAST, end(io)).await;
            }
        });
        Self {
            io: Mutex::new(Some(io)),
            dropped,
        }
    }

    pub(super) fn pin(&mut self) -> Pin<&mut Io> {
        let io = self.io.get_mut().unwrap_or_else(PoisonError::into_inner);
        Pin::new(io.as_mut().expect("only taken by drop"))
    }
}

impl Drop for Upgraded {
    // Dropping a stream resets it, and h2 then discards data that it has not sent. A lost connection
    // would lose more data than over HTTP/1.1.
    fn drop(&mut self) {
        let io = self.io.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(io) = io.take() {
            let _ = self.dropped.send(io);
        }
    }
}

/// Ends the stream after the data that was sent, and keeps it so that the data can arrive.
async fn end(mut io: Io) {
    let _ = io.shutdown().await;
    pending().await
}

/// Requests a WebSocket with an extended CONNECT that has the path and the headers of this request.
pub(super) async fn connect<S, B>(
    service: S,
    request: Request<()>,
    buffer: usize,
) -> Result<Opened, BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let window = u32::try_from(buffer).unwrap_or(u32::MAX >> 1).max(1);
    let (near, far) = tokio::io::duplex(buffer);
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .initial_stream_window_size(window)
        .initial_connection_window_size(window.max(LEAST_WINDOW))
        .serve_connection(TokioIo::new(far), service);
    let server = Server::run(connection);

    let (mut send, connection) = client::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .initial_connection_window_size(window.max(LEAST_WINDOW))
        .handshake::<_, ResponseBody<NoBody>>(TokioIo::new(near))
        .await?;
    // An extended CONNECT may be sent only once the server's settings have arrived (RFC 8441, 3).
    // hyper has no notification for this, so the loop polls. It is short, because everything is in
    // memory.
    while !connection.is_extended_connect_protocol_enabled() {
        if server.is_gone() {
            return Err("the server ended before its settings arrived".into());
        }
        tokio::task::yield_now().await;
    }
    // The task ends once `send` is dropped and the stream has ended.
    tokio::spawn(connection);

    let mut answer = send.send_request(extended_connect(request)?).await?;
    if answer.status() != StatusCode::OK {
        let (head, body) = answer.into_parts();
        let body = read(body).await?;
        return Err(Refused::new(Response::from_parts(head, Some(body))).into());
    }
    let upgraded = hyper::upgrade::on(&mut answer).await?;
    let stream = Stream::Http2(Upgraded::new(TokioIo::new(upgraded)));
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    Ok(Opened {
        socket,
        headers: answer.into_parts().0.headers,
        server,
    })
}

/// Turns a handshake of HTTP/1.1 into one of HTTP/2 (RFC 8441, 5).
///
/// That has no key, and must not have `Connection` and `Upgrade` (RFC 9113, 8.2.2).
fn extended_connect(request: Request<()>) -> Result<Request<ResponseBody<NoBody>>, BoxError> {
    let (mut head, ()) = request.into_parts();
    head.method = Method::CONNECT;
    head.version = Version::HTTP_2;
    let mut uri = head.uri.into_parts();
    uri.scheme = Some(http::uri::Scheme::HTTP);
    head.uri = uri.try_into()?;
    head.extensions.insert(Protocol::from_static("websocket"));
    for name in [
        header::CONNECTION,
        header::HOST,
        header::SEC_WEBSOCKET_KEY,
        header::UPGRADE,
    ] {
        head.headers.remove(name);
    }
    Ok(Request::from_parts(head, ResponseBody::default()))
}

async fn read(mut body: Incoming) -> Result<Vec<u8>, BoxError> {
    let mut all = Vec::new();
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            all.extend_from_slice(&data);
        }
    }
    Ok(all)
}
