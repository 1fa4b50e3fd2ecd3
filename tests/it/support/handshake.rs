//! Handshakes made by hand: hyper's connection is real, and the test holds the request.

use std::{fmt::Debug, io, pin::Pin};

use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    runtime::Handle,
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use tower::{Service, ServiceExt};

use super::head::Head;
use tower_wsstream::{
    Rejection, RejectionKind,
    body::{NoBody, ResponseBody},
};

/// The message for a client whose service failed or panicked before its session began.
pub(crate) const SERVICE_FAILED: &str =
    "the service failed before the session began: see the server's log";

/// The body of an answer of a layer with the default fallback.
pub(crate) type Answer = ResponseBody<ResponseBody<NoBody>>;

/// A connection that waits for its answer, and runs only when it is told to.
pub(crate) struct Wire {
    connection: Pin<Box<dyn Future<Output = ()> + Send>>,
    answer: oneshot::Sender<Response<Answer>>,
    pub(crate) client: DuplexStream,
}

impl Wire {
    /// Sends the answer, and spawns the connection.
    pub(crate) fn answer(self, response: Response<Answer>) -> DuplexStream {
        assert!(self.answer.send(response).is_ok(), "hyper waits for it");
        tokio::spawn(self.connection);
        self.client
    }
}

/// Sends a request to hyper, and returns the request that hyper's service gets.
pub(crate) async fn hold(head: &Head) -> (Request<Incoming>, Wire) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    client.write_all(&head.bytes()).await.unwrap();
    let (requests, mut request) = mpsc::unbounded_channel();
    let service = service_fn(move |request| {
        let (answer, answered) = oneshot::channel();
        let _ = requests.send((request, answer));
        async move { answered.await.map_err(io::Error::other) }
    });
    let connection = http1::Builder::new()
        .serve_connection(TokioIo::new(server), service)
        .with_upgrades();
    let mut connection: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(async move {
        let _ = connection.await;
    });
    let (request, answer) = tokio::select! {
        request = request.recv() => request.unwrap(),
        () = &mut connection => panic!("hyper refused the request itself"),
    };
    let wire = Wire {
        connection,
        answer,
        client,
    };
    (request, wire)
}

pub(crate) fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// A refusal. The properties that all refusals share have been checked.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) message: String,
    pub(crate) reason: String,
    /// Without those that describe the body.
    pub(crate) headers: HeaderMap,
}

/// Makes a handshake that is refused like this, and checks that nothing is spawned for it.
pub(crate) async fn refused<S, B>(
    service: S,
    head: &Head,
    status: u16,
    kind: RejectionKind,
) -> Refusal
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody<B>>>,
    S::Error: Debug,
    B: http_body::Body<Data = bytes::Bytes>,
    B::Error: Debug,
{
    let (request, _wire) = hold(head).await;
    let before = tasks();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(tasks(), before, "spawned for a handshake that is refused");
    refusal(response, status, kind).await
}

/// Checks that the answer is such a refusal.
pub(crate) async fn refusal<B>(
    response: Response<ResponseBody<B>>,
    status: u16,
    kind: RejectionKind,
) -> Refusal
where
    B: http_body::Body<Data = bytes::Bytes>,
    B::Error: Debug,
{
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert_eq!(head.status, StatusCode::from_u16(status).unwrap(), "{text}");

    let rejection = head.extensions.get::<Rejection>().expect("left for layers");
    assert_eq!(rejection.kind(), kind);
    assert_eq!(rejection.status(), head.status);

    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["kind"], "Status");
    assert_eq!(json["apiVersion"], "v1");
    assert_eq!(json["metadata"], serde_json::json!({}));
    assert_eq!(json["status"], "Failure");
    assert_eq!(json["code"], status);
    assert_eq!(json["message"], rejection.message());

    let mut headers = head.headers;
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["content-length"], text.len().to_string());
    headers.remove("content-type");
    headers.remove("content-length");
    let string = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    Refusal {
        message: string("message"),
        reason: string("reason"),
        headers,
    }
}

/// Returns all headers, sorted, so that they can be compared as a whole.
pub(crate) fn sorted(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut all: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect();
    all.sort_unstable();
    all
}

/// Reads the head of an answer, and not one byte more.
pub(crate) async fn read_head(client: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Returns the client end of a connection whose 101 has been read.
pub(crate) async fn speak<T>(stream: T) -> WebSocketStream<T>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    WebSocketStream::from_raw_socket(stream, Role::Client, None).await
}
