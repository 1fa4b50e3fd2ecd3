//! Layers over `ChannelSet`: they live as long as the session.

use tower_wsstream::{
    Rejection,
    access::SessionRateLimitLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
};

use super::*;

// Places.

#[tokio::test(start_paused = true)]
async fn concurrency_limit_inside_counts_sessions() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .concurrency_limit(2)
        .service_fn(echo);
    let start = Instant::now();
    let mut first = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    let mut second = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    let third = tokio::spawn(Connect::to("/").connect(service));
    sleep(secs(5)).await;
    assert!(!third.is_finished());
    hears_its_echo(&mut first).await;
    hears_its_echo(&mut second).await;

    finish(first).await;
    let mut third = soon(third).await.unwrap().unwrap();
    assert_after(start, secs(5));
    hears_its_echo(&mut third).await;
    hears_its_echo(&mut second).await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_limit_outside_counts_handshakes() {
    let (inner, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    handle.allow(0);
    let service = ServiceBuilder::new()
        .concurrency_limit(1)
        .layer(standard())
        .service(inner);
    let start = Instant::now();
    let first = tokio::spawn(Connect::to("/").connect(service.clone()));
    sleep(secs(3)).await;
    let second = tokio::spawn(Connect::to("/").connect(service.clone()));
    sleep(secs(4)).await;
    assert!(!first.is_finished() && !second.is_finished());

    // The first one releases its place at its 101, with the session still open. From then on the
    // second has a timeout of its own.
    handle.allow(1);
    let _first = soon(first).await.unwrap().unwrap();
    let _session = handle.next_request().await.unwrap();
    assert_after(start, secs(7));
    let error = soon(second).await.unwrap().unwrap_err();
    let status = error.downcast_ref::<Refused>().unwrap().status();
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_after(start, secs(7 + 10));
}

#[tokio::test(start_paused = true)]
async fn load_shed_inside_sheds_until_a_session_ends() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .load_shed()
        .concurrency_limit(1)
        .service_fn(echo);
    for _ in 0..3 {
        let start = Instant::now();
        let mut client = soon(Connect::to("/").connect(service.clone()))
            .await
            .unwrap();
        let refused = refused_by(Connect::to("/"), service.clone()).await;
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_after(start, Duration::ZERO);
        hears_its_echo(&mut client).await;
        finish(client).await;
    }
}

#[tokio::test(start_paused = true)]
async fn load_shed_outside_never_sheds() {
    let service = ServiceBuilder::new()
        .load_shed()
        .layer(standard())
        .concurrency_limit(1)
        .service_fn(never);
    let _first = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    let start = Instant::now();
    let refused = refused_by(Connect::to("/"), service).await;
    assert_eq!(refused.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_after(start, secs(10));
}

// Time.

async fn print_and_stay(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let stdout = command.stdout.as_mut().unwrap();
    stdout.write_all(b"so far").await?;
    pending().await
}

#[tokio::test(start_paused = true)]
async fn timeout_inside_ends_a_command_with_a_status() {
    let around = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .timeout(secs(60))
        .layer(RemoteCommandLayer::new())
        .service_fn(print_and_stay);
    let within = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .timeout(secs(60))
        .service_fn(print_and_stay);
    let connect = |subprotocol| Connect::to("/exec?stdout=1&command=top").offer(subprotocol);
    for subprotocol in [subprotocols::V5, subprotocols::V4, subprotocols::V4_BASE64] {
        for is_around in [true, false] {
            let start = Instant::now();
            let client = match is_around {
                true => soon(connect(subprotocol).connect(around.clone())).await,
                false => soon(connect(subprotocol).connect(within.clone())).await,
            };
            let transcript = soon(client.unwrap().read_to_end()).await;
            assert_eq!(transcript.channel(1), b"so far");
            let status = transcript.status().unwrap();
            assert!(!status.is_success());
            assert_eq!(status.reason(), Some("Timeout"));
            assert_eq!(status.code(), Some(504));
            assert_eq!(
                transcript.messages.last().map(|(channel, _)| *channel),
                Some(3)
            );
            assert_eq!(transcript.close_code, Some(1000), "the outcome was told");
            // Counted from the first poll, even if the client closes later.
            assert_after(start, secs(60));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn timeout_inside_ends_any_other_session_with_1011() {
    let service = ServiceBuilder::new()
        .layer(standard())
        .timeout(secs(60))
        .service_fn(echo);
    let start = Instant::now();
    let mut client = soon(Connect::to("/").connect(service)).await.unwrap();
    sleep(secs(59)).await;
    hears_its_echo(&mut client).await;
    let transcript = soon(client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1011));
    assert_after(start, secs(60));
}

#[tokio::test(start_paused = true)]
async fn timeout_outside_bounds_the_handshake_alone() {
    let (inner, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    let service = ServiceBuilder::new()
        .timeout(secs(5))
        .layer(standard())
        .service(inner);
    handle.allow(1);
    let mut client = soon(Connect::to("/").connect(service.clone()))
        .await
        .unwrap();
    let (set, end) = handle.next_request().await.unwrap();
    let start = Instant::now();
    let waits = timeout(secs(50), client.receive()).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(set);
    end.send_response(());
    assert_eq!(
        soon(client.receive()).await,
        Received::Closed {
            code: Some(1000),
            reason: "".into()
        }
    );

    // tower's layer fails the service, for which hyper has no answer.
    handle.allow(0);
    let lost = soon(Connect::to("/").connect(service)).await.unwrap_err();
    assert!(!lost.is::<Refused>(), "{lost}");
    assert_after(start, secs(50 + 5));
}

// Refusals that kubectl prints.

/// kubectl does not show refused upgrades. Inside the layer of commands, limits are reported by a
/// Status.
#[tokio::test(start_paused = true)]
async fn limits_inside_of_the_layer_of_commands_are_told_by_a_status() {
    fn told(error: BoxError) -> BoxError {
        match error.downcast_ref::<Rejection>() {
            Some(rejection) => rejection.to_status().into(),
            None => error,
        }
    }
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .map_err(told)
        .load_shed()
        .layer(SessionRateLimitLayer::new(2, secs(60)))
        .concurrency_limit(1)
        .service_fn(print_and_stay);
    let exec = || Connect::to("/exec?command=sh&stdout=true").offer(subprotocols::V5);
    let status = async |client: Client| {
        let told = soon(client.read_to_end()).await;
        assert_eq!(told.close_code, Some(1000));
        told.status().unwrap()
    };
    let first = exec().connect(service.clone()).await.unwrap();
    let shed = status(exec().connect(service.clone()).await.unwrap()).await;
    assert_eq!(shed.code(), Some(503), "{shed}");
    drop(first);
    sleep(secs(5)).await;
    let second = exec().connect(service.clone()).await.unwrap();
    drop(second);
    sleep(secs(5)).await;
    let refused = status(exec().connect(service).await.unwrap()).await;
    assert_eq!(refused.code(), Some(429), "{refused}");
}
