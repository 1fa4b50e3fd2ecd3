//! Port-forward, for kubectl and for clients of channels.
//!
//!     cargo run --example portforward --features spdy
//!     kubectl --kubeconfig /dev/null --server http://127.0.0.1:8011 port-forward demo 9000:8011
//!     curl http://127.0.0.1:9000/api
//!
//! The last command prints the document of this server, which it has reached through the
//! forward. **It forwards to ports of your machine**, and has no authentication: add some
//! before others can reach it.
//!
//! kubectl from 1.31 on uses a tunnel in a WebSocket, and earlier ones SPDY by POST. kube-rs
//! and the clients for Python and JavaScript use channels. `examples/pod-server/src/forward.rs`
//! is the large one: it tells a pod of an upload that was cut off, and uses large frames.

#[path = "support/documents.rs"]
mod documents;
#[path = "support/serve.rs"]
mod serve;

use std::time::Duration;

use axum::Router;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    signal::ctrl_c,
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, Sessions, StreamingLayer,
    portforward::{ForwardedPort, PortForwardLayer, Protocols, Stall},
};

/// The time for which a target may read nothing, before its connection makes room for the
/// others. kubectl gives up on connections that wait for 30 s.
const STALL: Duration = Duration::from_secs(20);

/// Connects a client to a port of this machine.
async fn forward(mut port: ForwardedPort) -> Result<(), BoxError> {
    // A failure up to here refuses this one connection.
    let mut target = TcpStream::connect(("127.0.0.1", port.port)).await?;
    target.set_nodelay(true)?;
    copy_bidirectional(&mut port.stream, &mut target).await?;
    Ok(())
}

fn app(sessions: &Sessions) -> Router {
    let protocols = Protocols::default().on_stall(Stall::ResetAfter(STALL));
    let forward = ServiceBuilder::new()
        .layer(StreamingLayer::new(protocols).sessions(sessions.clone()))
        .load_shed()
        .concurrency_limit(64) // sessions
        .layer(PortForwardLayer::new())
        .load_shed()
        .concurrency_limit(512) // connections of all sessions
        .service_fn(forward);
    // Every method: a WebSocket begins with a GET, and SPDY with a POST.
    documents::router().route_service(&format!("{}/portforward", documents::POD), forward)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:8011").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let sessions = Sessions::default();
    serve::serve(listener, app(&sessions), sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };
    use tower_wsstream::{
        subprotocols::V4,
        testing::{Client, Connect},
    };

    use super::*;

    /// A timeout that is long enough for any machine, so that only a test that hangs fails.
    const PATIENCE: Duration = Duration::from_secs(30);

    async fn forwarded(port: u16) -> Result<Client, BoxError> {
        let path = format!("{}/portforward?ports={port}", documents::POD);
        Connect::to(path)
            .offer(V4)
            .connect(app(&Sessions::default()))
            .await
    }

    #[tokio::test]
    async fn a_target_is_reached() -> Result<(), BoxError> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let target = tokio::spawn(async move {
            let (mut tcp, _) = listener.accept().await?;
            let mut asked = [0; 4];
            tcp.read_exact(&mut asked).await?;
            tcp.write_all(b"pong").await?;
            Ok::<_, std::io::Error>(asked)
        });
        let mut client = forwarded(port).await?;
        client.send(0, b"ping").await?;
        assert_eq!(&timeout(PATIENCE, target).await???, b"ping");
        client.close(Some(1000)).await?;
        // Both channels begin with the port.
        let told = client.read_to_end().await;
        assert_eq!(told.channel(0), [&port.to_le_bytes()[..], b"pong"].concat());
        assert_eq!(told.channel(1), port.to_le_bytes());
        Ok(())
    }

    #[tokio::test]
    async fn a_port_without_a_target_is_reported() -> Result<(), BoxError> {
        // Taken, and then free again.
        let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let told = forwarded(port).await?.read_to_end().await;
        let text = String::from_utf8(told.channel(1)[2..].to_vec())?;
        assert!(
            text.starts_with(&format!("error forwarding port {port}: ")),
            "{text}"
        );
        Ok(())
    }
}
