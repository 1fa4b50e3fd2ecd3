//! Services and bodies inside each layer that panic, fail, are never ready or never end, at each
//! stage: the client gets an answer or a Close, and nothing is left running.

mod scenarios;

use std::{
    convert::Infallible,
    future::pending,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::response::IntoResponse;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::{Body, Frame};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Sleep, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_wsstream::{
    BoxError, ChannelSet, SessionConfig, Sessions, WsStreamLayer,
    axum08::WsStreamUpgrade,
    channel::tap::TapLayer,
    portforward::{self, ForwardedPort, PortForwardLayer},
    reader::WsReaderLayer,
    subprotocols,
};

use crate::support::{
    CLOSE, Raw, Watchdog,
    http2::{self, Connection},
    layer, serve, within,
};

/// A timeout that is longer than anything that ends by itself.
const LONG: Duration = Duration::from_secs(600);
const SECOND: Duration = Duration::from_secs(1);

/// The fault of a service or a body, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    NotReady,
    FailsToBeReady,
    PanicsInReady,
    PanicsInCall,
    PanicsAtOnce,
    FailsAtOnce,
    /// After the upgrade, and after one byte.
    PanicsLater,
    FailsLater,
    /// Panics once more when the future that panicked is dropped.
    PanicsTwice,
    PanicsInDrop,
    NeverEnds,
}

use Fault::*;

const ALL: [Fault; 11] = [
    NotReady,
    FailsToBeReady,
    PanicsInReady,
    PanicsInCall,
    PanicsAtOnce,
    FailsAtOnce,
    PanicsLater,
    FailsLater,
    PanicsTwice,
    PanicsInDrop,
    NeverEnds,
];

/// An event in the meantime that the client or the operator causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meanwhile {
    Waits,
    Closes,
    Leaves,
    Drains,
}

/// The layer around the faulty service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Reader,
    /// The fault is in the body, not in the service that makes the body.
    ReadersBody,
    Ports,
    Extractor,
    Tap,
    TapsFunction,
}

/// A guard that counts as running until it is dropped, and whose drop may panic.
struct Guard {
    fault: Fault,
    running: Arc<AtomicUsize>,
}

impl Guard {
    fn new(fault: Fault, running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self {
            fault,
            running: Arc::clone(running),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        let trap = matches!(self.fault, PanicsTwice | PanicsInDrop);
        assert!(!trap, "in the drop, on purpose");
    }
}

/// The future of a service. If it panics in its poll, its contents are dropped only when the layer
/// drops it.
struct Guarded<T> {
    future: Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>,
    _guard: Guard,
}

impl<T> Future for Guarded<T> {
    type Output = Result<T, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.future.as_mut().poll(cx)
    }
}

/// Commits the fault before the output of `say`, or one second after it.
async fn go_wrong(
    fault: Fault,
    say: impl Future<Output = Result<(), BoxError>>,
) -> Result<(), BoxError> {
    match fault {
        PanicsAtOnce => panic!("at once, on purpose"),
        FailsAtOnce => return Err("at once, on purpose".into()),
        _ => {}
    }
    say.await?;
    sleep(SECOND).await;
    match fault {
        PanicsLater | PanicsTwice => panic!("later, on purpose"),
        FailsLater => Err("later, on purpose".into()),
        PanicsInDrop => Ok(()),
        _ => pending().await,
    }
}

/// A faulty service over any request.
#[derive(Clone)]
struct Faulty<F> {
    fault: Fault,
    running: Arc<AtomicUsize>,
    function: F,
}

impl<F, Fut, R, T> Service<R> for Faulty<F>
where
    F: Fn(Fault, R) -> Fut,
    Fut: Future<Output = Result<T, BoxError>> + Send + 'static,
{
    type Response = T;
    type Error = BoxError;
    type Future = Guarded<T>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.fault {
            NotReady => Poll::Pending,
            FailsToBeReady => Poll::Ready(Err("not ready, on purpose".into())),
            PanicsInReady => panic!("in poll_ready, on purpose"),
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: R) -> Guarded<T> {
        assert!(self.fault != PanicsInCall, "in call, on purpose");
        Guarded {
            future: Box::pin((self.function)(self.fault, request)),
            _guard: Guard::new(self.fault, &self.running),
        }
    }
}

async fn session(fault: Fault, mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut output = channels.take_writer(1).ok_or("no channel 1")?;
    let say = async { Ok(output.write_all(b"x").await?) };
    go_wrong(fault, say).await
}

async fn port(fault: Fault, mut port: ForwardedPort) -> Result<(), BoxError> {
    let say = async { Ok(port.stream.write_all(b"x").await?) };
    go_wrong(fault, say).await
}

/// Answers with an empty response, or commits the fault, which no output precedes.
async fn answer(fault: Fault, _: Request<Incoming>) -> Result<Response<Empty<Bytes>>, BoxError> {
    go_wrong(fault, async { Ok(()) }).await?;
    Ok(Response::default())
}

/// A body of one byte, with a fault before it or one second after it.
struct FaultyBody {
    guard: Guard,
    said: bool,
    wait: Pin<Box<Sleep>>,
}

impl Body for FaultyBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let failure = || Poll::Ready(Some(Err(io::Error::other("on purpose"))));
        match self.guard.fault {
            PanicsAtOnce => panic!("at once, on purpose"),
            FailsAtOnce => return failure(),
            _ => {}
        }
        if !std::mem::replace(&mut self.said, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))));
        }
        ready!(self.wait.as_mut().poll(cx));
        match self.guard.fault {
            PanicsLater | PanicsTwice => panic!("later, on purpose"),
            FailsLater => failure(),
            PanicsInDrop => Poll::Ready(None),
            _ => Poll::Pending,
        }
    }
}
