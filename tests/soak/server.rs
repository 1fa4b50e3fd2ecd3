//! The server's process.

use std::{
    alloc::System,
    env,
    future::ready,
    io::{BufRead, BufReader, Read},
    panic,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{Router, body::Body, extract::Path, routing::get};
use http::Request;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::{net::TcpListener, runtime::Handle};
use tower::{Layer, ServiceBuilder, service_fn, util::MapRequestLayer};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols,
    ChannelType::{Read as In, Write as Out},
    Encoding, SessionConfig, Sessions, StreamingLayer, WsStreamLayer,
    portforward::{self, PortForwardLayer},
    remotecommand::{self, RemoteCommandLayer},
    session::Peer,
    subprotocols,
};

use crate::services::{self, forget, note_end, take_note};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The environment variable that makes a child the server.
const SERVE: &str = "WSSTREAM_SOAK_SERVE";

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
    let config = SessionConfig::default()
        .sessions(sessions.clone())
        .on_end(note_end)
        // The session of a client that has gone ends soon.
        .close_timeout(Duration::from_secs(5));
    let plain = WsStreamLayer::new(protocols()?)
        .config(config.clone())
        .layer(service_fn(services::plain));
    let command = ServiceBuilder::new()
        .layer(StreamingLayer::new(remotecommand::Protocols::default()).config(config.clone()))
        .layer(RemoteCommandLayer::new())
        .service_fn(services::command);
    let ports = ServiceBuilder::new()
        .layer(StreamingLayer::new(portforward::Protocols::default()).config(config))
        .layer(PortForwardLayer::new())
        .service_fn(services::port);
    let app = Router::new()
        .route_service("/plain/{name}/{lanes}", plain)
        .route_service("/exec/{name}/{lanes}", command)
        .route_service("/forward/{name}/{lanes}", ports)
        .route("/note/{name}", get(note))
        .route("/figures", get(move || ready(figures(&sessions))))
        .layer(MapRequestLayer::new(name_peer));
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    http.http2()
        .timer(TokioTimer::new())
        .enable_connect_protocol()
        .initial_stream_window_size(64 * 1024)
        .initial_connection_window_size(1024 * 1024);
    loop {
        let (stream, _) = listener.accept().await?;
        let (http, app) = (http.clone(), TowerToHyperService::new(app.clone()));
        tokio::spawn(async move {
            let served = http.serve_connection_with_upgrades(TokioIo::new(stream), app);
            let _ = served.await;
        });
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

/// Gives a session the name that stands in its path.
fn name_peer(mut request: Request<Body>) -> Request<Body> {
    if let Some((name, _)) = services::parse(request.uri().path()) {
        let peer = Peer::new(name);
        request.extensions_mut().insert(peer);
    }
    request
}

/// Answers with the note of a session that is over, and with nothing if it is not.
async fn note(Path(name): Path<String>) -> String {
    take_note(&name).unwrap_or_default()
}

/// Answers with the figures of this process. There are no visits meanwhile.
fn figures(sessions: &Sessions) -> String {
    forget();
    let heap = INSTRUMENTED_SYSTEM.stats();
    format!(
        "{} {} {} {}",
        heap.bytes_allocated - heap.bytes_deallocated,
        Handle::current().metrics().num_alive_tasks(),
        sessions.len(),
        PANICS.load(Ordering::Relaxed)
    )
}
