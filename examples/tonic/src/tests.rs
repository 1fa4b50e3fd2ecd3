//! Tests of one listener with three kinds of clients: gRPC, and exec over HTTP/1.1 and HTTP/2.

use std::{io, net::SocketAddr};

use axum::http::{Method, Request, Response, Version, header::SEC_WEBSOCKET_PROTOCOL};
use futures_util::{SinkExt, StreamExt};
use hyper::{body::Incoming, client::conn::http2::SendRequest, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpStream, unix::pipe},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        client::IntoClientRequest,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};
use tonic::{Code, body::Body};
use tower::service_fn;
use tower_wsstream::{Status, subprotocols::V5};

use super::*;
use crate::generated::{ExecRequest, runtime_service_client::RuntimeServiceClient};

/// Writes to both outputs, and counts its input.
const SCRIPT: &str = "echo out; echo err >&2; wc -c; exit 3";

/// Starts a server on a port of its own, which lives as long as the test's runtime.
async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let sessions = Sessions::default();
    let app = app(format!("http://{address}"), &sessions);
    let never = std::future::pending::<()>();
    tokio::spawn(serve::serve(listener, app, sessions, never));
    Ok(address)
}

/// An HTTP/2 connection, for gRPC and for WebSockets.
#[derive(Clone)]
struct Http2 {
    send: SendRequest<Body>,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Result<Self, BoxError> {
        let io = TokioIo::new(TcpStream::connect(address).await?);
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Self { send })
    }

    async fn ask(&self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let mut send = self.send.clone();
        send.ready().await?;
        send.send_request(request).await
    }

    /// Asks for an exec with the generated client.
    async fn exec(&self, address: SocketAddr, request: ExecRequest) -> Result<String, BoxError> {
        let http = self.clone();
        let transport = service_fn(move |request| {
            let http = http.clone();
            async move { http.ask(request).await }
        });
        let origin = format!("http://{address}").parse()?;
        let mut client = RuntimeServiceClient::with_origin(transport, origin);
        Ok(client.exec(request).await?.into_inner().url)
    }

    /// Sends an extended CONNECT (RFC 8441) and returns the answer. It works after a call
    /// only, because the server's settings have to arrive first.
    async fn handshake(&self, url: &str) -> Result<Response<Incoming>, BoxError> {
        let request = Request::builder()
            .method(Method::CONNECT)
            .version(Version::HTTP_2)
            .uri(url)
            .header("sec-websocket-version", "13")
            .header(SEC_WEBSOCKET_PROTOCOL, V5)
            .extension(Protocol::from_static("websocket"))
            .body(Body::empty())?;
        Ok(self.ask(request).await?)
    }
}

fn script() -> ExecRequest {
    ExecRequest {
        container_id: "demo".into(),
        cmd: ["sh", "-c", SCRIPT].map(String::from).to_vec(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecRequest::default()
    }
}

fn http_1_handshake(url: &str) -> Result<Request<()>, BoxError> {
    let mut request = url.replacen("http://", "ws://", 1).into_client_request()?;
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, V5.parse()?);
    Ok(request)
}

/// Asserts that the URL was no upgrade over HTTP/1.1, and returns why.
async fn refused_over_http_1(url: &str) -> Result<(u16, String), BoxError> {
    match tokio_tungstenite::connect_async(http_1_handshake(url)?).await {
        Err(tungstenite::Error::Http(answer)) => {
            let body = answer.body().clone().unwrap_or_default();
            Ok((answer.status().as_u16(), String::from_utf8(body)?))
        }
        other => Err(format!("{other:?}").into()),
    }
}

/// Plays the client of the script to its end.
async fn play<T>(mut client: WebSocketStream<T>) -> Result<(), BoxError>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    for message in [&b"\x00four"[..], b"\x00five.", b"\xff\x00"] {
        client.send(Message::binary(message.to_vec())).await?;
    }
    let mut channels = [const { Vec::new() }; 4];
    let end = loop {
        match client.next().await.ok_or("no Close came")?? {
            Message::Binary(message) => {
                let (channel, payload) = message.split_first().ok_or("no channel")?;
                channels[usize::from(*channel)].extend_from_slice(payload);
            }
            Message::Close(frame) => break frame,
            _ => {}
        }
    };
    let [stdin, stdout, stderr, error] = channels;
    assert_eq!(stdin, b"");
    assert_eq!(String::from_utf8(stdout)?, "out\n9\n");
    assert_eq!(String::from_utf8(stderr)?, "err\n");
    assert_eq!(Status::from_json(&error)?.exit_code(), Some(3));
    let code = end.map(|CloseFrame { code, .. }| code);
    assert_eq!(code, Some(CloseCode::Normal));
    Ok(())
}

async fn play_over_http_1(url: &str) -> Result<(), BoxError> {
    let (client, answer) = tokio_tungstenite::connect_async(http_1_handshake(url)?).await?;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], V5);
    play(client).await
}

async fn play_over_http_2(http: &Http2, url: &str) -> Result<(), BoxError> {
    let answer = http.handshake(url).await?;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[SEC_WEBSOCKET_PROTOCOL], V5);
    let io = TokioIo::new(hyper::upgrade::on(answer).await?);
    play(WebSocketStream::from_raw_socket(io, Role::Client, None).await).await
}

#[tokio::test]
async fn one_listener_serves_grpc_and_exec_over_both_versions_of_http() -> Result<(), BoxError> {
    let address = start().await?;
    let http = Http2::connect(address).await?;
    let url = http.exec(address, script()).await?;
    assert!(url.starts_with(&format!("http://{address}/exec/")), "{url}");
    play_over_http_1(&url).await?;
    let url = http.exec(address, script()).await?;
    play_over_http_2(&http, &url).await
}

#[tokio::test]
async fn one_connection_carries_calls_beside_sessions() -> Result<(), BoxError> {
    let address = start().await?;
    let http = Http2::connect(address).await?;
    // This session is opened and left alone: it waits for its input.
    let url = http.exec(address, script()).await?;
    let open = http.handshake(&url).await?;
    assert_eq!(open.status(), StatusCode::OK);
    let url = http.exec(address, script()).await?;
    play_over_http_2(&http, &url).await?;
    let io = TokioIo::new(hyper::upgrade::on(open).await?);
    play(WebSocketStream::from_raw_socket(io, Role::Client, None).await).await
}

#[tokio::test]
async fn a_token_that_was_used_or_never_given_is_not_found() -> Result<(), BoxError> {
    let address = start().await?;
    let http = Http2::connect(address).await?;
    let one = http.exec(address, script()).await?;
    play_over_http_1(&one).await?;
    let two = http.exec(address, script()).await?;
    play_over_http_2(&http, &two).await?;
    let unknown = format!("http://{address}/exec/0123456789abcdef0123456789abcdef");
    // The version of HTTP over which it was used does not matter.
    for url in [&one, &two, &unknown] {
        let (code, body) = refused_over_http_1(url).await?;
        assert_eq!(code, 404, "{url}");
        let status = Status::from_json(body.as_bytes())?;
        assert_eq!(status.code(), Some(404));
        let answer = http.handshake(url).await?;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{url}");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_in_the_url_changes_the_command() -> Result<(), BoxError> {
    let address = start().await?;
    let http = Http2::connect(address).await?;
    for query in ["?command=id&stdout=true", "?stdin=false&tty=true"] {
        let url = http.exec(address, script()).await?;
        play_over_http_1(&format!("{url}{query}")).await?;
        let url = http.exec(address, script()).await?;
        play_over_http_2(&http, &format!("{url}{query}")).await?;
    }
    Ok(())
}

/// Runs a command that notes the end of its input, and returns the note once the command
/// is gone.
async fn noted(name: &str, input_ends: bool) -> Result<String, BoxError> {
    let notes = std::env::temp_dir().join(format!("wsstream-tonic-{}-{name}", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&notes).status()?;
    assert!(made.success(), "{made}");
    let mut reading = pipe::OpenOptions::new().open_receiver(&notes)?;

    let address = start().await?;
    let http = Http2::connect(address).await?;
    let mut request = script();
    request.cmd[2] = "exec 3>\"$0\"; echo ready; cat >/dev/null 3>&-; echo complete >&3".into();
    request
        .cmd
        .push(notes.to_str().ok_or("not UTF-8")?.to_owned());
    let url = http.exec(address, request).await?;
    let (mut client, _) = tokio_tungstenite::connect_async(http_1_handshake(&url)?).await?;
    while client.next().await.ok_or("no output came")?? != Message::binary(&b"\x01ready\n"[..]) {}
    client.send(Message::binary(&b"\x00half"[..])).await?;
    if input_ends {
        client.send(Message::binary(&b"\xff\x00"[..])).await?;
    } else {
        drop(client);
    }
    // The end comes when the last process that could write to it is gone.
    let mut noted = String::new();
    reading.read_to_string(&mut noted).await?;
    std::fs::remove_file(notes)?;
    Ok(noted)
}

#[tokio::test]
async fn input_that_was_cut_off_is_not_complete() -> Result<(), BoxError> {
    assert_eq!(noted("ended", true).await?, "complete\n");
    assert_eq!(noted("cut", false).await?, "");
    Ok(())
}

#[tokio::test]
async fn calls_that_fail_have_codes_of_grpc() -> Result<(), BoxError> {
    let address = start().await?;
    let http = Http2::connect(address).await?;
    let cases = [
        (
            ExecRequest {
                container_id: "other".into(),
                ..script()
            },
            Code::NotFound,
        ),
        (
            ExecRequest {
                cmd: Vec::new(),
                ..script()
            },
            Code::InvalidArgument,
        ),
    ];
    for (request, code) in cases {
        let error = http.exec(address, request).await.unwrap_err();
        let status = error.downcast_ref::<tonic::Status>().ok_or("no status")?;
        assert_eq!(status.code(), code, "{status}");
    }
    // An unknown service: the fallback of tonic's routes is still in place.
    let request = Request::post(format!("http://{address}/runtime.v1.Other/Exec"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Body::empty())?;
    let answer = http.ask(request).await?;
    assert_eq!(answer.headers()["grpc-status"], "12");
    Ok(())
}

#[tokio::test]
async fn grpc_is_not_served_over_http_1() -> Result<(), BoxError> {
    let address = start().await?;
    let url = format!("http://{address}/runtime.v1.RuntimeService/Exec");
    let (code, body) = refused_over_http_1(&url).await?;
    assert_eq!((code, &*body), (505, "gRPC is HTTP/2 only\n"));
    Ok(())
}
