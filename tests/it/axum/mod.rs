//! The extractor for axum's handlers: one session for one upgrade, by the rules of a service, over
//! each transport.

mod acceptance;
mod handlers;
mod refusals;
mod sessions;

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::any,
};
use http_body_util::BodyExt;
use tokio::{
    io::AsyncWriteExt,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, EndCause, Rejection, SessionConfig, Sessions, WsStreamLayer,
    axum08::WsStreamUpgrade,
    subprotocols,
    testing::{Connect, Refused},
};

use crate::support::{
    self, AFTERWARDS, End, Head, LONG, config, echo, hears_its_echo, hold, http2, layer, protocols,
    read_out, refused_by, session, soon, tasks,
};

/// Returns a request for a session over each transport.
fn transports(path: &str) -> [Connect; 2] {
    support::transports(path).map(|connect| connect.offer(subprotocols::V5))
}

fn message(refused: &Refused) -> String {
    let status = refused.refusal().expect("a Status");
    status.message().unwrap_or_default().to_owned()
}

/// Returns a route whose sessions run a function, inside a layer.
fn route<F, Fut>(layer: WsStreamLayer, session: F) -> Router
where
    F: Fn(ChannelSet) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let handler = async move |State(layer): State<WsStreamLayer>, upgrade: WsStreamUpgrade| {
        upgrade.layer(&layer).on_upgrade(session).await
    };
    Router::new().route("/", any(handler)).with_state(layer)
}
