//! Refusals by the inner service: its readiness, its first poll.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_504_after_the_accept_timeout() {
    for (layer, after) in [
        (layer(), 10),
        (
            layer().config(SessionConfig::default().accept_timeout(Duration::from_secs(3))),
            3,
        ),
    ] {
        let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
        handle.allow(0);
        let started = Instant::now();
        let refusal = refused(
            layer.layer_on(mock),
            &Head::to("/"),
            504,
            RejectionKind::NotReady,
        )
        .await;
        assert_eq!(started.elapsed().as_secs(), after);
        assert_eq!(refusal.reason, "Timeout");
        assert!(refusal.message.contains("try again"), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_ready_just_in_time_is_called() {
    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.allow(0);
    let (request, _wire) = hold(&Head::to("/")).await;
    let answer = tokio::spawn(layer().layer_on(mock).oneshot(request));
    tokio::time::sleep(Duration::from_millis(9_999)).await;
    assert!(!answer.is_finished());
    handle.allow(1);
    assert_eq!(answer.await.unwrap().unwrap().status(), 101);
    assert!(handle.next_request().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_overload_is_503_with_retry_after() {
    let service = ServiceBuilder::new()
        .layer(layer())
        .load_shed()
        .concurrency_limit(1)
        .service_fn(async |_: ChannelSet| std::future::pending::<Result<(), BoxError>>().await);
    let (request, _wire) = hold(&Head::to("/")).await;
    assert_eq!(
        service.clone().oneshot(request).await.unwrap().status(),
        101
    );

    let refusal = refused(service, &Head::to("/"), 503, RejectionKind::Overloaded).await;
    assert_eq!(sorted(&refusal.headers), [("retry-after", "1")]);
    assert_eq!(refusal.reason, "ServiceUnavailable");
}

#[tokio::test(start_paused = true)]
async fn a_readiness_error_is_a_refusal() {
    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.send_error("password=hunter2");
    let refusal = refused(
        layer().layer_on(mock),
        &Head::to("/"),
        500,
        RejectionKind::Internal,
    )
    .await;
    assert_eq!(refusal.message, SERVICE_FAILED);

    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.send_error(Rejection::new(StatusCode::TOO_MANY_REQUESTS, "slowly"));
    let refusal = refused(
        layer().layer_on(mock),
        &Head::to("/"),
        429,
        RejectionKind::Custom,
    )
    .await;
    assert_eq!(refusal.message, "slowly");
}

// By its first poll.

/// Returns a service whose future fails at once with this error.
fn failing<E: Into<BoxError>>(
    error: impl Fn() -> E + Clone,
) -> impl Service<ChannelSet, Response = (), Error = BoxError, Future: Send + 'static> + Clone {
    service_fn(move |_: ChannelSet| ready(Err::<(), BoxError>(error().into())))
}

#[tokio::test(start_paused = true)]
async fn a_rejection_of_the_first_poll_keeps_its_code_and_headers() {
    let rejection = Rejection::new(StatusCode::NOT_FOUND, "no container \"web\"").with_header(
        http::header::RETRY_AFTER,
        http::HeaderValue::from_static("7"),
    );
    let service = layer().layer_on(failing(move || rejection.clone()));
    let refusal = refused(service, &Head::to("/"), 404, RejectionKind::Custom).await;
    assert_eq!(refusal.message, "no container \"web\"");
    assert_eq!(refusal.reason, "NotFound");
    assert_eq!(sorted(&refusal.headers), [("retry-after", "7")]);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_passes_remotecommand_before_the_answer() {
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(remotecommand::Protocols::default()))
        .layer(remotecommand::RemoteCommandLayer::new())
        .service_fn(async |_: remotecommand::RemoteCommand| {
            Err::<remotecommand::ExitStatus, _>(Rejection::new(StatusCode::NOT_FOUND, "no pod"))
        });
    let head = Head::to("/exec?stdout=1&command=ls").offer("v5.channel.k8s.io");
    let refusal = refused(service, &head, 404, RejectionKind::Custom).await;
    assert_eq!(refusal.message, "no pod");
}

#[tokio::test(start_paused = true)]
async fn overload_and_timeout_of_the_first_poll_have_their_codes() {
    let service = layer().layer_on(failing(tower::load_shed::error::Overloaded::new));
    let refusal = refused(service, &Head::to("/"), 503, RejectionKind::Overloaded).await;
    assert_eq!(sorted(&refusal.headers), [("retry-after", "1")]);
    let service = layer().layer_on(failing(tower::timeout::error::Elapsed::new));
    refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
}

#[tokio::test(start_paused = true)]
async fn any_other_error_of_the_first_poll_is_500_with_a_fixed_text() {
    let service = layer().layer_on(failing(|| "password=hunter2"));
    let refusal = refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
    assert_eq!(refusal.message, SERVICE_FAILED);
    assert_eq!(refusal.reason, "InternalError");
    assert!(refusal.headers.is_empty());
}
