//! The server's process.

use std::{
    alloc::System,
    collections::HashMap,
    convert::Infallible,
    env,
    io::{BufRead, BufReader, Read},
    panic,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Handle,
};
use tower::{Layer, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet,
    ChannelType::{Read as In, Write as Out},
    Encoding, EndCause, SessionConfig, Sessions, WsStreamLayer, subprotocols,
};

use crate::visit::byte;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The environment variable that makes a child the server.
const SERVE: &str = "WSSTREAM_SOAK_SERVE";

/// The input that the services have seen, for each visit that asks.
static SEEN: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

/// The panics that no service made.
static PANICS: AtomicU64 = AtomicU64::new(0);

pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
    /// Kept open, because the harness says more if a test takes long.
    _output: BufReader<ChildStdout>,
}

/// Starts a server. Returns `None` in its process.
pub(crate) fn start(test: &str) -> Option<Server> {
    if env::var_os(SERVE).is_some() {
        serve().expect("a server");
        return None;
    }
    let mut child = Command::new(env::current_exe().expect("a path"))
        .args([test, "--exact", "--nocapture"])
        .env(SERVE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let address = (output.by_ref().lines())
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once(SERVE)?.1.trim().to_owned()))
        .expect("an address");
    Some(Server {
        child,
        address,
        _output: output,
    })
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::main(flavor = "current_thread")]
async fn serve() -> Result<(), BoxError> {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !info.to_string().contains("on purpose") {
            PANICS.fetch_add(1, Ordering::Relaxed);
            default(info);
        }
    }));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{SERVE} {}", listener.local_addr()?);
    let sessions = Sessions::default();
    let counted = sessions.clone();
    let config = SessionConfig::default()
        .sessions(sessions)
        // The session of a client that has gone ends soon.
        .close_timeout(Duration::from_secs(5));
    let service = WsStreamLayer::new(protocols()?)
        .config(config)
        .fallback(service_fn(move |request: Request<Incoming>| {
            let answer = answer(request.uri().path(), &counted);
            async move { Ok::<_, Infallible>(Response::new(Full::from(answer))) }
        }))
        .layer(service_fn(run));
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(service.clone());
        tokio::spawn(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades(),
        );
    }
}

fn protocols() -> Result<ChannelProtocols, BoxError> {
    let raw = ChannelProtocolConfig::new(Encoding::Binary, [In, Out]);
    let base64 = ChannelProtocolConfig::new(Encoding::Base64, [In, Out]);
    Ok(ChannelProtocols::builder()
        .protocol(subprotocols::V5, raw.clone().half_close(true))
        .protocol(subprotocols::V4, raw)
        .protocol(subprotocols::V4_BASE64, base64)
        .build()?)
}

/// Answers a request that is not an upgrade: the figures, or what was seen of a visit.
fn answer(path: &str, sessions: &Sessions) -> String {
    if let Some(name) = path.strip_prefix("/seen/") {
        let mut seen = SEEN.lock().expect("no panic");
        return seen.remove(name).unwrap_or_default();
    }
    let heap = INSTRUMENTED_SYSTEM.stats();
    format!(
        "{} {} {} {}",
        heap.bytes_allocated - heap.bytes_deallocated,
        Handle::current().metrics().num_alive_tasks(),
        sessions.len(),
        PANICS.load(Ordering::Relaxed)
    )
}

async fn run(set: ChannelSet) -> Result<(), BoxError> {
    let path = set.request().map(|head| head.uri.path().to_owned());
    let path = path.unwrap_or_default();
    let mut parts = path.split('/').skip(1);
    let mut next = || parts.next().unwrap_or_default();
    match next() {
        "echo" => echo(set).await,
        "count" => count(set, next()).await,
        "say" => say(set, next().parse()?, next()).await,
        other => Err(format!("no {other}").into()),
    }
}

/// Sends the input back.
async fn echo(mut set: ChannelSet) -> Result<(), BoxError> {
    drop(set.take_request());
    let mut input = set.take_reader(0).ok_or("channel 0")?;
    let mut output = set.take_writer(1).ok_or("channel 1")?;
    drop(set);
    tokio::io::copy_buf(&mut input, &mut output).await?;
    Ok(())
}

/// Notes how much came, whether it was right, and how it ended.
async fn count(mut set: ChannelSet, name: &str) -> Result<(), BoxError> {
    drop(set.take_request());
    let mut input = set.take_reader(0).ok_or("channel 0")?;
    drop(set);
    let (mut total, mut right) = (0, true);
    let end = loop {
        match input.fill_buf().await {
            Ok([]) => break "EOF".to_owned(),
            Ok(bytes) => {
                right &= (total..).zip(bytes).all(|(at, b)| byte(at) == *b);
                total += bytes.len() as u64;
                let n = bytes.len();
                input.consume(n);
            }
            Err(error) => {
                let cause = EndCause::from_error(&error);
                break cause.map_or("error", EndCause::name).to_owned();
            }
        }
    };
    let seen = format!("{total} {right} {end}");
    SEEN.lock().expect("no panic").insert(name.to_owned(), seen);
    Ok(())
}

/// Writes as many bytes in writes of all sizes, and ends as it is told.
async fn say(mut set: ChannelSet, mut left: u64, end: &str) -> Result<(), BoxError> {
    drop(set.take_request());
    let mut output = set.take_writer(1).ok_or("channel 1")?;
    drop(set);
    let (mut at, mut n) = (0, 1);
    while left > 0 {
        let len = left.min(n);
        let bytes: Vec<u8> = (at..at + len).map(byte).collect();
        match n % 3 {
            0 => output.send(bytes).await?,
            _ => output.write_all(&bytes).await?,
        }
        (at, left, n) = (at + len, left - len, n * 7 % 40_009);
    }
    match end {
        "fail" => Err("failed on purpose".into()),
        "panic" => panic!("on purpose"),
        _ => Ok(()),
    }
}
