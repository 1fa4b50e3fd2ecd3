//! Each server hands over the connection of a POST.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, upgrade::OnUpgrade};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::service_fn;

async fn answer<B>(mut request: Request<B>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let on = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .expect("on upgrade");
    tokio::spawn(async move {
        let mut io = TokioIo::new(on.await.unwrap());
        let mut byte = [0; 4];
        io.read_exact(&mut byte).await.unwrap();
        io.write_all(&byte).await.unwrap();
    });
    let mut response = Response::new(Empty::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
        .headers_mut()
        .insert("connection", "Upgrade".parse().unwrap());
    response
        .headers_mut()
        .insert("upgrade", "SPDY/3.1".parse().unwrap());
    Ok(response)
}

async fn client(mut io: TcpStream) -> String {
    io.write_all(b"POST /exec HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\nabcd").await.unwrap();
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn a_post_hands_over_its_connection() {
    for server in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            if server == 2 {
                let app =
                    axum::Router::new().fallback_service(service_fn(answer::<axum::body::Body>));
                axum::serve(listener, app).await.unwrap();
                return;
            }
            let io = TokioIo::new(listener.accept().await.unwrap().0);
            let service = TowerToHyperService::new(service_fn(answer::<Incoming>));
            if server == 0 {
                http1::Builder::new()
                    .serve_connection(io, service)
                    .with_upgrades()
                    .await
                    .unwrap();
            } else {
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection_with_upgrades(io, service)
                    .await
                    .unwrap();
            }
        });
        let answer = client(TcpStream::connect(address).await.unwrap()).await;
        println!("{answer:?}");
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nabcd"), "{answer}");
        task.abort();
    }
}
