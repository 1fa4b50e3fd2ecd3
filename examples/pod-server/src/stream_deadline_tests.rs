//! Over in-memory streams, in paused time.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;
use crate::connection::Connections;
use crate::write_deadline::WriteDeadline;

const LIMIT: Duration = Duration::from_secs(300);

/// Paused time makes it no wait at all: what hangs fails at once.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

const PIECE: &[u8] = &[b'x'; 4096];

type Answer = Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

/// An endless body, or one piece and then none for longer than the limit, or a session
/// that sends back what comes.
async fn answer(request: Request<Incoming>) -> Result<Answer, Infallible> {
    let piece = || Ok(Frame::data(Bytes::from_static(PIECE)));
    let pieces = match request.uri().path() {
        "/endless" => stream::repeat_with(piece).boxed(),
        "/quiet" => stream::once(async move { piece() })
            .chain(stream::once(async move {
                sleep(LIMIT * 10).await;
                piece()
            }))
            .boxed(),
        _ => {
            tokio::spawn(async move {
                let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
                let mut byte = [0];
                while io.read_exact(&mut byte).await.is_ok() {
                    io.write_all(&byte).await.unwrap();
                }
            });
            stream::empty().boxed()
        }
    };
    Ok(Response::new(StreamBody::new(pieces)))
}

type Sender = http2::SendRequest<Empty<Bytes>>;

/// A client whose streams have a window of this many bytes, and the task that serves it.
async fn connect(window: u32) -> (Sender, JoinHandle<()>) {
    // The kernel's part has a socket of its own, on which nothing moves.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await;
    let deadline = WriteDeadline::set(socket.unwrap(), LIMIT).unwrap();
    let (client, server) = duplex(64 * 1024);
    let connections = Connections::new(None, tower::service_fn(answer));
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
    // What its window had room for, and the end that is no end.
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
