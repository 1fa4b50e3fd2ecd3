//! The connection of a POST, under each kind of server.

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::support::soon;

/// A PING of a client, which is echoed.
const PING: [u8; 12] = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];

/// Starts a session whose first frame comes with the head, and reads the answer to that frame.
async fn is_answered(address: std::net::SocketAddr) {
    let mut client = TcpStream::connect(address).await.unwrap();
    let mut bytes = post(&CLIENT_GO).bytes();
    bytes.extend(PING);
    client.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(&PING) {
        let read = soon(client.read_buf(&mut answer)).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 101"), "{text}");
        assert_ne!(read, 0, "{text}");
    }
}

#[tokio::test]
async fn every_server_hands_over_the_connection_of_a_post() {
    for server in ["hyper", "auto", "axum"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = layer().layer(Kept::default().service());
        let task = tokio::spawn(async move {
            if server == "axum" {
                let app = axum::Router::new().fallback_service(service);
                return axum::serve(listener, app).await.unwrap();
            }
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            let service = TowerToHyperService::new(service);
            if server == "hyper" {
                let connection = http1::Builder::new().serve_connection(io, service);
                connection.with_upgrades().await.unwrap();
            } else {
                let builder = auto::Builder::new(TokioExecutor::new());
                let served = builder.serve_connection_with_upgrades(io, service).await;
                served.unwrap();
            }
        });
        is_answered(address).await;
        task.abort();
    }
}
