//! Stacks as routes of axum: `Router::route_service` requires `Sync` as well.

use std::convert::Infallible;

use ::axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower_wsstream::{WsStream, access::SessionRateLimitLayer};

use super::*;

/// Adds a route whose type can be named.
type Route = BoxCloneSyncService<Request, Response, Infallible>;

fn boxed() -> Route {
    ServiceBuilder::new()
        .boxed_clone_sync()
        .map_response(|answer: http::Response<_>| answer.map(Body::new))
        .layer(standard())
        .load_shed()
        .layer(SessionRateLimitLayer::new(20, secs(1)))
        .concurrency_limit(64)
        .service_fn(echo)
}

#[tokio::test(start_paused = true)]
async fn a_boxed_stack_is_a_route() {
    let app = Router::new()
        .route("/page", get(async || "page"))
        .route_service("/echo", boxed());
    let mut client = soon(Connect::to("/echo").connect(app.clone()))
        .await
        .unwrap();
    hears_its_echo(&mut client).await;
    finish(client).await;

    let (request, _wire) = hold(&Head::plain("/echo")).await;
    let answer = app.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    let (request, _wire) = hold(&Head::plain("/page")).await;
    assert_eq!(app.oneshot(request).await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_stack_over_a_boxed_service_is_a_route() {
    let inner: BoxCloneSyncService<ChannelSet, (), BoxError> =
        BoxCloneSyncService::new(service_fn(echo));
    let service: WsStream<_> = tower::Layer::layer(&standard(), inner);
    let app = Router::new().route_service("/echo", service);
    let mut client = soon(Connect::to("/echo").connect(app)).await.unwrap();
    hears_its_echo(&mut client).await;
    finish(client).await;
}

#[tokio::test(start_paused = true)]
async fn a_buffered_stack_is_a_route() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .load_shed()
        .buffer(16)
        .rate_limit(20, secs(1))
        .service_fn(echo);
    let app = Router::new().route_service("/echo", service);
    let mut client = soon(Connect::to("/echo").connect(app)).await.unwrap();
    hears_its_echo(&mut client).await;
    finish(client).await;
}

/// Shows why the box has to be this one.
#[test]
fn a_stack_is_sync_if_its_box_is() {
    assert_eq!(
        types::traits!(WsStream<BoxCloneService<ChannelSet, (), BoxError>>),
        "Send Clone Unpin"
    );
    assert_eq!(
        types::traits!(WsStream<BoxCloneSyncService<ChannelSet, (), BoxError>>),
        "Send Sync Clone Unpin"
    );
}
