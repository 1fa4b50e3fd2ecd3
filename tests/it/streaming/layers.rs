//! Both transports behind one layer, and other layers around and inside of it.

use http::Request;
use hyper::body::Incoming;
use tokio_test::{assert_pending, assert_ready_err, assert_ready_ok};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    SessionConfig,
    access::{SessionRateLimitLayer, UpgradeIntent, UpgradeIntentLayer},
    body::{NoBody, ResponseBody},
    policy::Limits,
};

use super::*;
use crate::support::secs;

fn websocket() -> Head {
    Head::to(EXEC).offer("v5.channel.k8s.io")
}

#[tokio::test(start_paused = true)]
async fn one_layer_serves_both_transports() {
    let (kept, sessions) = (Kept::default(), Sessions::default());
    let service = StreamingLayer::new(Protocols::default())
        .sessions(sessions.clone())
        .layer(kept.service());
    let mut wires = Vec::new();
    for (head, upgrade, subprotocol) in [
        (websocket(), "websocket", "v5.channel.k8s.io"),
        (post(&CLIENT_GO), "SPDY/3.1", "v4.channel.k8s.io"),
        (
            websocket()
                .without("Upgrade")
                .with("Upgrade", "SPDY/3.1, websocket"),
            "websocket",
            "v5.channel.k8s.io",
        ),
    ] {
        let (request, wire) = hold(&head).await;
        wires.push(wire);
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["upgrade"], upgrade);
        assert_eq!(kept.take().subprotocol(), subprotocol);
    }
    assert_eq!(sessions.len(), 3);

    // A drain refuses both.
    sessions.close();
    for head in [websocket(), post(&CLIENT_GO)] {
        refused(service.clone(), &head, 503, RejectionKind::Draining).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_neither_is_426_or_goes_to_the_fallback() {
    let layer = StreamingLayer::new(Protocols::default());
    let service = layer.layer(Kept::default().service());
    let told = refused(service, &Head::plain("/"), 426, RejectionKind::NotAnUpgrade).await;
    assert_eq!(
        sorted(&told.headers),
        [
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("upgrade", "websocket, SPDY/3.1"),
        ]
    );
    let fallback = service_fn(async |_: http::Request<hyper::body::Incoming>| {
        Ok::<_, BoxError>(Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
    });
    let service = layer.fallback(fallback).layer(Kept::default().service());
    let (request, _wire) = hold(&Head::plain("/")).await;
    assert_eq!(
        service.clone().oneshot(request).await.unwrap().status(),
        200
    );
    // An invalid request for SPDY does not go there.
    let (request, _wire) = hold(&post(&[])).await;
    let response = service.oneshot(request).await.unwrap();
    refusal(response, 400, RejectionKind::BadRequest).await;
}

#[tokio::test(start_paused = true)]
async fn a_setting_holds_for_both_transports() {
    let config = SessionConfig::default().upgrade_timeout(std::time::Duration::ZERO);
    let both = StreamingLayer::new(Protocols::default()).config(config);
    assert!(both.check().is_err());
    let service = both.layer(Kept::default().service());
    for head in [websocket(), post(&CLIENT_GO)] {
        refused(service.clone(), &head, 500, RejectionKind::Config).await;
    }
    let spdy = layer().limits(Limits::default()).idle_timeout(secs(1));
    assert!(spdy.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_limit_inside_counts_both_transports() {
    let kept = Kept::default();
    let service = ServiceBuilder::new()
        .layer(StreamingLayer::new(Protocols::default()))
        .load_shed()
        .concurrency_limit(1)
        .service(kept.service());
    let (request, _wire) = hold(&post(&CLIENT_GO)).await;
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 101);
    for head in [websocket(), post(&CLIENT_GO)] {
        refused(service.clone(), &head, 503, RejectionKind::Overloaded).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_rate_counts_both_transports() {
    let service = ServiceBuilder::new()
        .layer(StreamingLayer::new(Protocols::default()))
        .layer(SessionRateLimitLayer::new(1, secs(60)))
        .service(Kept::default().service());
    let (request, _wire) = hold(&websocket()).await;
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 101);
    let (request, _wire) = hold(&post(&CLIENT_GO)).await;
    let response = service.oneshot(request).await.unwrap();
    refusal(response, 429, RejectionKind::RateLimited).await;
}

/// Authorisation sees an exec by POST, which is no plain request.
#[tokio::test(start_paused = true)]
async fn an_intent_tells_both_transports() {
    for (head, [websocket, spdy]) in [
        (websocket(), [true, false]),
        (post(&CLIENT_GO), [false, true]),
        (Head::plain("/"), [false, false]),
    ] {
        let (request, _wire) = hold(&head).await;
        let asked = ServiceBuilder::new()
            .layer(UpgradeIntentLayer::new())
            .service_fn(async |request: http::Request<_>| {
                let intent = *request.extensions().get::<UpgradeIntent>().unwrap();
                Ok::<_, BoxError>((intent, request.map(|_: hyper::body::Incoming| ())))
            });
        let (intent, _) = asked.oneshot(request).await.unwrap();
        assert_eq!([intent.is_websocket(), intent.is_spdy()], [websocket, spdy]);
        assert_eq!(intent.is_upgrade(), websocket || spdy);
    }
}

#[tokio::test(start_paused = true)]
async fn a_layer_for_spdy_only_leaves_websocket_to_the_fallback() {
    let fallback = service_fn(async |_: http::Request<hyper::body::Incoming>| {
        Ok::<_, BoxError>(Response::new(http_body_util::Empty::<bytes::Bytes>::new()))
    });
    let service = layer().fallback(fallback).layer(Kept::default().service());
    for (head, status) in [(websocket(), 200), (post(&CLIENT_GO), 101)] {
        let (request, _wire) = hold(&head).await;
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
    }
}

/// The service is called and polled once before the answer, and nothing is spawned for a request
/// that is given up.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_before_its_answer_leaves_nothing() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .concurrency_limit(1)
        .service(Kept::default().service());
    let (request, _wire) = hold(&post(&CLIENT_GO)).await;
    let held = service.clone().oneshot(request).await.unwrap();
    assert_eq!(held.status(), 101);
    let before = tasks();
    let (request, _second) = hold(&post(&CLIENT_GO)).await;
    let mut waiting = tokio_test::task::spawn(service.oneshot(request));
    tokio_test::assert_pending!(waiting.poll());
    drop(waiting);
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_fallbacks_alone() {
    type Fallback = tower_test::mock::Mock<Request<Incoming>, Response<ResponseBody<NoBody>>>;
    for spdy_only in [false, true] {
        let (inner, mut inner_handle) = tower_test::mock::pair::<ChannelSet, ()>();
        let (fallback, mut handle): (Fallback, _) = tower_test::mock::pair();
        inner_handle.allow(0);
        handle.allow(0);
        let layer = match spdy_only {
            true => layer(),
            false => StreamingLayer::new(Protocols::default()),
        };
        let mut service = tokio_test::task::spawn(layer.fallback(fallback).layer(inner));
        let mut poll = || service.enter(|cx, mut service| service.poll_ready(cx));
        assert_pending!(poll());
        handle.allow(1);
        assert_ready_ok!(poll());
        handle.send_error("the fallback is gone");
        assert_ready_err!(poll());
    }
}
