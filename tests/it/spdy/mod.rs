//! SPDY: connections over streams, through the tunnel of kubectl and by POST.
//!
//! `tests/it/spdy/CHECKLIST.md` says which tests hold what those of Go's ends hold.

mod connections;
mod hostile;
mod idle;
mod pings;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::mpsc,
    time::{Instant, timeout},
};
use tower::{Layer, service_fn};
use tower_wsstream::{
    BoxError, EndCause, SessionConfig, StreamingLayer,
    portforward::{ForwardedPort, PortForwardLayer, Protocols},
};

use crate::support::{
    HttpService, TEXT, Watchdog, assert_after, frame, in_own_process, millis, secs, soon,
    spdy::{
        CANCEL, REFUSED, Said, Spdy, bomb, control, data, fin, go_away, headers, ping, reset,
        stored, syn,
    },
    tasks, within,
};

const PORT_FORWARD: &str = "portforward.k8s.io";

/// Returns a configuration without Pings.
fn config() -> SessionConfig {
    SessionConfig::default().keep_alive(None)
}

/// Opens a connection, and has the service answer it.
async fn answered(
    client: &mut Spdy<DuplexStream>,
    ports: &mut mpsc::UnboundedReceiver<ForwardedPort>,
) -> (u32, ForwardedPort) {
    let stream = client.connect(1, 80).await;
    let mut port = ports.recv().await.unwrap();
    port.stream.write_all(b"x").await.unwrap();
    let begun = [Said::Reply(stream), Said::data(stream, "x")];
    assert_eq!(client.take().await, begun);
    (stream, port)
}

/// Returns a service whose connections run a function.
fn forward<F, Fut>(function: F) -> impl HttpService
where
    F: FnMut(ForwardedPort) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    forward_in(config(), function)
}

fn forward_in<F, Fut>(config: SessionConfig, function: F) -> impl HttpService
where
    F: FnMut(ForwardedPort) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let layer = StreamingLayer::new(Protocols::default()).config(config);
    layer.layer(PortForwardLayer::new().layer(service_fn(function)))
}

/// Sends everything back, and ends when the client does.
async fn echo(mut port: ForwardedPort) -> Result<(), BoxError> {
    let (mut from, mut to) = tokio::io::split(&mut port.stream);
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await?;
    Ok(())
}

/// Opens a session in each way.
async fn both(service: impl HttpService) -> [Spdy<DuplexStream>; 2] {
    [
        Spdy::tunnel(service.clone()).await,
        Spdy::post(service, "/", PORT_FORWARD).await,
    ]
}

/// A service that passes its connections on to the test.
fn held() -> (impl HttpService, mpsc::UnboundedReceiver<ForwardedPort>) {
    held_in(config())
}

fn held_in(config: SessionConfig) -> (impl HttpService, mpsc::UnboundedReceiver<ForwardedPort>) {
    let (ports, taken) = mpsc::unbounded_channel();
    let service = forward_in(config, move |port| {
        let ports = ports.clone();
        async move {
            let _ = ports.send(port);
            // The connection ends when the test drops the session.
            std::future::pending().await
        }
    });
    (service, taken)
}
