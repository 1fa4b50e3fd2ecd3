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
use tower_wsstream::remotecommand::{Protocols, RemoteCommandLayer};
use tower_wsstream::{BoxError, WsStreamLayer};

use crate::api::Api;
use crate::exec;
use crate::guard::Guard;

/// From the first moment of a connection: one that says nothing costs a
/// descriptor, and whoever reaches the port can open many. Between requests it
/// runs again.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// After a failed accept: out of descriptors as a rule, which lasts until a
/// connection ends.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, guard: Guard) {
    let stack = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service_fn(exec::run);
    let api = Api::new(guard, stack);
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

async fn connection<S, C>(stream: TcpStream, api: Api<S>)
where
    S: Service<Request<Incoming>, Response = Response<C>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
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
