//! hyper without a framework: two routes by hand, and a session on one of them.
//!
//!     cargo run --example hyper
//!     curl http://127.0.0.1:8009/                                          what this is
//!     npx wscat -s base64.channel.k8s.io -c ws://127.0.0.1:8009/upper
//!
//! Type `0aGVsbG8=` ("hello" on channel 0): `1SEVMTE8=` ("HELLO" on channel 1) comes back.
//! Ctrl-C ends the sessions with close code 1001, and then the server.
//!
//! A server on the open internet needs more: `examples/support/serve.rs` has HTTP/2, and
//! timeouts for clients that send nothing.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Service, ServiceBuilder, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, ConfigError, Rejection, Sessions,
    WsStreamLayer, body::ResponseBody,
};

/// The time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// Sends the data of channel 0 back on channel 1, in capitals.
async fn upper(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no readable channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no writable channel 1")?;
    loop {
        let bytes = input.fill_buf().await?;
        if bytes.is_empty() {
            break;
        }
        output.write_all(&bytes.to_ascii_uppercase()).await?;
        let read = bytes.len();
        input.consume(read);
    }
    Ok(())
}

/// Answers the requests that are not for a WebSocket.
async fn page(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/" => (StatusCode::OK, "a WebSocket is at /upper\n"),
        "/upper" => (StatusCode::UPGRADE_REQUIRED, "this is for WebSockets\n"),
        _ => (StatusCode::NOT_FOUND, "there is nothing here\n"),
    };
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    Ok(answer)
}

/// The whole server, as a service for requests.
fn app(
    sessions: &Sessions,
) -> Result<
    impl Service<
        Request<Incoming>,
        Response = Response<ResponseBody<Full<Bytes>>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + 'static,
    ConfigError,
> {
    let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
    let layer = WsStreamLayer::from_fn(move |head| match head.uri.path() {
        "/upper" => Ok(protocols.clone()),
        _ => Err(Rejection::new(
            StatusCode::NOT_FOUND,
            "the WebSocket is at /upper",
        )),
    });
    Ok(ServiceBuilder::new()
        .layer(layer.fallback(service_fn(page)).sessions(sessions.clone()))
        .load_shed()
        .concurrency_limit(64) // sessions
        .service_fn(upper))
}

/// Serves connections until this is dropped.
async fn serve(listener: TcpListener, sessions: &Sessions) -> Result<Infallible, BoxError> {
    let service = TowerToHyperService::new(app(sessions)?);
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            // Usually there is no descriptor left until a connection ends.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let _ = tcp.set_nodelay(true);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .serve_connection(TokioIo::new(tcp), service.clone())
            .with_upgrades(); // without this there is no session
        tokio::spawn(connection);
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:8009").await?;
    println!("listening on ws://{}/upper", listener.local_addr()?);
    let sessions = Sessions::default();
    tokio::select! {
        never = serve(listener, &sessions) => match never? {},
        _ = tokio::signal::ctrl_c() => {}
    }
    sessions.drain(Duration::from_secs(5)).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::{io::AsyncReadExt, net::TcpStream};
    use tokio_tungstenite::{
        client_async,
        tungstenite::{self, Message},
    };

    use super::*;

    /// Runs a test beside the server.
    async fn beside<T>(test: impl AsyncFnOnce(String) -> T) -> T {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let sessions = Sessions::default();
        tokio::select! {
            never = serve(listener, &sessions) => match never.unwrap() {},
            result = test(address) => result,
        }
    }

    #[tokio::test]
    async fn a_session_answers_in_capitals() {
        beside(async |address| {
            let tcp = TcpStream::connect(&address).await.unwrap();
            let (mut client, _) = client_async(format!("ws://{address}/upper"), tcp)
                .await
                .unwrap();
            client.send(Message::binary(&b"\0hello"[..])).await.unwrap();
            let told = client.next().await.unwrap().unwrap();
            assert_eq!(told.into_data(), &b"\x01HELLO"[..]);
        })
        .await;
    }

    #[tokio::test]
    async fn elsewhere_there_is_no_session() {
        beside(async |address| {
            let tcp = TcpStream::connect(&address).await.unwrap();
            let refused = client_async(format!("ws://{address}/"), tcp)
                .await
                .unwrap_err();
            let tungstenite::Error::Http(answer) = refused else {
                panic!("{refused:?}");
            };
            assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        })
        .await;
    }

    #[tokio::test]
    async fn plain_requests_get_pages() {
        beside(async |address| {
            for (path, status) in [("/", "200"), ("/upper", "426"), ("/other", "404")] {
                let mut tcp = TcpStream::connect(&address).await.unwrap();
                let request =
                    format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
                tcp.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                tcp.read_to_string(&mut answer).await.unwrap();
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status}")),
                    "{path}: {answer}"
                );
            }
        })
        .await;
    }
}
