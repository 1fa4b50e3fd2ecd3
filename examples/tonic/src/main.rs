//! gRPC and exec on one port: a container runtime as the kubelet sees it.
//!
//!     cargo run --manifest-path examples/tonic/Cargo.toml
//!
//! Then, in another terminal, in `examples/tonic`; the first prints a URL that is good
//! once and for a minute, the second wants the end of it:
//!
//!     grpcurl -plaintext -import-path src/generated -proto runtime.proto \
//!         -d '{"container_id": "demo", "cmd": ["sh", "-c", "echo hello; exit 3"], "stdout": true}' \
//!         127.0.0.1:8006 runtime.v1.RuntimeService/Exec
//!     npx wscat -s v4.base64.channel.k8s.io -c ws://127.0.0.1:8006/exec/TOKEN
//!
//! `1` comes, which says that the session is ready, `1aGVsbG8K`, "hello" on channel 1,
//! and on channel 3 a Status with the exit code. The same URL once more is 404.
//!
//! This is the streaming of the Container Runtime Interface: `Exec` answers with a URL,
//! and the API server, or whoever has that URL, opens a WebSocket there. **What it runs,
//! it runs on this machine**, for everybody who can reach the port.
//!
//! Why it is built so:
//!
//! * tonic's own server serves no upgrades: it drops hyper's. Its routes are an axum
//!   router, though ([`Routes::into_axum_router`]), beside which `/exec` is one more
//!   route; and a router is served by whatever serves axum.
//! * axum's `serve` does upgrades of HTTP/1.1, but cannot turn on the extended CONNECT
//!   of HTTP/2 (RFC 8441), nor set its windows and timeouts: so hyper-util's server, as
//!   in the other examples.
//! * gRPC has to be HTTP/2, a WebSocket can be either. The server looks at the first
//!   bytes of a connection, and one of HTTP/2 can carry both at the same time.
//! * The command travels with the gRPC request and waits behind its token: the URL holds
//!   nothing that could be changed.
//! * The code in `generated` is committed, so that nobody needs protoc.

mod exec;
mod generated;
mod runtime;
#[path = "../../support/serve.rs"]
mod serve;
#[cfg(test)]
mod tests;
mod tokens;

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, Version},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, signal::ctrl_c};
use tonic::service::Routes;
use tower_wsstream::{BoxError, Sessions};

use crate::{
    generated::runtime_service_server::RuntimeServiceServer, runtime::Runtime, tokens::Tokens,
};

/// Both services. `base` is what clients reach them by, such as `http://127.0.0.1:8006`.
fn app(base: String, sessions: &Sessions) -> Router {
    let commands = Tokens::default();
    let runtime = RuntimeServiceServer::new(Runtime::new(base, commands.clone()));
    // With its fallback, which tells gRPC's clients what is not there as they expect it.
    let grpc = Routes::new(runtime).into_axum_router();
    grpc.layer(from_fn(http_2_only))
        .merge(exec::routes(commands, sessions))
}

/// As tonic's own server has it. And no page of a browser speaks HTTP/2 without TLS, so
/// none can ask for commands here.
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

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:8006").await?;
    let base = format!("http://{}", listener.local_addr()?);
    println!("gRPC and exec at {base}");
    let sessions = Sessions::default();
    serve::serve(listener, app(base, &sessions), sessions, ctrl_c()).await;
    Ok(())
}
