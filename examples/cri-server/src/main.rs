//! gRPC and streams on one port, and gRPC on a Unix socket: a container runtime as the kubelet
//! sees it.
//!
//! ```text
//! cargo run --manifest-path examples/cri-server/Cargo.toml -- --socket /tmp/cri.sock --stream 127.0.0.1:8006
//! ```
//!
//! Then, with the tools of the Container Runtime Interface, in another terminal:
//!
//! ```text
//! export CONTAINER_RUNTIME_ENDPOINT=unix:///tmp/cri.sock
//! echo '{"metadata": {"name": "demo", "namespace": "default", "uid": "1"}}' >pod.json
//! echo '{"metadata": {"name": "main"}, "image": {"image": "busybox"}, "command": ["sleep", "1h"]}' >main.json
//! pod=$(crictl runp pod.json)
//! main=$(crictl create --with-pull $pod main.json pod.json)
//! crictl start $main
//! crictl exec $main sh -c 'echo hello; exit 3'
//! ```
//!
//! The last command prints `hello`, and that the command has ended with exit code 3. **The
//! containers are processes of this machine**, which keep nothing apart. Each sandbox has a
//! loopback address of its own, and a container of an image that is called nginx is a small web
//! server at that address.
//!
//! This is the streaming of the Container Runtime Interface: `Exec`, `Attach` and `PortForward`
//! answer with a URL that is good once and for a minute, and the kubelet, or any other client
//! with that URL, streams there: over SPDY/3.1, as kubelets and crictl do by default, or over
//! WebSocket (`crictl exec -r websocket`).
//!
//! | file | what it is |
//! |---|---|
//! | `runtime.rs`, `images.rs` | the two services of gRPC |
//! | `node.rs`, `container.rs`, `web.rs` | what runs: sandboxes, containers, and the small web server |
//! | `streams.rs`, `tokens.rs` | what is behind the URLs |
//! | `captured.rs` | the output of `ExecSync` |
//! | `../pod-server` | processes with pipes or a terminal, and the services that connect a client |
//!
//! The reasons for its design:
//!
//! * tonic's own server serves no upgrades: it drops hyper's. But its routes are an axum
//!   router ([`Routes::into_axum_router`]), so the streams are more routes beside them, and
//!   any server for axum serves them.
//! * axum's `serve` does upgrades of HTTP/1.1, but can neither turn on the extended CONNECT
//!   of HTTP/2 (RFC 8441) nor set its windows and timeouts. So this uses hyper-util's
//!   server, as the other examples do.
//! * gRPC needs HTTP/2, while a WebSocket can use either version. The server looks at the
//!   first bytes of a connection. An HTTP/2 connection can carry both at the same time.
//! * The command travels with the gRPC request and waits behind its token: the URL holds
//!   nothing that could be changed.
//! * The code in `generated` is committed, so that a build needs no protoc.

mod captured;
mod container;
mod generated;
mod images;
mod node;
mod options;
mod runtime;
#[path = "../../support/serve.rs"]
mod serve;
mod streams;
#[cfg(test)]
mod tests;
mod tokens;
mod web;

use std::{fs, io, os::unix::fs::PermissionsExt, process::ExitCode, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Version},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use clap::Parser;
use pod_server::{process, reaper, signals};
use tokio::{
    net::{TcpListener, UnixListener},
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};
use tonic::service::Routes;
use tower_wsstream::Sessions;
use tracing_subscriber::EnvFilter;

use crate::{
    generated::{
        image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer,
    },
    images::Images,
    node::Node,
    options::Options,
    tokens::Tokens,
};

/// The time for the tasks of a server that has stopped, and after them for the processes that end
/// with it.
const STOP: Duration = Duration::from_secs(2);

/// Returns all services. Clients reach the streams at `base`, such as `http://127.0.0.1:8006`.
fn app(base: String, sessions: &Sessions) -> Router {
    let streams = Tokens::default();
    let runtime = runtime::Runtime::new(base, Node::default(), streams.clone());
    // The fallback comes with it, and answers unknown methods as gRPC's clients expect.
    let grpc = Routes::new(RuntimeServiceServer::new(runtime))
        .add_service(ImageServiceServer::new(Images::default()))
        .into_axum_router();
    grpc.layer(from_fn(http_2_only))
        .merge(streams::routes(streams, sessions))
}

/// Refuses HTTP/1.1, as tonic's own server does. In addition, no page of a browser can ask
/// for commands here, because browsers do not speak HTTP/2 without TLS.
async fn http_2_only(request: Request, next: Next) -> Response {
    match request.version() {
        Version::HTTP_2 => next.run(request).await,
        _ => (
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "gRPC is HTTP/2 only\n",
        )
            .into_response(),
    }
}

async fn run(options: &Options) -> io::Result<()> {
    signals::catch_ignored();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;

    let listener = TcpListener::bind(options.stream).await?;
    // Left by a server that was killed. Fails if there is none.
    let _ = fs::remove_file(&options.socket);
    let socket = UnixListener::bind(&options.socket)?;
    fs::set_permissions(&options.socket, fs::Permissions::from_mode(0o600))?;
    let base = format!("http://{}", listener.local_addr()?);
    println!("gRPC at unix://{}", options.socket.display());
    println!("gRPC and streams at {base}");

    let sessions = Sessions::default();
    let app = app(base, &sessions);
    let (stopping, stop) = watch::channel(());
    let told = |mut stop: watch::Receiver<()>| async move { stop.changed().await };
    let tcp = serve::serve(listener, app.clone(), sessions.clone(), told(stop.clone()));
    let unix = serve::serve(socket, app, sessions, told(stop));
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopping.send_replace(());
    };
    tokio::join!(tcp, unix, stopped);
    let _ = fs::remove_file(&options.socket);
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
    let result = Runtime::new().and_then(|runtime| {
        let result = runtime.block_on(run(&options));
        // No process may be started any more, and those that run end with the tasks that hold them.
        let starting = async { timeout(STOP, process::stop_starting()).await };
        let _stopped = runtime.block_on(starting);
        runtime.shutdown_timeout(STOP);
        reaper::wait_for_all(STOP);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cri-server: {error}");
            ExitCode::FAILURE
        }
    }
}
