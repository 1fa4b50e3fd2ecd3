//! Refusals before the 101, each of which is an HTTP answer.

mod afterwards;
mod head;
mod panics;
mod service;

use std::{
    convert::Infallible,
    future::{Future, Ready, poll_fn, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, Rejection, RejectionKind, SessionConfig,
    WsStream, WsStreamLayer,
    policy::{Limits, OriginPolicy},
    remotecommand,
};

use crate::support::{
    Head, KEY, Refusal, SERVICE_FAILED, hold, read_head, refusal, refused, sorted, tasks,
};

fn table() -> ChannelProtocols {
    ChannelProtocols::standard([ChannelType::Read, ChannelType::Write]).unwrap()
}

/// The calls of a probe.
#[derive(Debug, Default)]
struct Counts {
    clones: AtomicUsize,
    polls: AtomicUsize,
    calls: AtomicUsize,
}

/// A service that counts its calls, and is always ready.
#[derive(Debug, Default)]
struct Probe {
    counts: Arc<Counts>,
}

impl Clone for Probe {
    fn clone(&self) -> Self {
        self.counts.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            counts: Arc::clone(&self.counts),
        }
    }
}

impl Service<ChannelSet> for Probe {
    type Response = ();
    type Error = BoxError;
    type Future = Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.counts.polls.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _channels: ChannelSet) -> Self::Future {
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
        ready(Ok(()))
    }
}

impl Probe {
    fn asked(&self) -> [usize; 3] {
        let counts = [&self.counts.clones, &self.counts.polls, &self.counts.calls];
        counts.map(|count| count.load(Ordering::Relaxed))
    }
}

/// Checks a refusal by the head alone, for which the inner service is not even cloned.
async fn refused_by_head(
    layer: WsStreamLayer,
    head: &Head,
    status: u16,
    kind: RejectionKind,
) -> Refusal {
    let probe = Probe::default();
    let service = layer.layer_on(Probe {
        counts: Arc::clone(&probe.counts),
    });
    let refusal = refused(service, head, status, kind).await;
    assert_eq!(probe.asked(), [0; 3], "clones, readiness, calls");
    refusal
}

trait LayerOn {
    fn layer_on<S>(&self, inner: S) -> WsStream<S>;
}

impl LayerOn for WsStreamLayer {
    fn layer_on<S>(&self, inner: S) -> WsStream<S> {
        tower::Layer::layer(self, inner)
    }
}

/// Proves that the counts of the other tests can differ.
#[tokio::test(start_paused = true)]
async fn an_accepted_handshake_spawns_one_task_and_asks_a_clone() {
    let probe = Probe::default();
    let service = WsStreamLayer::new(table()).layer_on(Probe {
        counts: Arc::clone(&probe.counts),
    });
    let (request, _wire) = hold(&Head::to("/")).await;
    let before = tasks();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert!(response.extensions().get::<Rejection>().is_none());
    assert_eq!(tasks(), before + 1);
    assert_eq!(probe.asked(), [1; 3]);
}

fn layer() -> WsStreamLayer {
    WsStreamLayer::new(table())
}
