//! Tests of one listener with three kinds of clients: gRPC, and streams over HTTP/1.1 and HTTP/2.

use std::net::SocketAddr;

use axum::http::{Method, Request, Response, Version, header::SEC_WEBSOCKET_PROTOCOL};
use futures_util::{SinkExt, StreamExt};
use hyper::{body::Incoming, client::conn::http2::SendRequest, ext::Protocol};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
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
use tower::{service_fn, util::BoxCloneService};
use tower_wsstream::{BoxError, Status, subprotocols::V5};

use super::*;
use crate::generated::{
    AttachRequest, ContainerConfig, ContainerState, ContainerStatusRequest, CreateContainerRequest,
    ExecRequest, ExecSyncRequest, ImageSpec, PodSandboxConfig, PodSandboxStatusRequest,
    PortMapping, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest, runtime_service_client::RuntimeServiceClient,
};

/// Writes to both outputs, and counts its input.
const SCRIPT: &str = "echo out; echo err >&2; wc -c; exit 3";

type Transport = BoxCloneService<Request<Body>, Response<Incoming>, hyper::Error>;

/// A server on a port of its own, which lives as long as the test's runtime, and an HTTP/2
/// connection to it, for gRPC and for WebSockets.
#[derive(Clone)]
struct Http2 {
    address: SocketAddr,
    send: SendRequest<Body>,
}

impl Http2 {
    async fn start() -> Result<Self, BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let sessions = Sessions::default();
        let app = app(format!("http://{address}"), &sessions);
        let never = std::future::pending::<()>();
        tokio::spawn(serve::serve(listener, app, sessions, never));

        let io = TokioIo::new(TcpStream::connect(address).await?);
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
        tokio::spawn(connection);
        Ok(Self { address, send })
    }

    async fn ask(&self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let mut send = self.send.clone();
        send.ready().await?;
        send.send_request(request).await
    }

    /// Returns the generated client.
    fn grpc(&self) -> Result<RuntimeServiceClient<Transport>, BoxError> {
        let http = self.clone();
        let transport = service_fn(move |request| {
            let http = http.clone();
            async move { http.ask(request).await }
        });
        let transport = BoxCloneService::new(transport);
        let origin = format!("http://{}", self.address).parse()?;
        Ok(RuntimeServiceClient::with_origin(transport, origin))
    }

    /// Runs a sandbox, and starts a container in it.
    async fn run(&self, config: ContainerConfig) -> Result<String, BoxError> {
        let sandbox = self.sandbox(80).await?;
        self.run_in(sandbox, config).await
    }

    async fn sandbox(&self, port: u16) -> Result<String, BoxError> {
        let config = PodSandboxConfig {
            port_mappings: vec![PortMapping {
                container_port: port.into(),
            }],
            ..PodSandboxConfig::default()
        };
        let request = RunPodSandboxRequest {
            config: Some(config),
        };
        let sandbox = self.grpc()?.run_pod_sandbox(request).await?;
        Ok(sandbox.into_inner().pod_sandbox_id)
    }

    async fn run_in(&self, sandbox: String, config: ContainerConfig) -> Result<String, BoxError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox,
            config: Some(config),
        };
        let mut grpc = self.grpc()?;
        let container_id = grpc
            .create_container(request)
            .await?
            .into_inner()
            .container_id;
        let request = StartContainerRequest {
            container_id: container_id.clone(),
        };
        grpc.start_container(request).await?;
        Ok(container_id)
    }

    /// Asks for an exec.
    async fn exec(&self, request: ExecRequest) -> Result<String, BoxError> {
        Ok(self.grpc()?.exec(request).await?.into_inner().url)
    }

    /// Asks for an exec of [`SCRIPT`] in a new container.
    async fn script(&self) -> Result<String, BoxError> {
        let container = self.run(sleeping()).await?;
        self.exec(script(container)).await
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

/// A container that does nothing.
fn sleeping() -> ContainerConfig {
    ContainerConfig {
        command: ["sleep", "600"].map(String::from).to_vec(),
        ..ContainerConfig::default()
    }
}

fn script(container_id: String) -> ExecRequest {
    ExecRequest {
        container_id,
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
    let http = Http2::start().await?;
    let url = http.script().await?;
    let address = http.address;
    assert!(url.starts_with(&format!("http://{address}/exec/")), "{url}");
    play_over_http_1(&url).await?;
    let url = http.script().await?;
    play_over_http_2(&http, &url).await
}

#[tokio::test]
async fn one_connection_carries_calls_beside_sessions() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    // This session is opened and left alone: it waits for its input.
    let url = http.script().await?;
    let open = http.handshake(&url).await?;
    assert_eq!(open.status(), StatusCode::OK);
    let url = http.script().await?;
    play_over_http_2(&http, &url).await?;
    let io = TokioIo::new(hyper::upgrade::on(open).await?);
    play(WebSocketStream::from_raw_socket(io, Role::Client, None).await).await
}

#[tokio::test]
async fn a_token_that_was_used_or_never_given_is_not_found() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    let one = http.script().await?;
    play_over_http_1(&one).await?;
    let two = http.script().await?;
    play_over_http_2(&http, &two).await?;
    let unknown = format!(
        "http://{}/exec/0123456789abcdef0123456789abcdef",
        http.address
    );
    // One that is good elsewhere.
    let other = http.script().await?.replacen("/exec/", "/attach/", 1);
    // The version of HTTP over which it was used does not matter.
    for url in [&one, &two, &unknown, &other] {
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
    let http = Http2::start().await?;
    for query in ["?command=id&stdout=true", "?stdin=false&tty=true"] {
        let url = http.script().await?;
        play_over_http_1(&format!("{url}{query}")).await?;
        let url = http.script().await?;
        play_over_http_2(&http, &format!("{url}{query}")).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_process_ends_with_the_input_of_the_first_client_that_attaches() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    let container_id = http
        .run(ContainerConfig {
            command: ["sh", "-c", SCRIPT].map(String::from).to_vec(),
            stdin: true,
            stdin_once: true,
            ..ContainerConfig::default()
        })
        .await?;
    let request = AttachRequest {
        container_id: container_id.clone(),
        stdin: true,
        stdout: true,
        stderr: true,
        tty: false,
    };
    let url = http.grpc()?.attach(request).await?.into_inner().url;
    let (mut client, _) = tokio_tungstenite::connect_async(http_1_handshake(&url)?).await?;
    for message in [&b"\x00four"[..], b"\x00five.", b"\xff\x00"] {
        client.send(Message::binary(message.to_vec())).await?;
    }
    let mut output = Vec::new();
    while let Some(message) = client.next().await {
        if let Message::Binary(message) = message?
            && let [1, payload @ ..] = &message[..]
        {
            output.extend_from_slice(payload);
        }
    }
    // Output from before has no reader.
    assert!(output.ends_with(b"9\n"), "{output:?}");
    let request = ContainerStatusRequest { container_id };
    let status = http.grpc()?.container_status(request).await?.into_inner();
    let status = status.status.ok_or("no status")?;
    assert_eq!(status.state(), ContainerState::ContainerExited);
    assert_eq!((status.exit_code, &*status.reason), (3, "Error"));
    Ok(())
}

#[tokio::test]
async fn a_sandbox_ends_with_all_that_runs_in_it() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    let sandbox = http.sandbox(80).await?;
    let container_id = http.run_in(sandbox.clone(), sleeping()).await?;
    let url = http.exec(script(container_id.clone())).await?;
    let (mut client, _) = tokio_tungstenite::connect_async(http_1_handshake(&url)?).await?;
    let request = StopPodSandboxRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    http.grpc()?.stop_pod_sandbox(request).await?;
    // The command in it has ended too, and says why.
    let mut errors = Vec::new();
    while let Some(message) = client.next().await {
        if let Message::Binary(message) = message?
            && let [3, payload @ ..] = &message[..]
        {
            errors.extend_from_slice(payload);
        }
    }
    let status = Status::from_json(&errors)?;
    assert!(
        status
            .message()
            .is_some_and(|text| text.contains("the container has ended")),
        "{status:?}"
    );
    let request = ContainerStatusRequest { container_id };
    let status = http.grpc()?.container_status(request.clone()).await?;
    let status = status.into_inner().status.ok_or("no status")?;
    assert_eq!(
        (status.state(), status.exit_code),
        (ContainerState::ContainerExited, 137)
    );

    let remove = RemovePodSandboxRequest {
        pod_sandbox_id: sandbox,
    };
    http.grpc()?.remove_pod_sandbox(remove.clone()).await?;
    let error = http.grpc()?.container_status(request).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    // Once more: there is nothing left to do.
    http.grpc()?.remove_pod_sandbox(remove).await?;
    Ok(())
}

#[tokio::test]
async fn a_web_server_listens_at_the_address_of_its_sandbox() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    // A port that is free there: the address is this server's alone.
    let sandbox = http.sandbox(8080).await?;
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: sandbox.clone(),
    };
    let status = http.grpc()?.pod_sandbox_status(request).await?.into_inner();
    let network = status.status.and_then(|status| status.network);
    let ip = network.ok_or("no network")?.ip;
    let config = ContainerConfig {
        image: Some(ImageSpec {
            image: "nginx".into(),
            ..ImageSpec::default()
        }),
        ..ContainerConfig::default()
    };
    http.run_in(sandbox, config).await?;
    let mut stream = TcpStream::connect(format!("{ip}:8080")).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_command_is_run_while_its_client_waits() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    let container_id = http.run(sleeping()).await?;
    let mut request = ExecSyncRequest {
        container_id,
        cmd: ["sh", "-c", "echo out; echo err >&2; exit 3"]
            .map(String::from)
            .to_vec(),
        timeout: 0,
    };
    let answer = http.grpc()?.exec_sync(request.clone()).await?.into_inner();
    assert_eq!(
        (&*answer.stdout, &*answer.stderr),
        (&b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(answer.exit_code, 3);
    request.cmd = ["sleep", "600"].map(String::from).to_vec();
    request.timeout = 1;
    let error = http.grpc()?.exec_sync(request).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    Ok(())
}

/// Runs a command that notes the end of its input, and returns the note once the command
/// is gone.
async fn noted(name: &str, input_ends: bool) -> Result<String, BoxError> {
    let notes = std::env::temp_dir().join(format!("cri-server-{}-{name}", std::process::id()));
    let made = std::process::Command::new("mkfifo").arg(&notes).status()?;
    assert!(made.success(), "{made}");
    let mut reading = pipe::OpenOptions::new().open_receiver(&notes)?;

    let http = Http2::start().await?;
    let mut request = script(http.run(sleeping()).await?);
    request.cmd[2] = "exec 3>\"$0\"; echo ready; cat >/dev/null 3>&-; echo complete >&3".into();
    request
        .cmd
        .push(notes.to_str().ok_or("not UTF-8")?.to_owned());
    let url = http.exec(request).await?;
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
    let http = Http2::start().await?;
    let running = http.run(sleeping()).await?;
    let ended = http
        .run(ContainerConfig {
            command: vec!["true".into()],
            stdin: true,
            ..ContainerConfig::default()
        })
        .await?;
    let is_running = async |id: &str| -> Result<bool, BoxError> {
        let request = ContainerStatusRequest {
            container_id: id.into(),
        };
        let status = http.grpc()?.container_status(request).await?.into_inner();
        let state = status.status.ok_or("no status")?.state();
        Ok(state == ContainerState::ContainerRunning)
    };
    while is_running(&ended).await? {}
    type Change<'a> = &'a dyn Fn(&mut ExecRequest);
    let cases: [(Change<'_>, Code); 8] = [
        (&|_| {}, Code::Ok),
        (
            &|request| request.container_id.clear(),
            Code::InvalidArgument,
        ),
        (&|request| request.container_id.push('x'), Code::NotFound),
        (
            &|request| request.container_id = ended.clone(),
            Code::FailedPrecondition,
        ),
        (&|request| request.cmd.clear(), Code::InvalidArgument),
        (&|request| request.tty = true, Code::InvalidArgument),
        (
            &|request| (request.stdin, request.stdout, request.stderr) = (false, false, false),
            Code::InvalidArgument,
        ),
        (
            &|request| request.cmd.push("x".repeat(64 * 1024)),
            Code::InvalidArgument,
        ),
    ];
    for (n, (change, code)) in cases.into_iter().enumerate() {
        let mut request = script(running.clone());
        change(&mut request);
        let got = match http.exec(request).await {
            Ok(_) => Code::Ok,
            Err(error) => {
                let status = error.downcast_ref::<tonic::Status>();
                status.ok_or("no status")?.code()
            }
        };
        assert_eq!(got, code, "case {n}");
    }
    // An unknown service: the fallback of tonic's routes is still in place.
    let request = Request::post(format!("http://{}/runtime.v1.Other/Exec", http.address))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .body(Body::empty())?;
    let answer = http.ask(request).await?;
    assert_eq!(answer.headers()["grpc-status"], "12");
    Ok(())
}

#[tokio::test]
async fn a_command_survives_the_uri() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    let mut request = script(http.run(sleeping()).await?);
    let words = ["a b&c=d+e%f?g#h\n\u{e9}", ""];
    request.cmd[2] = "printf '%s|' \"$@\"; cat".into();
    request.cmd.push("sh".into());
    request.cmd.extend(words.map(String::from));
    let url = http.exec(request).await?;
    let (mut client, _) = tokio_tungstenite::connect_async(http_1_handshake(&url)?).await?;
    client.send(Message::binary(&b"\xff\x00"[..])).await?;
    let mut output = Vec::new();
    while let Some(message) = client.next().await {
        if let Message::Binary(message) = message?
            && let [1, payload @ ..] = &message[..]
        {
            output.extend_from_slice(payload);
        }
    }
    assert_eq!(String::from_utf8(output)?, words.join("|") + "|");
    Ok(())
}

#[tokio::test]
async fn grpc_is_not_served_over_http_1() -> Result<(), BoxError> {
    let http = Http2::start().await?;
    let url = format!("http://{}/runtime.v1.RuntimeService/Exec", http.address);
    let (code, body) = refused_over_http_1(&url).await?;
    assert_eq!((code, &*body), (505, "gRPC is HTTP/2 only\n"));
    Ok(())
}
