//! Over in-memory streams, in paused time.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body as AnyBody, Bytes},
    extract::Request,
    http::{Method, Response},
    routing::any,
};
use futures_util::stream::{self, StreamExt};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http2, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{connection::Connections, write_deadline::WriteDeadline};

const LIMIT: Duration = Duration::from_secs(300);

/// With paused time this is no wait at all: a test that hangs fails at once.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

const PIECE: &[u8] = &[b'x'; 4096];

/// An endless body, or one piece and then none for longer than the limit, or a session that
/// echoes its input.
fn router() -> Router {
    let piece = || Ok::<_, Infallible>(Bytes::from_static(PIECE));
    let endless = async move || AnyBody::from_stream(stream::repeat_with(piece));
    let quiet = async move || {
        let second = stream::once(async move {
            sleep(LIMIT * 10).await;
            piece()
        });
        AnyBody::from_stream(stream::once(async move { piece() }).chain(second))
    };
    let session = async |request: Request| {
        tokio::spawn(async move {
            let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
            let mut byte = [0];
            while io.read_exact(&mut byte).await.is_ok() {
                io.write_all(&byte).await.unwrap();
            }
        });
    };
    Router::new()
        .route("/endless", any(endless))
        .route("/quiet", any(quiet))
        .route("/session", any(session))
}

type Sender = http2::SendRequest<Empty<Bytes>>;

/// A client whose streams have a window of this many bytes, and the task that serves it.
async fn connect(window: u32) -> (Sender, JoinHandle<()>) {
    // The kernel's part has a socket of its own, on which nothing moves.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await;
    let deadline = WriteDeadline::set(socket.unwrap(), LIMIT).unwrap();
    let (client, server) = duplex(64 * 1024);
    let connections = Connections::unstopped(None, router());
    let serving = tokio::spawn(connections.serve(server, Some(deadline)));
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(window)
        .handshake(TokioIo::new(client))
        .await
        .unwrap();
    tokio::spawn(connection);
    (sender, serving)
}

async fn ask(sender: &mut Sender, path: &str) -> Response<Incoming> {
    let request = Request::get(format!("http://localhost{path}"));
    let response = sender.send_request(request.body(Empty::new()).unwrap());
    timeout(PATIENCE, response).await.unwrap().unwrap()
}

async fn piece(response: &mut Response<Incoming>) -> Option<Result<Frame<Bytes>, hyper::Error>> {
    timeout(PATIENCE, response.frame()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_ends_and_its_connection_after_it() {
    let (mut sender, serving) = connect(1).await;
    let _unread = ask(&mut sender, "/endless").await;
    let start = Instant::now();
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    assert!(start.elapsed() >= LIMIT, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_that_is_read_now_and_then_goes_on() {
    let (mut sender, _serving) = connect(PIECE.len() as u32).await;
    let mut read = ask(&mut sender, "/endless").await;
    for _ in 0..20 {
        sleep(LIMIT / 2).await;
        assert!(piece(&mut read).await.unwrap().is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_has_nothing_to_say_is_waited_for() {
    let (mut sender, _serving) = connect(64 * 1024).await;
    let quiet = ask(&mut sender, "/quiet").await.into_body().collect();
    let all = timeout(PATIENCE, quiet).await.unwrap().unwrap();
    assert_eq!(all.to_bytes().len(), 2 * PIECE.len());
}

#[tokio::test(start_paused = true)]
async fn a_session_beside_one_that_ends_goes_on() {
    let (mut sender, _serving) = connect(1).await;
    let mut unread = ask(&mut sender, "/endless").await;
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = "http://localhost/session".parse().unwrap();
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let response = sender.send_request(request);
    let response = timeout(PATIENCE, response).await.unwrap().unwrap();
    let mut session = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    sleep(LIMIT * 10).await;
    // The data that its window had room for, and the reset.
    while let Some(Ok(_)) = piece(&mut unread).await {}
    for _ in 0..3 {
        session.write_all(b"a").await.unwrap();
        let mut byte = [0];
        timeout(PATIENCE, session.read_exact(&mut byte))
            .await
            .unwrap()
            .unwrap();
        sleep(LIMIT * 10).await;
    }
}
