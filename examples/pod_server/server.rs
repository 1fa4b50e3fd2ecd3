//! Accepts connections, and serves each until it ends or is upgraded.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceBuilder};
use tower_wsstream::portforward::{self, PortForwardLayer};
use tower_wsstream::remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer};
use tower_wsstream::{BoxError, WsStreamLayer};

use crate::api::Api;
use crate::discovery::Subresource;
use crate::guard::Guard;
use crate::pod::Pod;
use crate::{attach, exec, forward};

/// The kubelet's own: a shell that someone has left open over lunch is there
/// afterwards, and one that was forgotten is gone the next day. An attached
/// session is never idle while the pod's process prints.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(4 * 60 * 60);

/// From the first moment of a connection: one that says nothing costs a
/// descriptor, and whoever reaches the port can open many. Between requests it
/// runs again.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failed accept: out of descriptors as a rule, which lasts until a
/// connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever. A session in which no data has moved for `idle_timeout` is
/// ended.
pub(crate) async fn serve(
    listener: TcpListener,
    guard: Guard,
    pod: Pod,
    idle_timeout: Option<Duration>,
) {
    let service = {
        let pod = pod.clone();
        move |command| session(pod.clone(), command)
    };
    let stack = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).idle_timeout(idle_timeout))
        .layer(RemoteCommandLayer::new())
        .service_fn(service);
    let forward = ServiceBuilder::new()
        .layer(WsStreamLayer::new(portforward::Protocols::default()).idle_timeout(idle_timeout))
        .layer(PortForwardLayer::new())
        .service_fn(forward::run);
    let api = Api::new(guard, pod, stack, forward);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, api.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
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

async fn connection<S, F, C>(stream: TcpStream, api: Api<S, F>)
where
    S: Service<Request<Incoming>, Response = Response<C>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    F: Service<Request<Incoming>, Response = Response<C>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    F::Future: Send,
    C: http_body::Body<Data = Bytes> + Send + 'static,
    C::Error: Into<BoxError>,
{
    // The library cannot set it: it sees the connection only after the
    // upgrade. Without it a keystroke's echo waits for an acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was not set");
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(api.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}
