//! `AcceptMode::Explicit`: the answer waits for the decision of the service.

mod accepted;
mod close;
mod commands;
mod late;
mod mapping;
mod refused;

use std::{
    future::{pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready, assert_ready_err};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::GlobalConcurrencyLimitLayer, service_fn,
};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, ChannelWriter, EndCause, Rejection, RejectionKind, Session,
    SessionConfig, Status, WsStream, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Connect, Transcript},
};

use crate::support::{
    Answer, Dropped, EXACT, Head, HttpService, LONG, Wire, cause, frame, hold, read_head, refusal,
    refused, refused_by, secs, serve_in_memory, soon, standard, tasks,
};

fn layer() -> WsStreamLayer {
    standard().config(config())
}

fn config() -> SessionConfig {
    SessionConfig::default().accept(AcceptMode::Explicit)
}

type Serviced<F> = WsStream<tower::util::ServiceFn<F>>;

fn explicit<F, Fut>(function: F) -> Serviced<F>
where
    F: FnMut(ChannelSet) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    layer().layer(service_fn(function))
}

/// Makes the handshake, and reads to the end.
async fn told(service: impl HttpService) -> Transcript {
    let client = soon(Connect::to("/").connect(service)).await.unwrap();
    soon(client.read_to_end()).await
}

/// Makes a handshake that is refused.
async fn refused_with(service: impl HttpService, connect: Connect) -> (StatusCode, Status) {
    let refused = refused_by(connect, service).await;
    (refused.status(), refused.refusal().expect("a Status"))
}

/// A look-up that takes a while.
async fn look_up() {
    for _ in 0..3 {
        sleep(Duration::from_millis(700)).await;
        tokio::task::yield_now().await;
    }
}

/// A session whose writer the test holds, and which is accepted when the test says so.
struct Undecided {
    answer: Pin<Box<dyn Future<Output = Response<Answer>> + Send>>,
    wire: Wire,
    writer: ChannelWriter,
    session: Session,
}

/// Makes a handshake that waits until the test accepts it.
async fn undecided() -> Undecided {
    let (gives, mut given) = mpsc::unbounded_channel();
    let service = explicit(move |mut set: ChannelSet| {
        let gives = gives.clone();
        async move {
            let session = set.session().clone();
            let _ = gives.send((set.take_writer(1).unwrap(), session));
            let _set = set;
            pending().await
        }
    });
    let (request, wire) = hold(&Head::to("/")).await;
    let mut answer: Pin<Box<dyn Future<Output = Response<Answer>> + Send>> =
        Box::pin(service.oneshot(request).map(Result::unwrap));
    let first = poll_fn(|cx| Poll::Ready(answer.as_mut().poll(cx).is_pending())).await;
    assert!(first, "undecided");
    let (writer, session) = given.try_recv().unwrap();
    Undecided {
        answer,
        wire,
        writer,
        session,
    }
}

impl Undecided {
    /// Lets the answer leave, and reads it.
    async fn accepted(self) -> (tokio::io::DuplexStream, ChannelWriter, Session) {
        let response = soon(self.answer).await;
        assert_eq!(response.status(), 101);
        let mut client = self.wire.answer(response);
        let head = soon(read_head(&mut client)).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        (client, self.writer, self.session)
    }
}
