//! gRPC and exec on one port: a container runtime as the kubelet sees it.
//!
//!     cargo run --manifest-path examples/tonic/Cargo.toml
//!
//! Then, in another terminal, in `examples/tonic`. The first command prints a URL that is
//! valid once and for a minute. The second needs the token at its end:
//!
//!     grpcurl -plaintext -import-path src/generated -proto runtime.proto \
//!         -d '{"container_id": "demo", "cmd": ["sh", "-c", "echo hello; exit 3"], "stdout": true}' \
//!         127.0.0.1:8006 runtime.v1.RuntimeService/Exec
//!     npx wscat -s v4.base64.channel.k8s.io -c ws://127.0.0.1:8006/exec/TOKEN
//!
//! wscat prints `1`, which says that the session is ready, then `1aGVsbG8K`, which is
//! "hello" on channel 1, and on channel 3 a Status with the exit code. A second use of the
//! URL is answered with 404.
//!
//! This is the streaming of the Container Runtime Interface: `Exec` answers with a URL,
//! and the API server, or any other client with that URL, opens a WebSocket there. **The
//! commands run on this machine**, for every client that can reach the port.
//!
//! The reasons for its design:
//!
//! * tonic's own server serves no upgrades: it drops hyper's. But its routes are an axum
//!   router ([`Routes::into_axum_router`]), so `/exec` is one more route beside them, and
//!   any server for axum serves them.
//! * axum's `serve` does upgrades of HTTP/1.1, but can neither turn on the extended CONNECT
//!   of HTTP/2 (RFC 8441) nor set its windows and timeouts. So this uses hyper-util's
//!   server, as the other examples do.
//! * gRPC needs HTTP/2, while a WebSocket can use either version. The server looks at the
//!   first bytes of a connection. An HTTP/2 connection can carry both at the same time.
//! * The command travels with the gRPC request and waits behind its token: the URL holds
//!   nothing that could be changed.
//! * The code in `generated` is committed, so that a build needs no protoc.

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

/// Returns both services. Clients reach them at `base`, such as `http://127.0.0.1:8006`.
fn app(base: String, sessions: &Sessions) -> Router {
    let commands = Tokens::default();
    let runtime = RuntimeServiceServer::new(Runtime::new(base, commands.clone()));
    // The fallback comes with it, and answers unknown methods as gRPC's clients expect.
    let grpc = Routes::new(runtime).into_axum_router();
    grpc.layer(from_fn(http_2_only))
        .merge(exec::routes(commands, sessions))
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

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:8006").await?;
    let base = format!("http://{}", listener.local_addr()?);
    println!("gRPC and exec at {base}");
    let sessions = Sessions::default();
    serve::serve(listener, app(base, &sessions), sessions, ctrl_c()).await;
    Ok(())
}
