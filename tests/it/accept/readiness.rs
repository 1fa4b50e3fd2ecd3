//! Readiness, and the permits that it takes.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_no_upgrade_or_refused_by_its_head_takes_no_place() {
    let (inner, _sets) = handing();
    let (fallback, mut requests) =
        tower_test::mock::pair::<Request<Incoming>, Response<http_body_util::Empty<Bytes>>>();
    let (service, places) = with_one_place(standard().fallback(fallback), inner);
    let (request, _wire) = hold(&Head::plain("/")).await;
    // The service is kept, and with it a permit that its readiness would have taken.
    let mut kept = service.clone();
    let answer = tokio::spawn(kept.ready().await.unwrap().call(request));
    let (_request, respond) = requests.next_request().await.unwrap();
    assert_eq!(places.available_permits(), 1, "while the fallback works");
    respond.send_response(Response::new(http_body_util::Empty::new()));
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);

    // Not even if no permit is left.
    let _taken = places.acquire().await.unwrap();
    for head in [
        Head::to("/").offer("unknown"),
        Head::to("/").line("POST / HTTP/1.1"),
    ] {
        let (request, _wire) = hold(&head).await;
        let mut answer = tokio_test::task::spawn(service.clone().oneshot(request));
        let response = assert_ready_ok!(answer.poll());
        assert!(response.status().is_client_error());
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_is_the_fallbacks_alone() {
    type Fallback = tower_test::mock::Mock<Request<Incoming>, Response<ResponseBody<NoBody>>>;
    for inner_allows in [0, 1] {
        let (inner, mut inner_handle) = tower_test::mock::pair::<ChannelSet, ()>();
        let (fallback, mut handle): (Fallback, _) = tower_test::mock::pair();
        inner_handle.allow(inner_allows);
        handle.allow(0);
        let mut service = tokio_test::task::spawn(standard().fallback(fallback).layer(inner));
        let mut poll = || service.enter(|cx, mut service| service.poll_ready(cx));
        assert_pending!(poll());
        handle.allow(1);
        assert_ready_ok!(poll());
        inner_handle.send_error("the inner service is gone");
        assert_ready_ok!(poll());
        handle.send_error("the fallback is gone");
        assert_ready_err!(poll());
    }
}
