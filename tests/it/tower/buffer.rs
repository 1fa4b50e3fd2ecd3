//! Layers that need a `buffer` in front of them, as tower's `rate_limit`, which does not implement
//! `Clone`.
//!
//! A buffer is ready while its queue has a place, and its first poll is pending. So the session is
//! accepted, and then waits in the queue.

use tokio::sync::mpsc;
use tower_wsstream::{
    AcceptMode, Rejection, SessionConfig,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
};

use super::*;

async fn greet(mut set: ChannelSet) -> Result<(), BoxError> {
    set.take_writer(1).unwrap().write_all(b"hello").await?;
    echo_nothing(set).await
}

/// Waits until the client is gone.
async fn echo_nothing(set: ChannelSet) -> Result<(), BoxError> {
    set.session().ended().await;
    Ok(())
}

async fn is_greeted(client: &mut Client) {
    let expected = Received::Message(1, Bytes::from("hello"));
    assert_eq!(soon(client.receive()).await, expected);
}

#[tokio::test(start_paused = true)]
async fn rate_limit_behind_a_buffer_accepts_and_then_makes_wait() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .load_shed()
        .buffer(2)
        .rate_limit(1, secs(60))
        .service_fn(greet);
    let start = Instant::now();
    let mut first = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    is_greeted(&mut first).await;
    // One more than the queue holds, because the worker of the buffer holds one.
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(
            soon(Connect::to("/").connect(service.clone()))
                .await
                .unwrap(),
        );
        tokio::task::yield_now().await;
    }
    assert_after(start, Duration::ZERO);
    let shed = refused_by(Connect::to("/"), service).await;
    assert_eq!(shed.status(), StatusCode::SERVICE_UNAVAILABLE);

    for (client, minutes) in waiting.iter_mut().zip(1..) {
        is_greeted(client).await;
        assert_after(start, secs(60 * minutes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_without_load_shed_is_504() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .buffer(1)
        .rate_limit(1, secs(60))
        .service_fn(greet);
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(
            soon(Connect::to("/").connect(service.clone()))
                .await
                .unwrap(),
        );
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    let refused = refused_by(Connect::to("/"), service).await;
    assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_after(start, secs(10));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_queue_takes_no_place_in_the_rate() {
    let (calls, mut called) = mpsc::unbounded_channel();
    let service = ServiceBuilder::new()
        .layer(standard())
        .buffer(4)
        .rate_limit(1, secs(60))
        .service_fn(move |set: ChannelSet| {
            let _ = calls.send(set.request().unwrap().uri.path().to_owned());
            greet(set)
        });
    let start = Instant::now();
    let first = soon(Connect::to("/1").connect(service.clone()))
        .await
        .unwrap();
    let second = soon(Connect::to("/2").connect(service.clone()))
        .await
        .unwrap();
    let mut third = soon(Connect::to("/3").connect(service)).await.unwrap();
    sleep(secs(10)).await;
    drop(second);
    is_greeted(&mut third).await;
    assert_after(start, secs(60));
    assert_eq!(soon(called.recv()).await.unwrap(), "/1");
    assert_eq!(soon(called.recv()).await.unwrap(), "/3");
    drop((first, third));
}

#[tokio::test(start_paused = true)]
async fn what_sits_behind_a_buffer_cannot_refuse() {
    let plain = ServiceBuilder::new()
        .layer(standard())
        .buffer(4)
        .service_fn(async |_: ChannelSet| {
            Err::<(), BoxError>(Rejection::new(StatusCode::NOT_FOUND, "no such pod").into())
        });
    let client = soon(Connect::to("/").connect(plain)).await.unwrap();
    let transcript = soon(client.read_to_end()).await;
    assert_eq!(transcript.messages, []);
    assert_eq!(transcript.close_code, Some(1011));

    let command = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .buffer(4)
        .service_fn(async |_: RemoteCommand| {
            Err::<ExitStatus, BoxError>(Rejection::new(StatusCode::NOT_FOUND, "no such pod").into())
        });
    let connect = Connect::to("/exec?stdout=1&command=ls").offer(subprotocols::V5);
    let client = soon(connect.connect(command)).await.unwrap();
    let transcript = soon(client.read_to_end()).await;
    let status = transcript.status().unwrap();
    assert_eq!(
        (status.reason(), status.message(), status.code()),
        (Some("NotFound"), Some("no such pod"), Some(404))
    );
    assert_eq!(transcript.close_code, Some(1000));
}

/// The answer waits for the service, and so for its turn in the queue.
#[tokio::test(start_paused = true)]
async fn with_explicit_acceptance_what_sits_behind_a_buffer_can_refuse() {
    let layer = || standard().config(SessionConfig::default().accept(AcceptMode::Explicit));
    let service =
        ServiceBuilder::new()
            .layer(layer())
            .buffer(4)
            .service_fn(async |_: ChannelSet| {
                sleep(secs(2)).await;
                Err::<(), BoxError>(Rejection::new(StatusCode::NOT_FOUND, "no such pod").into())
            });
    let start = Instant::now();
    let refusal = refused_by(Connect::to("/"), service).await;
    assert_eq!(refusal.status(), StatusCode::NOT_FOUND);
    let status = refusal.refusal().unwrap();
    assert_eq!(status.message(), Some("no such pod"));
    assert_after(start, secs(2));

    let service = ServiceBuilder::new()
        .layer(layer())
        .buffer(4)
        .rate_limit(1, secs(60))
        .service_fn(async |set: ChannelSet| {
            set.session().accept().await;
            greet(set).await
        });
    let mut first = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    is_greeted(&mut first).await;
    let start = Instant::now();
    let waiting = refused_by(Connect::to("/"), service).await;
    assert_eq!(waiting.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_after(start, secs(10));
}
