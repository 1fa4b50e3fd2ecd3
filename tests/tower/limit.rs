//! `SessionLimitLayer`: so many sessions of each user, and 429 for one more.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use handshake::Head;
use tower_wsstream::{
    Accept, Rejection, RejectionKind, SessionLimitLayer, SessionRateLimitLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
};

use super::*;

/// What an authentication layer knows.
#[derive(Clone, PartialEq, Eq, Hash)]
struct User(String);

/// Takes the word of the path for it.
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
    for accept in [Accept::Immediate, Accept::Explicit] {
        let limit = SessionLimitLayer::new(2, user);
        let inner = service_fn(async |set: ChannelSet| {
            set.session().accept().await;
            echo(set).await
        });
        let service = stack!(layer().accept(accept), limit, inner);
        let connect = async |path: &str| soon(Connect::to(path).connect(service.clone())).await;
        let first = connect("/anna").await.unwrap();
        let mut second = connect("/anna").await.unwrap();
        let start = Instant::now();
        assert_limit(&refused(Connect::to("/anna"), service.clone()).await);
        assert_after(start, Duration::ZERO);

        // Nobody else has less room for it, and who has no name has all.
        let mut other = connect("/bert").await.unwrap();
        for _ in 0..5 {
            hears_its_echo(&mut connect("/").await.unwrap()).await;
        }
        for client in [&mut second, &mut other] {
            hears_its_echo(client).await;
        }

        // A place is free when its service is done, for one.
        finish(first).await;
        let mut third = connect("/anna").await.unwrap();
        hears_its_echo(&mut third).await;
        assert_limit(&refused(Connect::to("/anna"), service.clone()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_has_its_kind_and_nothing_is_spawned_for_it() {
    let limit = SessionLimitLayer::new(0, |_: &ChannelSet| Some(()));
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(limit)
        .service_fn(echo);
    let kind = RejectionKind::SessionLimit;
    handshake::refused(service, &Head::to("/"), 429, kind).await;
}

/// How a session goes that has got its place.
#[derive(Clone, Copy, Debug)]
enum Ends {
    PanicsInCall,
    PanicsAtOnce,
    PanicsLater,
    Fails,
    Refuses,
    Returns,
    /// Its client has enough of it.
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
        let layer = layer().accept(Accept::Explicit);
        let service = ServiceBuilder::new()
            .layer(layer)
            .layer(limit)
            .service(inner);
        for n in 1..=3 {
            let connect = Connect::to("/").connect(service.clone());
            match how {
                // Before there is an answer.
                Ends::StaysUndecided => {
                    assert!(timeout(secs(1), connect).await.is_err());
                }
                _ => drop(soon(connect).await),
            }
            // Long enough for a client to be missed, and for the grace.
            sleep(secs(5)).await;
            assert_eq!(calls.load(Ordering::Relaxed), n, "refused: {how:?}");
            // The test's and the function's: none is kept for the session.
            assert_eq!(Arc::strong_count(&key), 2, "{how:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_its_user_has_no_place_for_counts_for_no_rate() {
    let service = ServiceBuilder::new()
        .map_request(authenticate)
        .layer(layer())
        .load_shed()
        .layer(SessionLimitLayer::new(1, user))
        .layer(SessionRateLimitLayer::new(2, secs(60)))
        .concurrency_limit(3)
        .service_fn(echo);
    let first = soon(Connect::to("/anna").connect(service.clone())).await;
    let _first = first.unwrap();
    for _ in 0..5 {
        assert_limit(&refused(Connect::to("/anna"), service.clone()).await);
    }
    let second = soon(Connect::to("/bert").connect(service.clone())).await;
    let second = second.unwrap();
    // Nor does one that a rate refuses keep its place.
    for _ in 0..2 {
        let beyond = refused(Connect::to("/carl"), service.clone()).await;
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
        assert_limit(&refused(exec("anna"), around.clone()).await);
        let second = soon(exec("anna").connect(within.clone())).await.unwrap();
        assert_limit(&refused(exec("anna"), within.clone()).await);
        drop((first, second));
        sleep(secs(5)).await;
    }
}
