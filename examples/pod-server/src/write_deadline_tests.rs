//! Over real sockets and in real time: it is the kernel that keeps the deadline.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::{
        StatusCode,
        header::{CONNECTION, UPGRADE},
    },
    response::{IntoResponse, Response},
};
use futures_util::stream;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::*;
use crate::connection::Connections;

const LIMIT: Duration = Duration::from_millis(500);

/// Long enough for any machine: a test that hangs has to fail.
const PATIENCE: Duration = Duration::from_secs(30);

/// Less than the client's kernel takes at once.
const PIECE: &[u8] = &[b'x'; 4096];

/// More than both kernels hold.
const MUCH: usize = 16 * 1024 * 1024;

/// An endless body; or, on an upgrade, a connection on which an endless amount is written.
async fn answer(request: Request) -> Response {
    if !request.headers().contains_key(UPGRADE) {
        return endless(());
    }
    tokio::spawn(async move {
        let mut io = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        while io.write_all(PIECE).await.is_ok() {}
    });
    let headers = [(CONNECTION, "upgrade"), (UPGRADE, "test")];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// An endless body that holds something.
fn endless(held: impl Send + 'static) -> Response {
    let pieces = stream::repeat_with(move || {
        let _ = &held;
        Ok::<_, Infallible>(Bytes::from_static(PIECE))
    });
    Body::from_stream(pieces).into_response()
}

/// A client that has sent this, and the task that serves it.
async fn ask(head: &str) -> (TcpStream, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let connected = socket.connect(listener.local_addr().unwrap()).await;
    let mut client = connected.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let deadline = WriteDeadline::set(&server, LIMIT).unwrap();
    let connections = Connections::unstopped(None, Router::new().fallback(answer));
    let serving = tokio::spawn(connections.serve(server, Some(deadline)));
    client.write_all(head.as_bytes()).await.unwrap();
    (client, serving)
}

async fn read(client: &mut TcpStream, length: usize) {
    let mut bytes = vec![0; length];
    let read = timeout(PATIENCE, client.read_exact(&mut bytes)).await;
    read.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    let (_client, serving) = ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    timeout(PATIENCE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn one_that_takes_a_little_is_not() {
    let (mut client, serving) = ask("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for _ in 0..15 {
        sleep(LIMIT / 5).await;
        read(&mut client, 64 * 1024).await;
    }
    assert!(!serving.is_finished());
}

#[tokio::test]
async fn a_session_may_stand_still() {
    let (mut client, serving) =
        ask("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: test\r\n\r\n").await;
    timeout(PATIENCE, serving).await.unwrap().unwrap();
    sleep(LIMIT * 4).await;
    read(&mut client, MUCH).await;
}

/// Its stream over HTTP/2 has no room, on a connection that is healthy.
#[tokio::test]
async fn a_client_that_takes_nothing_of_a_stream_is_let_go() {
    let bodies = Arc::new(());
    let router = {
        let bodies = Arc::clone(&bodies);
        Router::new().fallback(async move || endless(Arc::clone(&bodies)))
    };
    let before = Arc::strong_count(&bodies);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (server, _) = listener.accept().await.unwrap();
    let deadline = WriteDeadline::set(&server, LIMIT).unwrap();
    let connections = Connections::unstopped(None, router);
    tokio::spawn(connections.serve(server, Some(deadline)));
    let (mut sender, connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1)
        .handshake(TokioIo::new(client))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = || {
        Request::get("http://localhost/log?follow=true")
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    let mut unread = Vec::new();
    for _ in 0..100 {
        sender.ready().await.unwrap();
        unread.push(sender.send_request(request()).await.unwrap());
    }
    sleep(LIMIT * 16).await;
    // The router itself has a clone or two.
    let held = Arc::strong_count(&bodies).saturating_sub(before + 2);
    assert!(held < 10, "{held} bodies that are not read");
    drop(unread);
}
