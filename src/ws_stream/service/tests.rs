use std::{
    future::{Pending, pending},
    sync::atomic::{AtomicUsize, Ordering},
};

use http::StatusCode;
use tokio_test::{assert_pending, assert_ready, assert_ready_err, assert_ready_ok, task};
use tower_layer::Layer;
use tower_test::mock;

use super::*;
use crate::{ChannelProtocols, ChannelType, WsStreamLayer, rejection::RejectionKind};

/// Counts its clones and the polls of its readiness.
#[derive(Default)]
struct Inner(Arc<[AtomicUsize; 2]>);

const CLONES: usize = 0;
const POLLS: usize = 1;

impl Clone for Inner {
    fn clone(&self) -> Self {
        self.0[CLONES].fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Service<ChannelSet> for Inner {
    type Response = ();
    type Error = BoxError;
    type Future = Pending<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0[POLLS].fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: ChannelSet) -> Self::Future {
        pending()
    }
}

impl Inner {
    fn counted(&self) -> (usize, usize) {
        let count = |of: usize| self.0[of].load(Ordering::Relaxed);
        (count(CLONES), count(POLLS))
    }
}

type Fallback = mock::Mock<Request<()>, Response<&'static str>>;
type Tested = WsStream<Inner, Fallback>;

/// A service whose fallback is in the hands of the test, as are the counts of its inner service.
fn service() -> (
    Tested,
    mock::Handle<Request<()>, Response<&'static str>>,
    Inner,
) {
    let (fallback, handle) = mock::pair();
    let protocols = ChannelProtocols::standard([ChannelType::Read]).unwrap();
    let inner = Inner::default();
    let counts = Inner(Arc::clone(&inner.0));
    let layer = WsStreamLayer::new(protocols).fallback(fallback);
    (layer.layer(inner), handle, counts)
}

fn upgrade() -> Request<()> {
    Request::builder()
        .header("connection", "Upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .extension(hyper::upgrade::on(Request::new(())))
        .body(())
        .unwrap()
}

#[tokio::test]
async fn readiness_is_that_of_the_fallback_and_its_error() {
    let (service, mut fallback, inner) = service();
    let mut service = task::spawn(service);
    let poll = |service: &mut task::Spawn<Tested>| {
        service.enter(|cx, mut service| Service::<Request<()>>::poll_ready(&mut *service, cx))
    };
    fallback.allow(0);
    assert_pending!(poll(&mut service));
    fallback.allow(1);
    assert!(service.is_woken());
    assert_ready_ok!(poll(&mut service));
    fallback.send_error("closed");
    // One call was allowed and is still reserved.
    let mut other = task::spawn((*service).clone());
    let error = assert_ready_err!(poll(&mut other));
    assert_eq!(error.to_string(), "closed");
    assert_eq!(inner.counted(), (1, 0), "of the clone of this test");
}

#[tokio::test]
async fn a_plain_request_goes_to_the_fallback_that_was_ready_and_wakes_no_inner_service() {
    let (mut service, mut fallback, inner) = service();
    // The mock panics if it is called without being ready: a clone would not be.
    tower::ServiceExt::<Request<()>>::ready(&mut service)
        .await
        .unwrap();
    let mut answer = task::spawn(service.call(Request::new(())));
    assert_pending!(answer.poll());
    let (_, reply) = fallback.next_request().await.unwrap();
    reply.send_response(Response::new("plain"));
    assert!(answer.is_woken());
    let answer = assert_ready_ok!(answer.poll());
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(inner.counted(), (0, 0));
}

#[tokio::test]
async fn an_error_of_the_fallback_is_the_services_own() {
    let (mut service, mut fallback, _) = service();
    tower::ServiceExt::<Request<()>>::ready(&mut service)
        .await
        .unwrap();
    let mut answer = task::spawn(service.call(Request::new(())));
    let (_, reply) = fallback.next_request().await.unwrap();
    reply.send_error("no page");
    let error = assert_ready_err!(answer.poll());
    assert_eq!(error.to_string(), "no page");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_asks_a_clone_of_the_inner_service_and_no_fallback() {
    let (mut service, mut fallback, inner) = service();
    // Without readiness: that of the fallback says nothing of an upgrade.
    fallback.allow(0);
    let mut answer = task::spawn(service.call(upgrade()));
    assert_eq!(inner.counted(), (1, 0));
    let answer = assert_ready_ok!(answer.poll());
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(inner.counted(), (1, 1));
    assert_pending!(task::spawn(fallback.next_request()).poll());
}

#[tokio::test]
async fn a_refusal_by_the_head_makes_no_clone_and_is_an_answer_once() {
    let (mut service, _fallback, inner) = service();
    let mut request = upgrade();
    request.headers_mut().remove("sec-websocket-key");
    let mut answer = task::spawn(service.call(request));
    let refused = assert_ready_ok!(answer.poll());
    let rejection: &Rejection = refused.extensions().get().unwrap();
    assert_eq!(rejection.kind(), RejectionKind::BadRequest);
    assert_eq!(inner.counted(), (0, 0));
    let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(answer.poll())));
    assert!(again.is_err(), "it gave its answer before");
}

#[tokio::test]
async fn the_default_fallback_answers_for_the_version_of_the_request() {
    for (version, status) in [
        (http::Version::HTTP_11, StatusCode::UPGRADE_REQUIRED),
        (http::Version::HTTP_2, StatusCode::BAD_REQUEST),
    ] {
        let mut request = Request::new(());
        *request.version_mut() = version;
        let mut fallback = UpgradeRequired::default();
        let answer = assert_ready!(task::spawn(fallback.call(request)).poll()).unwrap();
        assert_eq!(answer.status(), status);
    }
}

#[test]
fn a_clone_has_services_of_its_own_and_the_same_configuration() {
    let (service, _fallback, inner) = service();
    let clone = service.clone();
    assert_eq!(inner.counted(), (1, 0));
    assert!(Arc::ptr_eq(&clone.config, &service.config));
}
