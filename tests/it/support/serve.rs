//! Connections to a service, in memory and over TCP.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};
use tower::Service;
use tower_wsstream::BoxError;

use super::raw::Raw;

/// A service that hyper can serve.
pub(crate) trait HttpService:
    Service<
        Request<Incoming>,
        Response = Response<<Self as HttpService>::Body>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
}

impl<S, B> HttpService for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<B>,
            Error: Into<BoxError>,
            Future: Send + 'static,
        > + Clone
        + Send
        + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// Spawns a server for one connection.
pub(crate) fn serve<T, S>(io: T, service: S)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: HttpService,
{
    tokio::spawn(async move {
        let _ = http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
            .with_upgrades()
            .await;
    });
}

/// Serves a connection in memory, and returns the client end.
pub(crate) fn serve_in_memory<S: HttpService>(service: S) -> DuplexStream {
    let (client, server) = tokio::io::duplex(64 * 1024);
    serve(server, service);
    client
}

/// Opens a session in memory that holds `capacity` bytes in each direction.
pub(crate) async fn open_with<S>(service: S, offer: &str, capacity: usize) -> Raw<DuplexStream>
where
    S: HttpService,
{
    let (near, far) = tokio::io::duplex(capacity);
    serve(far, service);
    Raw::handshake(near, offer).await.expect("no refusal")
}

/// Opens a session in memory that holds any message of a test.
pub(crate) async fn open<S>(service: S, offer: &str) -> Raw<DuplexStream>
where
    S: HttpService,
{
    open_with(service, offer, 256 * 1024).await
}

/// Opens a session in memory. The receiver resolves once the server has dropped its end.
pub(crate) async fn open_watched<S>(
    service: S,
    offer: &str,
    capacity: usize,
) -> (Raw<DuplexStream>, oneshot::Receiver<()>)
where
    S: HttpService,
{
    let (near, far) = tokio::io::duplex(capacity);
    let (dropped, watch) = oneshot::channel();
    serve(
        Watched {
            io: far,
            _dropped: dropped,
        },
        service,
    );
    let raw = Raw::handshake(near, offer).await.expect("no refusal");
    (raw, watch)
}

/// The size of kernel buffers that make both sides wait often.
const SMALL: u32 = 4 * 1024;

/// Opens a session over TCP on loopback, optionally with small buffers.
pub(crate) async fn open_tcp<S>(service: S, offer: &str, small: bool) -> Raw<TcpStream>
where
    S: HttpService,
{
    let socket = || {
        let socket = TcpSocket::new_v4().unwrap();
        if small {
            socket.set_send_buffer_size(SMALL).unwrap();
            socket.set_recv_buffer_size(SMALL).unwrap();
        }
        socket
    };
    let listener = socket();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listener.listen(1).unwrap();
    let near = socket().connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    serve(far.unwrap().0, service);
    Raw::handshake(near.unwrap(), offer)
        .await
        .expect("no refusal")
}

/// Notes its drop.
struct Watched<T> {
    io: T,
    _dropped: oneshot::Sender<()>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
