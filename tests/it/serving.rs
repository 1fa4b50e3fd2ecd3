//! The server of the documentation and the examples: every wait for a client has a deadline, it
//! survives a lack of descriptors, and it tells its sessions before it stops.

use crate::support::in_own_process;

#[path = "../../examples/support/serve.rs"]
mod serve;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
    ext::Protocol,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, client::IntoClientRequest, protocol::Role},
};
use tower::{ServiceBuilder, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, Sessions, WsStreamLayer,
};

/// Echoes until the session ends.
async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no channel 0")?;
    let mut output = channels.take_writer(0).ok_or("no channel 0")?;
    tokio::io::copy_buf(&mut input, &mut output).await?;
    Ok(())
}

/// Starts a server, and returns the sender that stops it.
async fn start() -> (SocketAddr, oneshot::Sender<()>, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sessions = Sessions::default();
    let protocols = ChannelProtocols::standard([ChannelType::ReadWrite]).unwrap();
    // Answers requests that are not upgrades, so that plain requests can be tested too.
    let plain = service_fn(async |_: Request<Incoming>| {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("plain"))))
    });
    let service = ServiceBuilder::new()
        .layer(
            WsStreamLayer::new(protocols)
                .sessions(sessions.clone())
                .fallback(plain),
        )
        .service_fn(echo);
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve::serve(listener, service, sessions, stopped));
    (address, stop, server)
}

async fn session(address: SocketAddr) -> WebSocketStream<TcpStream> {
    let request = format!("ws://{address}/").into_client_request().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    tokio_tungstenite::client_async(request, stream)
        .await
        .unwrap()
        .0
}

async fn echoes<S>(client: &mut WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    client.send(Message::binary(&b"\0hello"[..])).await.unwrap();
    let echo = loop {
        match client.next().await.unwrap().unwrap() {
            Message::Ping(_) => {}
            message => break message,
        }
    };
    assert_eq!(echo, Message::binary(&b"\0hello"[..]));
}

/// Paused time advances only while no bytes are in flight.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_nothing_is_let_go() {
    let (address, _stop, _server) = start().await;
    let begun = [
        &b""[..],
        // The first byte of HTTP/2's preface, and of a POST.
        b"P",
        b"PRI * HTTP/2.0\r\n",
        // The whole preface and the settings: a connection without a request.
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        b"GET / HTTP/1.1\r\nhost: a\r\n",
        // One request, and half of the next.
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n",
    ];
    for bytes in begun {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let end = timeout(Duration::from_secs(75), client.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_lives_longer_than_a_head_may_take() {
    let (address, _stop, _server) = start().await;
    let mut client = session(address).await;
    for _ in 0..5 {
        echoes(&mut client).await;
        sleep(Duration::from_secs(25)).await;
    }
    echoes(&mut client).await;
}

#[tokio::test]
async fn a_server_that_stops_tells_its_sessions() {
    let (address, stop, server) = start().await;
    let mut client = session(address).await;
    echoes(&mut client).await;
    drop(stop);
    let told = timeout(Duration::from_secs(5), client.next())
        .await
        .unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = told else {
        panic!("{told:?}");
    };
    assert_eq!(u16::from(frame.code), 1001);
    // The client answers the Close while it reads.
    while client.next().await.is_some() {}
    drop(client);
    timeout(Duration::from_secs(5), server)
        .await
        .unwrap()
        .unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// Runs in a process of its own, because the limit applies to the whole process.
#[test]
fn a_server_without_descriptors_goes_on_when_there_are_some() {
    in_own_process(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (address, _stop, server) = start().await;
            echoes(&mut session(address).await).await;
            // A connection takes two descriptors, one for each end. With one of these two limits it
            // is the server that runs out.
            for current in [40, 41] {
                let limit = getrlimit(Resource::Nofile);
                let current = Some(current);
                setrlimit(Resource::Nofile, Rlimit { current, ..limit }).unwrap();
                let mut open = Vec::new();
                while let Ok(client) = TcpStream::connect(address).await {
                    open.push(client);
                    // Lets the server accept it.
                    sleep(Duration::from_millis(5)).await;
                }
                assert!(open.len() > 5, "{}", open.len());
                sleep(Duration::from_millis(300)).await;
                assert!(!server.is_finished(), "it has ended");
                open.clear();
                let again = async { echoes(&mut session(address).await).await };
                timeout(Duration::from_secs(5), again).await.unwrap();
            }
        });
    });
}

/// Connects over HTTP/2, and returns the client and the task of its connection.
async fn http_2(address: SocketAddr) -> (SendRequest<Empty<Bytes>>, JoinHandle<()>) {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let client = http2::handshake(TokioExecutor::new(), stream).await;
    let (sender, connection) = client.unwrap();
    let connection = tokio::spawn(async { drop(connection.await) });
    (sender, connection)
}

/// The client sent one request over HTTP/2, and answers Pings.
#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_no_more_over_http_2_is_let_go() {
    let (address, _stop, _server) = start().await;
    let (mut client, connection) = http_2(address).await;
    let request = Request::get(format!("http://{address}/"));
    let answer = client.send_request(request.body(Empty::new()).unwrap());
    answer.await.unwrap().into_body().collect().await.unwrap();
    let end = timeout(Duration::from_secs(3600), connection).await;
    assert!(end.is_ok(), "it is still waited for after an hour");
}

/// The connection is told to shut down, and waits for its session.
#[tokio::test(start_paused = true)]
async fn a_session_over_http_2_lives_longer_than_a_head_may_take() {
    let (address, _stop, _server) = start().await;
    let (mut client, _connection) = http_2(address).await;
    // The settings that permit a session arrive with the first answer.
    let plain = Request::get(format!("http://{address}/"));
    let plain = client.send_request(plain.body(Empty::new()).unwrap());
    plain.await.unwrap();
    let request = Request::connect(format!("http://{address}/"))
        .extension(Protocol::from_static("websocket"))
        .header("sec-websocket-version", "13");
    let answer = client.send_request(request.body(Empty::new()).unwrap());
    let upgraded = hyper::upgrade::on(answer.await.unwrap()).await.unwrap();
    let upgraded = TokioIo::new(upgraded);
    let mut session = WebSocketStream::from_raw_socket(upgraded, Role::Client, None).await;
    for _ in 0..5 {
        echoes(&mut session).await;
        sleep(Duration::from_secs(25)).await;
    }
    echoes(&mut session).await;
}
