//! `SessionLimitLayer`: a number of sessions for each user, and 429 beyond that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tower_wsstream::{
    AcceptMode, Rejection, RejectionKind, SessionConfig,
    access::{SessionLimitLayer, SessionRateLimitLayer},
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
};

use super::*;

/// The user, as an authentication layer knows it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct User(String);

/// Takes the user from the path.
fn authenticate(mut request: http::Request<Incoming>) -> http::Request<Incoming> {
    let user = request.uri().path().trim_start_matches('/').to_owned();
    if !user.is_empty() {
        request.extensions_mut().insert(User(user));
    }
    request
}

fn user(channels: &ChannelSet) -> Option<User> {
    channels.request()?.extensions.get().cloned()
}

fn assert_limit(refused: &Refused) {
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers()["retry-after"], "1");
    let status = refused.refusal().unwrap();
    assert_eq!(status.reason(), Some("TooManyRequests"));
    assert_eq!(status.code(), Some(429));
    assert!(!String::from_utf8_lossy(refused.body()).contains("/anna"));
}

macro_rules! stack {
    ($layer:expr, $limit:expr, $inner:expr) => {
        ServiceBuilder::new()
            .map_request(authenticate)
            .layer($layer)
            .layer($limit)
            .service($inner)
    };
}

#[tokio::test(start_paused = true)]
async fn a_session_beyond_its_users_places_is_429_before_the_upgrade() {
    for accept in [AcceptMode::Immediate, AcceptMode::Explicit] {
        let limit = SessionLimitLayer::new(2, user);
        let inner = service_fn(async |set: ChannelSet| {
            set.session().accept().await;
            echo(set).await
        });
        let service = stack!(
            standard().config(SessionConfig::default().accept(accept)),
            limit,
            inner
        );
        let connect = async |path: &str| soon(Connect::to(path).connect(service.clone())).await;
        let first = connect("/anna").await.unwrap();
        let mut second = connect("/anna").await.unwrap();
        let start = Instant::now();
        assert_limit(&refused_by(Connect::to("/anna"), service.clone()).await);
        assert_after(start, Duration::ZERO);

        // Other users keep their places, and requests without a user are not limited.
        let mut other = connect("/bert").await.unwrap();
        for _ in 0..5 {
            hears_its_echo(&mut connect("/").await.unwrap()).await;
        }
        for client in [&mut second, &mut other] {
            hears_its_echo(client).await;
        }

        // A place is free once its service is done, for one more session.
        finish(first).await;
        let mut third = connect("/anna").await.unwrap();
        hears_its_echo(&mut third).await;
        assert_limit(&refused_by(Connect::to("/anna"), service.clone()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_its_kind_and_nothing_is_spawned_for_it() {
    let limit = SessionLimitLayer::new(0, |_: &ChannelSet| Some(()));
    let service = ServiceBuilder::new()
        .layer(standard())
        .layer(limit)
        .service_fn(echo);
    let kind = RejectionKind::SessionLimit;
    support::refused(service, &Head::to("/"), 429, kind).await;
}

/// The course of a session that has a place.
#[derive(Clone, Copy, Debug)]
enum Ends {
    PanicsInCall,
    PanicsAtOnce,
    PanicsLater,
    Fails,
    Refuses,
    Returns,
    /// The client leaves.
    Stays,
    StaysUndecided,
}

#[tokio::test(start_paused = true)]
async fn however_a_session_ends_its_place_is_free() {
    for how in [
        Ends::PanicsInCall,
        Ends::PanicsAtOnce,
        Ends::PanicsLater,
        Ends::Fails,
        Ends::Refuses,
        Ends::Returns,
        Ends::Stays,
        Ends::StaysUndecided,
    ] {
        let key = Arc::new(());
        let mine = Arc::clone(&key);
        let limit = SessionLimitLayer::new(1, move |_: &ChannelSet| Some(Arc::clone(&mine)));
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let inner = service_fn(move |set: ChannelSet| {
            counted.fetch_add(1, Ordering::Relaxed);
            assert!(!matches!(how, Ends::PanicsInCall), "on purpose");
            async move {
                match how {
                    Ends::Refuses => {
                        let refusal = Rejection::new(StatusCode::NOT_FOUND, "none");
                        return Err(BoxError::from(refusal));
                    }
                    Ends::Fails => return Err("on purpose".into()),
                    Ends::PanicsInCall | Ends::PanicsAtOnce => panic!("on purpose"),
                    Ends::StaysUndecided => {}
                    _ => set.session().accept().await,
                }
                match how {
                    Ends::PanicsLater => {
                        sleep(secs(1)).await;
                        panic!("on purpose")
                    }
                    Ends::Returns => Ok(()),
                    _ => never(set).await,
                }
            }
        });
        let layer = standard().config(SessionConfig::default().accept(AcceptMode::Explicit));
        let service = ServiceBuilder::new()
            .layer(layer)
            .layer(limit)
            .service(inner);
        for n in 1..=3 {
            let connect = Connect::to("/").connect(service.clone());
            match how {
                // Before the answer.
                Ends::StaysUndecided => {
                    assert!(timeout(secs(1), connect).await.is_err());
                }
                _ => drop(soon(connect).await),
            }
            // Long enough to notice a lost client, and for the grace.
            sleep(secs(5)).await;
            assert_eq!(calls.load(Ordering::Relaxed), n, "refused: {how:?}");
            // The test's and the function's clone: none is kept for the session.
            assert_eq!(Arc::strong_count(&key), 2, "{how:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_its_user_has_no_place_for_counts_for_no_rate() {
    let service = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(standard())
        .load_shed()
        .layer(SessionLimitLayer::new(1, user))
        .layer(SessionRateLimitLayer::new(2, secs(60)))
        .concurrency_limit(3)
        .service_fn(echo);
    let first = soon(Connect::to("/anna").connect(service.clone())).await;
    let _first = first.unwrap();
    for _ in 0..5 {
        assert_limit(&refused_by(Connect::to("/anna"), service.clone()).await);
    }
    let second = soon(Connect::to("/bert").connect(service.clone())).await;
    let second = second.unwrap();
    // A session that is refused by a rate releases its place.
    for _ in 0..2 {
        let beyond = refused_by(Connect::to("/carl"), service.clone()).await;
        assert_ne!(beyond.headers()["retry-after"], "1", "the rate");
    }
    sleep(secs(60)).await;
    let _third = soon(Connect::to("/carl").connect(service)).await.unwrap();
    finish(second).await;
}

#[tokio::test(start_paused = true)]
async fn commands_can_be_counted_on_either_side_of_their_layer() {
    async fn run(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
        command.session.ended().await;
        Ok(ExitStatus::success())
    }
    let around = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(SessionLimitLayer::new(1, user))
        .layer(RemoteCommandLayer::new())
        .service_fn(run);
    let within = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .layer(SessionLimitLayer::new(1, |command: &RemoteCommand| {
            let request = command.request.as_ref()?;
            request.extensions.get::<User>().cloned()
        }))
        .service_fn(run);
    let exec =
        |user: &str| Connect::to(format!("/{user}?stdout=1&command=ls")).offer(subprotocols::V5);
    for _ in 0..2 {
        let first = soon(exec("anna").connect(around.clone())).await.unwrap();
        assert_limit(&refused_by(exec("anna"), around.clone()).await);
        let second = soon(exec("anna").connect(within.clone())).await.unwrap();
        assert_limit(&refused_by(exec("anna"), within.clone()).await);
        drop((first, second));
        sleep(secs(5)).await;
    }
}

/// The output of a session whose service has returned may stay for as long as its client likes.
#[tokio::test(start_paused = true)]
async fn a_place_that_is_kept_is_free_once_the_connection_is_closed() {
    use tower_wsstream::access::SessionPermits;

    let permits = SessionPermits::new(1);
    let service = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(standard())
        .service_fn(move |mut set: ChannelSet| {
            let place = permits.try_acquire(user(&set).unwrap());
            async move {
                let session = set.session().clone();
                session.keep_until_closed(place?);
                // It refers to itself, and panics in its drop.
                session.keep_until_closed((session.clone(), Bomb));
                let mut output = set.take_writer(1).unwrap();
                output.send(vec![0; 1 << 20]).await?;
                Ok::<_, BoxError>(())
            }
        });
    let connect = async || soon(Connect::to("/anna").connect(service.clone())).await;
    let unread = connect().await.unwrap();
    // It stalls after 90 s, of which the last second may be missing.
    for _ in 0..8 {
        sleep(secs(11)).await;
        assert_limit(&refused_by(Connect::to("/anna"), service.clone()).await);
    }
    sleep(secs(5)).await;
    let read = connect().await.unwrap();
    soon(read.read_to_end()).await;
    connect().await.unwrap();
    drop(unread);
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("in the drop of a value, on purpose");
    }
}

/// exec, port-forward, channels of one's own and a log share their places, and each is refused
/// where its client sees it.
#[tokio::test(start_paused = true)]
async fn places_are_shared_by_sessions_of_different_kinds() {
    use http_body_util::BodyExt;
    use tower_wsstream::{
        access::SessionPermits,
        portforward::{self, ForwardedPort, PortForwardLayer},
        reader::{WsReader, WsReaderLayer},
    };

    fn of(head: &http::request::Parts) -> Option<User> {
        head.extensions.get().cloned()
    }
    let permits = SessionPermits::new(2);

    let exec = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .map_err(|error: BoxError| match error.downcast::<Rejection>() {
            Ok(rejection) => BoxError::from(rejection.to_status()),
            Err(error) => error,
        })
        .layer(permits.layer(|command: &RemoteCommand| of(command.request.as_ref()?)))
        .service_fn(async |mut command: RemoteCommand| {
            tokio::io::copy(&mut command.stdin.take().unwrap(), &mut tokio::io::sink()).await?;
            Ok::<_, BoxError>(ExitStatus::success())
        });
    let forward = stack!(
        WsStreamLayer::new(portforward::Protocols::default()),
        permits.layer(|channels: &ChannelSet| of(channels.request()?)),
        tower::Layer::layer(
            &PortForwardLayer::new(),
            service_fn(async |port: ForwardedPort| {
                let (mut read, mut write) = tokio::io::split(port.stream);
                tokio::io::copy(&mut read, &mut write).await?;
                Ok::<_, BoxError>(())
            })
        )
    );
    let own = stack!(
        standard(),
        permits.layer(|channels: &ChannelSet| of(channels.request()?)),
        service_fn(echo)
    );
    let of_logs = permits.clone();
    let logs = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(WsReaderLayer::new())
        .service_fn(move |request: http::Request<Incoming>| {
            let place = of_logs.try_acquire(of(&request.into_parts().0).unwrap());
            let answer = place.map(|place| {
                // Is silent, and does not end.
                let (near, far) = tokio::io::duplex(1);
                let held = (place, far);
                let body = WsReader::new(near).map_frame(move |frame| {
                    let _held = &held;
                    frame
                });
                http::Response::new(body)
            });
            async { answer.map_err(BoxError::from) }
        });
    // A plain answer of the handler.
    let answered = tower::util::ServiceExt::map_result(logs, |answer: Result<_, BoxError>| {
        Ok::<_, BoxError>(match answer {
            Ok(answer) => http::Response::map(answer, ::axum::body::Body::new),
            Err(error) => {
                let rejection = error.downcast::<Rejection>()?;
                rejection
                    .into_response::<tower_wsstream::body::NoBody>()
                    .map(::axum::body::Body::new)
            }
        })
    });

    let exec_of =
        |user: &str| Connect::to(format!("/{user}?command=x&stdin=1")).offer(subprotocols::V4);
    let forward_of = |user: &str| Connect::to(format!("/{user}?ports=80,81"));
    let status = async |connect: Connect| {
        let client = soon(connect.connect(exec.clone())).await.unwrap();
        soon(client.read_to_end()).await.status().unwrap()
    };

    // Two sessions, of which one has two ports and counts once.
    let command = soon(exec_of("anna").connect(exec.clone())).await.unwrap();
    let ports = soon(forward_of("anna").connect(forward.clone()))
        .await
        .unwrap();
    let refusal = status(exec_of("anna")).await;
    assert_eq!(
        (refusal.code(), refusal.reason()),
        (Some(429), Some("TooManyRequests"))
    );
    assert!(
        refusal
            .message()
            .unwrap()
            .contains("the limit of 2 sessions"),
        "{refusal:?}"
    );
    assert_limit(&refused_by(forward_of("anna"), forward.clone()).await);
    assert_limit(&refused_by(Connect::to("/anna"), own.clone()).await);
    assert_limit(&refused_by(Connect::to("/anna"), answered.clone()).await);
    let mut others = soon(Connect::to("/bert").connect(own.clone()))
        .await
        .unwrap();
    hears_its_echo(&mut others).await;

    // A place that one kind releases is free for another. A log holds it as long as its body lives.
    drop(ports);
    sleep(secs(120)).await;
    let log = soon(Connect::to("/anna").connect(answered.clone()))
        .await
        .unwrap();
    sleep(secs(120)).await;
    assert_limit(&refused_by(Connect::to("/anna"), own.clone()).await);
    drop(log);
    sleep(secs(120)).await;
    let mut own = soon(Connect::to("/anna").connect(own)).await.unwrap();
    hears_its_echo(&mut own).await;
    assert_limit(&refused_by(forward_of("anna"), forward).await);
    drop(command);
    sleep(secs(120)).await;
    let allowed = permits.try_acquire(User("anna".to_owned()));
    assert!(allowed.is_ok());
    assert!(permits.try_acquire(User("anna".to_owned())).is_err());
    drop(allowed);
    assert!(permits.try_acquire(User("anna".to_owned())).is_ok());
    assert!(!format!("{permits:?}").contains("anna"));
}

#[test]
fn a_log_that_blocks_keeps_no_session_out() {
    use std::{
        fmt::{self, Write},
        sync::mpsc,
        thread,
    };

    struct Log {
        layer: SessionRateLimitLayer,
        free: bool,
    }

    impl Write for Log {
        fn write_str(&mut self, _: &str) -> fmt::Result {
            let layer = self.layer.clone();
            let (done, admitted) = mpsc::channel();
            thread::spawn(move || {
                let inner = tower::service_fn(|()| std::future::ready(Ok::<_, BoxError>(())));
                drop(tower::Layer::layer(&layer, inner).call(()));
                let _ = done.send(());
            });
            self.free &= admitted.recv_timeout(Duration::from_secs(2)).is_ok();
            Ok(())
        }
    }

    let layer = SessionRateLimitLayer::new(u64::MAX, Duration::from_secs(60));
    let mut log = Log {
        layer: layer.clone(),
        free: true,
    };
    write!(log, "{layer:?}").unwrap();
    assert!(log.free, "the limit is locked while it is shown");
}
