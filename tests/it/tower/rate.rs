//! `SessionRateLimitLayer`: 429, with the time to retry after.

use tower_wsstream::{
    access::SessionRateLimitLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
};

use super::*;

fn assert_rate(refused: &Refused, retry_after: &str) {
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], retry_after);
    let status = refused.refusal().unwrap();
    assert_eq!(status.reason(), Some("TooManyRequests"));
    assert_eq!(status.code(), Some(429));
    let message = status.message().unwrap();
    assert!(
        message.ends_with(&format!("try again in {retry_after} s")),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn beyond_the_rate_is_429_with_retry_after() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .layer(SessionRateLimitLayer::new(2, secs(60)))
        .service_fn(echo);
    let mut kept = Vec::new();
    for _ in 0..2 {
        kept.push(
            soon(Connect::to("/").connect(service.clone()))
                .await
                .unwrap(),
        );
    }
    let start = Instant::now();
    assert_rate(&refused_by(Connect::to("/"), service.clone()).await, "60");
    assert_after(start, Duration::ZERO);
    sleep(Duration::from_millis(30_200)).await;
    assert_rate(&refused_by(Connect::to("/"), service.clone()).await, "30");
    // The end of a session makes no room, because starts are counted, not open sessions.
    finish(kept.pop().unwrap()).await;
    assert_rate(&refused_by(Connect::to("/"), service.clone()).await, "30");

    sleep(secs(30)).await;
    for _ in 0..2 {
        kept.push(
            soon(Connect::to("/").connect(service.clone()))
                .await
                .unwrap(),
        );
    }
    assert_rate(&refused_by(Connect::to("/"), service).await, "60");
    for client in &mut kept {
        hears_its_echo(client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_gets_no_session_otherwise_does_not_count() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .load_shed()
        .layer(SessionRateLimitLayer::new(2, secs(60)))
        .concurrency_limit(1)
        .service_fn(echo);
    for _ in 0..3 {
        let unknown = refused_by(Connect::to("/").offer("unknown"), service.clone()).await;
        assert_eq!(unknown.status(), StatusCode::FORBIDDEN);
        let (request, _wire) = hold(&Head::plain("/")).await;
        let answer = service.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
    }
    let client = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    for _ in 0..3 {
        let shed = refused_by(Connect::to("/"), service.clone()).await;
        assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    finish(client).await;
    let client = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    finish(client).await;
    assert_rate(&refused_by(Connect::to("/"), service).await, "60");
}

#[tokio::test(start_paused = true)]
async fn two_routes_may_share_a_rate() {
    let rate = SessionRateLimitLayer::new(1, secs(60));
    let service = |rate| {
        ServiceBuilder::new()
            .layer(standard())
            .layer(rate)
            .service_fn(echo)
    };
    let first = service(rate.clone());
    let second = service(rate);
    let client = soon(Connect::to("/").connect(first.clone())).await.unwrap();
    assert_rate(&refused_by(Connect::to("/"), second).await, "60");
    assert_rate(&refused_by(Connect::to("/"), first).await, "60");
    finish(client).await;
}

#[tokio::test(start_paused = true)]
async fn a_command_beyond_the_rate_is_429_on_either_side_of_its_layer() {
    let rate = || SessionRateLimitLayer::new(0, secs(7));
    let run = async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success());
    let around = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(rate())
        .layer(RemoteCommandLayer::new())
        .service_fn(run);
    let within = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .layer(rate())
        .service_fn(run);
    let connect = || Connect::to("/exec?stdout=1&command=ls").offer(subprotocols::V5);
    assert_rate(&refused_by(connect(), around).await, "7");
    assert_rate(&refused_by(connect(), within).await, "7");
}
