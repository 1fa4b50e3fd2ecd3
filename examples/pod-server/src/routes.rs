//! The server as a `Router`: a route for each subresource, and the layers on it.
//!
//! The paths of a kubelet stand beside those of an API server, so that a real API server can
//! stand in front. They lead to the same services.

use std::time::Duration;

use axum::{
    Extension, Router,
    middleware::{from_extractor, from_fn_with_state},
    routing::any_service,
};
use tower::{Layer, ServiceBuilder};
use tower_http::{normalize_path::NormalizePathLayer, trace::TraceLayer};
use tower_wsstream::{
    ChannelSet, SessionConfig, Sessions, StreamingLayer,
    access::{BearerSubprotocolLayer, SessionPermits},
    policy::KeepAlive,
    portforward::PortForwardLayer,
    reader::WsReaderLayer,
    remotecommand::{RemoteCommand, RemoteCommandLayer},
    session::Peer,
};

use crate::{
    acknowledge, attach, discovery, exec, forward,
    guard::{self, Guard},
    logs,
    overview::Overview,
    permit,
    pod::Pod,
    refusal::{not_found, wrong_method},
    target::Target,
    trace, web,
};

/// The path of a pod at an API server.
const POD: &str = "/api/v1/namespaces/{namespace}/pods/{pod}";

/// The limits of the sessions.
pub(crate) struct Limits {
    /// A session without data for this long is ended.
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) keep_alive: KeepAlive,
    /// Sessions of all kinds take their permits from here. All clients share one key, because the
    /// server does not tell them apart.
    pub(crate) permits: SessionPermits<()>,
    /// Sessions beyond that, which live until their clients were told so.
    pub(crate) refusals: SessionPermits<()>,
}

/// Builds the whole server. Its sessions are counted in `sessions`, which can drain them.
pub(crate) fn router(pod: &Pod, guard: Guard, limits: &Limits, sessions: &Sessions) -> Router {
    let overview = Overview::new(sessions.clone());
    let config = SessionConfig::default()
        .idle_timeout(limits.idle_timeout)
        .keep_alive(limits.keep_alive)
        .sessions(sessions.clone())
        .on_end({
            let overview = overview.clone();
            move |summary| overview.remember(summary)
        });
    let trace = TraceLayer::new_for_http()
        .make_span_with(trace::span)
        .on_request(())
        .on_response(trace::log_answer)
        .on_failure(());
    let router = subresources(pod, &config, limits)
        .merge(discovery::router(pod.clone()))
        .merge(overview.router())
        .fallback(async || not_found("the server could not find the requested resource"))
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(guard.clone(), guard::check));
    let page = web::router()
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(guard, guard::check_page));
    let router = router.merge(page).layer(
        ServiceBuilder::new()
            // In front of the guard, which reads the token, and of everything that logs: a browser
            // sends its token among its subprotocols.
            .layer(BearerSubprotocolLayer::new())
            .layer(trace),
    );
    // In front of the routes, because it changes the path that they match. It trims the end only:
    // a doubled slash inside of a path is not found.
    let trimmed = NormalizePathLayer::trim_trailing_slash().layer(router);
    Router::new().fallback_service(trimmed)
}

/// The routes whose requests become sessions.
fn subresources(pod: &Pod, config: &SessionConfig, limits: &Limits) -> Router {
    let Limits {
        permits, refusals, ..
    } = limits;
    let commands = ServiceBuilder::new()
        .map_request(acknowledge::prepare)
        .layer(StreamingLayer::new(acknowledge::Protocols).config(config.clone()))
        .map_request(acknowledge::connect)
        .layer(RemoteCommandLayer::new())
        // Inside, because kubectl shows no answer but a Status.
        .filter(permit::until_closed_or_told(
            permits,
            refusals,
            |it: &RemoteCommand| &it.session,
        ));
    let exec = commands.clone().service_fn(exec::run);
    let attach = commands.service_fn({
        let pod = pod.clone();
        move |command| attach::run(pod.clone(), command)
    });
    let forward = ServiceBuilder::new()
        .map_response(forward::log_answer)
        .layer(StreamingLayer::new(forward::protocols()).config(config.clone()))
        // Inside of the next layer, each port would take a permit.
        .filter(permit::until_closed(permits, ChannelSet::session))
        .layer(PortForwardLayer::new())
        .service_fn(forward::run);
    // Plain requests pass through this layer: the log is an ordinary answer as well.
    let log = ServiceBuilder::new()
        .layer(WsReaderLayer::new().config(config.clone()).ping(true))
        .service(logs::route(pod.clone(), permits.clone()));

    // Any method: a WebSocket begins with a GET, or with a CONNECT over HTTP/2, and SPDY with a
    // POST. The names stand for the peers in the list of the sessions, because the server does not
    // tell its clients apart.
    let named = |name: &str| Extension(Peer::new(name));
    let exec = any_service(exec).layer(named("exec"));
    let attach = any_service(attach).layer(named("attach"));
    let forward = any_service(forward).layer(named("port-forward"));
    let log = any_service(log).layer(named("log"));
    Router::new()
        .route(&format!("{POD}/exec"), exec.clone())
        .route("/exec/{namespace}/{pod}/{container}", exec.clone())
        .route("/exec/{namespace}/{pod}/{uid}/{container}", exec)
        .route(&format!("{POD}/attach"), attach.clone())
        .route("/attach/{namespace}/{pod}/{container}", attach.clone())
        .route("/attach/{namespace}/{pod}/{uid}/{container}", attach)
        .route(&format!("{POD}/portforward"), forward.clone())
        .route("/portForward/{namespace}/{pod}", forward.clone())
        .route("/portForward/{namespace}/{pod}/{uid}", forward)
        .route(&format!("{POD}/log"), log.clone())
        .route("/containerLogs/{namespace}/{pod}/{container}", log.clone())
        .route("/containerLogs/{namespace}/{pod}/{uid}/{container}", log)
        .route_layer(from_extractor::<Target>())
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
