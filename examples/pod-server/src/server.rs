//! The tower stack, and the listener under it.

use std::convert::Infallible;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::ServiceBuilder;
use tower_wsstream::portforward::{self, PortForwardLayer};
use tower_wsstream::reader::WsReaderLayer;
use tower_wsstream::remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer};
use tower_wsstream::{BoxError, Sessions, WsStreamLayer, access::BearerSubprotocolLayer};

use crate::api::Api;
use crate::connection::Connections;
use crate::discovery::Subresource;
use crate::guard::Guard;
use crate::logs::Logs;
use crate::pod::Pod;
use crate::write_deadline::WriteDeadline;
use crate::{attach, exec, forward};

/// The kubelet's own: a shell that someone has left open over lunch is there
/// afterwards, and one that was forgotten is gone the next day. An attached
/// session is never idle while the pod's process prints.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60 * 60);

/// For a client of a plain answer that takes no byte of it: somebody who reads the page
/// at which a pager has stopped is not cut off, and a thousand clients that never read
/// give their descriptors back while the server can still be used. Until then a client
/// costs what the kernel holds for it, 4 MiB at most, and its place in the log.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// After a failed accept: out of descriptors as a rule, which lasts until a
/// connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever, over TLS if there is an acceptor for it. A session in which
/// no data has moved for `idle_timeout` is ended; all are counted in `sessions`.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    guard: Guard,
    pod: Pod,
    idle_timeout: Option<Duration>,
    sessions: Sessions,
) {
    let service = {
        let pod = pod.clone();
        move |command| session(pod.clone(), command)
    };
    let stack = ServiceBuilder::new()
        .layer(
            WsStreamLayer::new(Protocols::default())
                .idle_timeout(idle_timeout)
                .sessions(sessions.clone()),
        )
        .layer(RemoteCommandLayer::new())
        .service_fn(service);
    let forward = ServiceBuilder::new()
        .layer(
            WsStreamLayer::new(portforward::Protocols::default())
                .idle_timeout(idle_timeout)
                .sessions(sessions.clone()),
        )
        .layer(PortForwardLayer::new())
        .service_fn(forward::run);
    // Plain requests pass through it.
    let logs = ServiceBuilder::new()
        .layer(
            WsReaderLayer::new()
                .ping(true)
                .idle_timeout(idle_timeout)
                .sessions(sessions),
        )
        .service(Logs::new(pod.clone()));
    let api = Api::new(guard, pod, stack, forward, logs);
    let server = ServiceBuilder::new()
        // In front of the guard, with which the API begins: a browser's token comes
        // among its subprotocols.
        .layer(BearerSubprotocolLayer::new())
        .service_fn(move |request: Request<Incoming>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
    let connections = Connections::new(tls, server);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                nodelay(&stream);
                let deadline = WriteDeadline::set(&stream, WRITE_TIMEOUT)
                    .inspect_err(|error| tracing::debug!(%error, "no write deadline"));
                // The handshake of TLS included: whoever is slow at it keeps
                // nobody else out.
                tokio::spawn(connections.clone().serve(stream, deadline.ok()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The library cannot set it: it sees the connection only after the upgrade.
/// Without it a keystroke's echo waits for an acknowledgement.
fn nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
}

/// The service under the stack: what a session does is told by an extension of
/// its request.
async fn session(pod: Pod, command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let head = command.request.as_ref();
    match head.and_then(|head| head.extensions.get::<Subresource>()) {
        Some(Subresource::Attach) => attach::run(pod, command).await,
        _ => exec::run(command).await,
    }
}
