//! Both ends of a handshake.

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Version};
use http_body_util::Empty;
use hyper::{
    body::{Body, Incoming},
    client::conn::http2::SendRequest,
    ext::Protocol,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    time::Instant,
};
use tower::Service;
use tower_wsstream::BoxError;

use crate::{
    client,
    facts::{Answer, Shared},
    head::Head,
    plan::{Kind, Plan, Transport},
    post,
    transport::Chopped,
};

/// Spawns the server of a connection.
pub(crate) fn serve<S, B>(transport: Transport, io: Chopped, service: S)
where
    S: Service<Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (io, service) = (TokioIo::new(io), TowerToHyperService::new(service));
    match transport {
        Transport::Http1 | Transport::Post => {
            let server = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(io, service)
                .with_upgrades();
            tokio::spawn(async move { drop(server.await) });
        }
        Transport::Http2 => {
            let server = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .enable_connect_protocol()
                .serve_connection(io, service);
            tokio::spawn(async move { drop(server.await) });
        }
    }
}

/// Makes the handshake, and then runs the client.
pub(crate) async fn open(plan: &Plan, facts: &Shared, io: DuplexStream) {
    match plan.setup.transport {
        Transport::Http1 | Transport::Post => over_http_1(plan, facts, io).await,
        Transport::Http2 => over_http_2(plan, facts, io).await.unwrap_or_default(),
    }
}

/// Notes the status of the answer. Returns whether there is a session.
fn answered(facts: &Shared, status: u16) -> bool {
    let accepted = matches!(status, 101 | 200);
    let mut facts = facts.borrow_mut();
    facts.answered = Some(Instant::now());
    facts.answer = match accepted {
        true => Answer::Session,
        false => Answer::Refused(status),
    };
    accepted
}

/// Returns the target of the request.
fn target(plan: &Plan) -> String {
    match (plan.setup.kind, plan.setup.transport) {
        (Kind::Ports, _) | (Kind::Channels, Transport::Http1 | Transport::Http2) => "/".into(),
        (Kind::Command, _) | (Kind::Channels, Transport::Post) => format!("/?{}", post::QUERY),
    }
}

/// Runs the client of a session.
async fn run<T>(plan: &Plan, facts: &Shared, io: T, early: BytesMut)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    match plan.setup.is_over_spdy() {
        true => post::run(plan, facts, io, early).await,
        false => client::run(plan, facts, io, early).await,
    }
}

async fn over_http_1(plan: &Plan, facts: &Shared, mut io: DuplexStream) {
    let (name, target) = (plan.setup.subprotocol, target(plan));
    let head = match plan.setup.transport {
        Transport::Post => Head::plain("/")
            .line(&format!("POST {target} HTTP/1.1"))
            .with("Connection", "Upgrade")
            .with("Upgrade", "SPDY/3.1")
            .with("Content-Length", "0")
            .with("X-Stream-Protocol-Version", name),
        _ if name.is_empty() => Head::to(&target),
        _ => Head::to(&target).offer(name),
    };
    if io.write_all(&head.bytes()).await.is_err() {
        return;
    }
    let mut buf = BytesMut::new();
    let end = loop {
        if let Some(at) = buf.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
        match io.read_buf(&mut buf).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    };
    let answer = String::from_utf8_lossy(&buf.split_to(end)).into_owned();
    let status = answer.get(9..12).and_then(|code| code.parse().ok());
    if !answered(facts, status.unwrap_or_default()) {
        return;
    }
    run(plan, facts, io, buf).await;
}

/// Fails if the connection does.
async fn over_http_2(plan: &Plan, facts: &Shared, io: DuplexStream) -> hyper::Result<()> {
    let (mut send, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(io))
        .await?;
    tokio::spawn(async move { drop(connection.await) });
    // Extended CONNECT may be used only once the settings of the server have arrived.
    ask(&mut send, Request::get("http://localhost/")).await?;
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://localhost{}", target(plan)))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static("websocket"));
    if !plan.setup.subprotocol.is_empty() {
        request = request.header("sec-websocket-protocol", plan.setup.subprotocol);
    }
    let mut answer = ask(&mut send, request).await?;
    if answered(facts, answer.status().as_u16()) {
        let io = hyper::upgrade::on(&mut answer).await?;
        run(plan, facts, TokioIo::new(io), BytesMut::new()).await;
    }
    Ok(())
}

async fn ask(
    send: &mut SendRequest<Empty<Bytes>>,
    request: http::request::Builder,
) -> hyper::Result<http::Response<Incoming>> {
    let request = request.version(Version::HTTP_2).body(Empty::new());
    send.ready().await?;
    send.send_request(request.expect("a request")).await
}
