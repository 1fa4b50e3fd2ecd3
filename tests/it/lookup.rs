//! Tables of subprotocols that are looked up: before the answer, within the accept timeout, and
//! dropped if the client leaves.

use std::{
    future::{Future, pending, poll_fn},
    panic::panic_any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::StatusCode;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, Encoding,
    Rejection, RejectionKind, SessionConfig, Sessions, WsStreamLayer, testing::Connect,
};

use crate::support::{Bomb, Head, hold, refused, tasks};

const SECOND: Duration = Duration::from_secs(1);

/// Returns a different table for each path.
fn table(path: &str) -> ChannelProtocols {
    let (encoding, half_close) = match path {
        "/text" => (Encoding::Base64, false),
        _ => (Encoding::Binary, true),
    };
    let config = ChannelProtocolConfig::new(encoding, [ChannelType::Write]).half_close(half_close);
    let table = ChannelProtocols::builder().protocol("own", config);
    table.build().unwrap()
}

/// Returns a layer whose look-up takes `wait`.
fn looking_up(wait: Duration) -> WsStreamLayer {
    WsStreamLayer::from_async_fn(move |head| {
        let path = head.uri.path().to_owned();
        async move {
            sleep(wait).await;
            match &*path {
                "/none" => Err(Rejection::new(
                    StatusCode::NOT_FOUND,
                    "there is no such node",
                )),
                path => Ok(table(path)),
            }
        }
    })
}

/// Writes the subprotocol that it was given.
async fn tell(mut channels: ChannelSet) -> Result<(), BoxError> {
    let config = channels.config();
    let told = format!("{:?} {}", config.encoding(), config.supports_half_close());
    assert_eq!(config.channels(), [ChannelType::Write]);
    assert_eq!(channels.subprotocol(), "own");
    channels
        .take_writer(0)
        .unwrap()
        .write_all(told.as_bytes())
        .await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_spoken_and_the_service_knows_it() {
    for wait in [Duration::ZERO, SECOND, 9 * SECOND] {
        for (path, expected) in [("/text", "Base64 false"), ("/binary", "Binary true")] {
            let begun = Instant::now();
            let service = looking_up(wait).layer(service_fn(tell));
            let client = Connect::to(path)
                .offer("own")
                .connect(service)
                .await
                .unwrap();
            assert!(begun.elapsed() >= wait);
            let transcript = client.read_to_end().await;
            let told = transcript.channel(0);
            assert_eq!(String::from_utf8(told).unwrap(), expected);
            assert_eq!(transcript.close_code, Some(1000));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_found_or_not_spoken_is_a_refusal() {
    let service = || looking_up(SECOND).layer(service_fn(tell));
    let refusal = refused(service(), &Head::to("/none"), 404, RejectionKind::Custom).await;
    assert_eq!(refusal.message, "there is no such node");
    let other = Head::to("/").offer("other");
    refused(service(), &other, 403, RejectionKind::NoCommonSubprotocol).await;
}

/// Returns a layer that counts its look-ups.
fn counted(asked: &Arc<AtomicUsize>) -> WsStreamLayer {
    let asked = Arc::clone(asked);
    WsStreamLayer::from_async_fn(move |_| {
        asked.fetch_add(1, Ordering::Relaxed);
        pending()
    })
}

#[tokio::test(start_paused = true)]
async fn what_the_head_decides_is_not_looked_up() {
    let asked = Arc::default();
    let version = Head::to("/")
        .without("Sec-WebSocket-Version")
        .with("Sec-WebSocket-Version", "8");
    let service = counted(&asked).layer(service_fn(tell));
    refused(service, &version, 426, RejectionKind::UnsupportedVersion).await;
    let sessions = Sessions::default();
    sessions.close();
    let service = counted(&asked).sessions(sessions).layer(service_fn(tell));
    refused(service, &Head::to("/"), 503, RejectionKind::Draining).await;
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

/// A service that is never ready.
#[derive(Clone)]
struct Never;

impl Service<ChannelSet> for Never {
    type Response = ();
    type Error = BoxError;
    type Future = std::future::Ready<Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: ChannelSet) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_up_has_the_time_of_the_acceptance_and_shares_it() {
    for wait in [2 * SECOND, 4 * SECOND, 3600 * SECOND] {
        let begun = Instant::now();
        let config = SessionConfig::default().accept_timeout(5 * SECOND);
        let service = looking_up(wait).config(config).layer(Never);
        let head = Head::to("/").offer("own");
        let refusal = refused(service, &head, 504, RejectionKind::NotReady).await;
        let late = begun.elapsed() - 5 * SECOND;
        assert!(late < Duration::from_millis(5), "{late:?} behind {wait:?}");
        let which = refusal.message.contains("subprotocols");
        assert_eq!(which, wait > 5 * SECOND, "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_meanwhile_refuses() {
    let sessions = Sessions::default();
    let service = looking_up(2 * SECOND)
        .sessions(sessions.clone())
        .layer(service_fn(tell));
    let drain = async {
        sleep(SECOND).await;
        sessions.close();
    };
    let head = Head::to("/").offer("own");
    // `refused` checks that nothing is spawned.
    let (_, ()) = tokio::join!(refused(service, &head, 503, RejectionKind::Draining), drain);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_takes_the_look_up_with_it() {
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let gone = Arc::<AtomicUsize>::default();
    let seen = Arc::clone(&gone);
    let layer = WsStreamLayer::from_async_fn(move |_| {
        let guard = Gone(Arc::clone(&seen));
        async move {
            let _guard = guard;
            pending().await
        }
    });
    let mut service = layer.layer(service_fn(tell));
    let (request, _wire) = hold(&Head::to("/")).await;
    let before = tasks();
    let mut answer = Box::pin(service.call(request));
    poll_fn(|cx| {
        assert!(answer.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    assert_eq!(gone.load(Ordering::Relaxed), 0);
    drop(answer);
    assert_eq!(gone.load(Ordering::Relaxed), 1);
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_panics_is_500() {
    let in_call =
        WsStreamLayer::from_async_fn(|_| -> std::future::Ready<_> { panic!("on purpose") });
    let at_once = WsStreamLayer::from_async_fn(|_| async { panic_any(Bomb) });
    let later = WsStreamLayer::from_async_fn(|_| async {
        sleep(SECOND).await;
        panic!("on purpose")
    });
    for layer in [in_call, at_once, later] {
        let service = layer.layer(service_fn(tell));
        refused(service, &Head::to("/"), 500, RejectionKind::Internal).await;
    }
    // A panic in the drop of the result, or of a look-up that took too long, changes nothing.
    let in_drop = WsStreamLayer::from_async_fn(|_| {
        let bomb = Bomb;
        poll_fn(move |_| {
            let _bomb = &bomb;
            Poll::Ready(Ok(table("/")))
        })
    });
    let service = in_drop.layer(service_fn(tell));
    let client = Connect::to("/")
        .offer("own")
        .connect(service)
        .await
        .unwrap();
    let transcript = timeout(60 * SECOND, client.read_to_end()).await.unwrap();
    assert_eq!(transcript.close_code, Some(1000));
    // Waits until the tasks of the connection have ended.
    sleep(3600 * SECOND).await;
    let too_long = WsStreamLayer::from_async_fn(|_| async {
        let _bomb = Bomb;
        pending().await
    });
    let service = too_long.layer(service_fn(tell));
    refused(service, &Head::to("/"), 504, RejectionKind::NotReady).await;
}
