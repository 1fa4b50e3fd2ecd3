//! The server's process.

use std::{
    convert::Infallible,
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::{Service, ServiceBuilder};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, SessionConfig, WsStreamLayer,
};
#[cfg(all(feature = "portforward", feature = "spdy"))]
use tower_wsstream::{
    StreamingLayer,
    portforward::{self, ForwardedPort, PortForwardLayer},
};

#[cfg(all(
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]
use crate::attacks::{target, websocket};

/// The environment variable that makes a child the server.
const SERVE: &str = "WSSTREAM_MEMORY_SERVE";

/// Counts the bytes of channel 0, and reports them on channel 1 at the end.
async fn sink(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("channel 0")?;
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    let mut total = 0;
    loop {
        let n = match input.fill_buf().await?.len() {
            0 => break,
            n => n,
        };
        input.consume(n);
        total += n as u64;
    }
    output.write_all(&total.to_le_bytes()).await?;
    Ok(())
}

/// Writes a GiB to channel 1.
async fn source(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    drop(channels);
    let chunk = vec![7; 32 * 1024];
    for _ in 0..(1 << 30) / chunk.len() {
        output.write_all(&chunk).await?;
    }
    Ok(())
}

async fn idle(mut channels: ChannelSet) -> Result<(), BoxError> {
    // As an ordinary service does.
    drop(channels.take_request());
    let session = channels.session().clone();
    session.ended().await;
    Ok(())
}

/// Reads a connection to its end.
#[cfg(all(feature = "portforward", feature = "spdy"))]
async fn forward(port: ForwardedPort) -> Result<(), BoxError> {
    let (mut input, _output) = port.stream.into_split();
    loop {
        match input.fill_buf().await?.len() {
            0 => return Ok(()),
            n => input.consume(n),
        }
    }
}

async fn run(channels: ChannelSet) -> Result<(), BoxError> {
    match channels.request().map(|head| head.uri.path()) {
        Some("/sink") => sink(channels).await,
        Some("/source") => source(channels).await,
        Some("/idle") => idle(channels).await,
        _ => Err("no such path".into()),
    }
}

async fn bind() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").await
}

/// Serves channels, and port-forward over SPDY to the clients that ask for it.
#[tokio::main(flavor = "current_thread")]
async fn serve() -> Result<(), BoxError> {
    #[cfg(all(
        feature = "http2",
        feature = "portforward",
        feature = "remotecommand",
        feature = "spdy"
    ))]
    match env::var(SERVE).as_deref() {
        Ok("attacks") => {
            let (listener, reports) = (target::listen()?, bind().await?);
            println!(
                "{SERVE} {} {}",
                listener.local_addr()?,
                reports.local_addr()?
            );
            tokio::spawn(async move { target::report(reports.accept().await?.0).await });
            return accept(listener, target::service()).await;
        }
        Ok("websocket") => {
            let [plain, secure] = websocket::target::spawn().await?;
            let reports = bind().await?;
            println!("{SERVE} {plain} {} {secure}", reports.local_addr()?);
            return target::report(reports.accept().await?.0).await;
        }
        _ => {}
    }
    let listener = bind().await?;
    println!("{SERVE} {}", listener.local_addr()?);
    let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
    // The answers are compared byte by byte, which takes a while on a busy machine.
    let config = SessionConfig::default().keep_alive(None);
    #[cfg(all(feature = "portforward", feature = "spdy"))]
    if env::var(SERVE).is_ok_and(|what| what == "ports") {
        let service = ServiceBuilder::new()
            .layer(StreamingLayer::new(portforward::Protocols::default()).config(config))
            .layer(PortForwardLayer::new())
            .service_fn(forward);
        return accept(listener, service).await;
    }
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols).config(config))
        .service_fn(run);
    accept(listener, service).await
}

async fn accept<S, B>(listener: TcpListener, service: S) -> Result<(), BoxError>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(
            hyper::server::conn::http1::Builder::new()
                .serve_connection(
                    TokioIo::new(stream),
                    TowerToHyperService::new(service.clone()),
                )
                .with_upgrades(),
        );
    }
}

/// Raises the limit of descriptors as far as this process may.
pub(crate) fn allow_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Starts a server in a process of its own. Returns `None` in that process, once the server has
/// ended.
pub(crate) fn start(test: &str) -> Option<Server> {
    if env::var_os(SERVE).is_some() {
        allow_descriptors();
        serve().unwrap();
        return None;
    }
    let what = match test.split("::").collect::<Vec<_>>()[..] {
        ["attacks", "websocket", _] => "websocket",
        ["attacks", ..] => "attacks",
        ["tunnel", ..] => "ports",
        _ => "channels",
    };
    let mut child = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored", "--nocapture"])
        .env(SERVE, what)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // The test harness may have written to the same line before.
    let addresses = (output.by_ref().lines())
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once(SERVE)?.1.trim().to_owned()))
        .unwrap();
    let addresses = addresses.split(' ').map(str::to_owned).collect();
    Some(Server {
        child,
        addresses,
        _output: output,
    })
}

pub(crate) struct Server {
    pub(crate) child: Child,
    /// The address for clients, and those for reports and for clients over TLS if there are any.
    pub(crate) addresses: Vec<String>,
    /// Kept open, because the harness says more if a test takes long.
    _output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn address(&self) -> &str {
        &self.addresses[0]
    }

    /// Returns the bytes of resident memory.
    pub(crate) fn resident(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Returns the CPU time so far, in ticks.
    pub(crate) fn cpu(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        // User and system time are the fields 14 and 15.
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    pub(crate) fn connect(&self, path: &str) -> TcpStream {
        self.upgrade(path, "channel.k8s.io")
    }

    /// Makes an upgrade to a subprotocol.
    pub(crate) fn upgrade(&self, path: &str, subprotocol: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        upgrade(&mut stream, path, subprotocol);
        stream
    }
}

/// Makes an upgrade over a new connection.
pub(crate) fn upgrade(stream: &mut (impl Read + Write), path: &str, subprotocol: &str) {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n",
    )
    .unwrap();
    read_101(stream);
}

/// Reads the answer to an upgrade that is accepted.
pub(crate) fn read_101(stream: &mut impl Read) {
    let head = read_head(stream);
    assert!(head.starts_with(b"HTTP/1.1 101"), "{}", head.escape_ascii());
}

/// Reads the head of an answer.
pub(crate) fn read_head(stream: &mut impl Read) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    head
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
