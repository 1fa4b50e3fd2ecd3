//! From a valid handshake to a session: the first poll, the answer, the upgrade.

mod answer;
mod dropped;
mod first_poll;
mod go;
mod readiness;
mod upgrade;

use std::{
    convert::Infallible,
    error::Error,
    fmt,
    future::{pending, poll_fn, ready},
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok};
use tokio_tungstenite::tungstenite::Message;
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt,
    limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer},
    service_fn,
};
use tower_wsstream::{
    BoxError, Channel, ChannelProtocols, ChannelSet, ChannelType, ChannelWriter, EndCause,
    Rejection, RejectionKind, Session, SessionConfig, WsStreamLayer,
    body::{NoBody, ResponseBody},
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Connect, Received},
};

use crate::support::{
    ACCEPT, Answer, Dropped, Head, LONG, TOKEN, cause, frame, hold, read_head, refusal, serve,
    serve_in_memory, soon, sorted, speak, standard, tasks,
};

trait Inner:
    Service<ChannelSet, Response = (), Error = BoxError, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<S> Inner for S where
    S: Service<ChannelSet, Response = (), Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// Puts a service behind a limit of one session, and returns the permits of the limit too.
fn with_one_place<F, S>(
    layer: WsStreamLayer<F>,
    inner: S,
) -> (
    <WsStreamLayer<F> as Layer<ConcurrencyLimit<S>>>::Service,
    Arc<Semaphore>,
)
where
    WsStreamLayer<F>: Layer<ConcurrencyLimit<S>>,
{
    let places = Arc::new(Semaphore::new(1));
    let limit = GlobalConcurrencyLimitLayer::with_semaphore(Arc::clone(&places));
    (layer.layer(limit.layer(inner)), places)
}

/// Returns a service that hands its channels to the test, and never ends.
fn handing() -> (impl Inner, mpsc::UnboundedReceiver<ChannelSet>) {
    let (sets, set) = mpsc::unbounded_channel();
    let service = service_fn(move |set: ChannelSet| {
        let _ = sets.send(set);
        pending::<Result<(), BoxError>>()
    });
    (service, set)
}

/// Lets all tasks run that can.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}
