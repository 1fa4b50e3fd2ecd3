//! A server over HTTP/2, and a client that opens WebSockets by extended CONNECT.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::{
    body::Incoming,
    client::conn::http2::SendRequest,
    ext::Protocol,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::AbortHandle,
};

use super::{raw::Raw, serve::HttpService};

/// The flow-control windows of one stream, and of a connection: many streams' worth.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;

pub(crate) type Http2 = Raw<TokioIo<Upgraded>>;

/// One connection. Each clone can open sessions on it.
#[derive(Clone)]
pub(crate) struct Connection {
    send: SendRequest<Empty<Bytes>>,
}

/// A refusal, with its body as text.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// Serves a connection in memory. The handle cuts the wire.
pub(crate) async fn connect<S: HttpService>(service: S) -> (Connection, AbortHandle) {
    let (near, mut here) = tokio::io::duplex(256 * 1024);
    let (mut there, far) = tokio::io::duplex(256 * 1024);
    // The wire between the two ends, which can be cut.
    let wire = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    });
    serve(far, service);
    (handshake(near).await, wire.abort_handle())
}

/// Spawns a server for one connection.
pub(crate) fn serve<T, S>(io: T, service: S)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: HttpService,
{
    tokio::spawn(
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service)),
    );
}

/// Opens a connection to a server.
pub(crate) async fn handshake<T>(io: T) -> Connection
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    try_handshake(io).await.expect("a server")
}

/// Opens a connection that may break.
pub(crate) async fn try_handshake<T>(io: T) -> hyper::Result<Connection>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(io))
        .await?;
    tokio::spawn(connection);
    let mut connection = Connection { send };
    // Extended CONNECT may be used only once the server's settings have arrived.
    let _ = connection.try_ask(plain("/")).await?;
    Ok(connection)
}

/// Returns a request that is not an upgrade.
fn plain(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("http://localhost{path}"))
        .version(Version::HTTP_2)
        .body(Empty::new())
        .expect("a request")
}

/// Returns a valid handshake.
pub(crate) fn request(path: &str, offer: &str) -> Request<Empty<Bytes>> {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(format!("http://localhost{path}"))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"));
    if !offer.is_empty() {
        request = request.header("sec-websocket-protocol", offer);
    }
    request.body(Empty::new()).expect("a request")
}

impl Connection {
    /// Sends a request that is not an upgrade.
    pub(crate) async fn get(&mut self, path: &str) -> Refused {
        self.ask(plain(path)).await.expect_err("no upgrade")
    }

    pub(crate) async fn open(&mut self, offer: &str) -> Http2 {
        let answer = self.ask(request("/", offer)).await.expect("no refusal");
        upgraded(answer, offer).await
    }

    /// Sends a request, and returns the answer if it is a 200.
    pub(crate) async fn ask(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Refused> {
        self.try_ask(request).await.expect("an answer")
    }

    /// Sends a request whose stream may be reset instead of answered.
    pub(crate) async fn try_ask(
        &mut self,
        request: Request<Empty<Bytes>>,
    ) -> hyper::Result<Result<Response<Incoming>, Refused>> {
        self.send.ready().await?;
        let answer = self.send.send_request(request).await?;
        if answer.status() == StatusCode::OK {
            return Ok(Ok(answer));
        }
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Err(Refused {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }))
    }
}

/// Returns the client end of an accepted session.
pub(crate) async fn upgraded(mut answer: Response<Incoming>, offer: &str) -> Http2 {
    let on: OnUpgrade = hyper::upgrade::on(&mut answer);
    Raw::over(TokioIo::new(on.await.expect("a stream")), offer)
}
