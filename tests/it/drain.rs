//! The sessions of a server: counted, listed, drained.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::oneshot,
    time::Instant,
};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_wsstream::{
    BoxError, ChannelSet, EndCause, Session, Sessions, WsStreamLayer, session::Peer, subprotocols,
};

use crate::support::{
    self, ALL, End, Head, Raw, SOON, Told, Watchdog, config, once_in, open, open_with, read_out,
    serve, within,
};

const DEADLINE: Duration = Duration::from_secs(30);

fn layer(sessions: &Sessions) -> WsStreamLayer {
    support::layer().sessions(sessions.clone())
}

/// Reads to the end, and returns the error that ended it.
async fn read(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no channel 0")?;
    input.read_to_end(&mut Vec::new()).await?;
    Ok(())
}

#[cfg(feature = "remotecommand")]
#[tokio::test(start_paused = true)]
async fn a_hundred_commands_get_a_failure_status_and_a_clean_close() {
    use tower_wsstream::remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer};

    async fn sleep(command: RemoteCommand) -> Result<ExitStatus, BoxError> {
        command.session.ended().await;
        std::future::pending().await
    }
    let sessions = Sessions::default();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).sessions(sessions.clone()))
        .layer(RemoteCommandLayer::new())
        .service_fn(sleep);
    let mut clients = Vec::new();
    for n in 0..100 {
        let (near, far) = tokio::io::duplex(64 * 1024);
        serve(far, service.clone());
        let offer = [subprotocols::V5, subprotocols::V4][n % 2];
        let path = "/exec?command=sleep&stdout=true";
        let client = Raw::handshake_at(near, path, offer).await;
        clients.push(client.expect("no refusal"));
    }
    assert_eq!(sessions.len(), 100);

    let start = Instant::now();
    let reading: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let told = client.read_to_end().await;
                drop(client);
                told
            })
        })
        .collect();
    let drained = within(DEADLINE, sessions.drain(DEADLINE)).await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((drained.ended, drained.cut), (100, 0));
    assert_eq!(sessions.len(), 0);
    for told in reading {
        let told = told.await.unwrap();
        assert_eq!(told.close, Some(Some(1000)), "the outcome was told");
        let status = told.text(3);
        for part in ["\"Failure\"", "\"ServiceUnavailable\"", "shutting down"] {
            assert!(status.contains(part), "{status}");
        }
    }
}

/// A client that never answers our Close delays the drain until the deadline, and no longer.
#[tokio::test(start_paused = true)]
async fn the_deadline_bounds_the_wait_for_a_close() {
    let sessions = Sessions::default();
    let mut client = open(once_in(layer(&sessions), read), subprotocols::V5).await;
    let start = Instant::now();
    let drain = sessions.drain(SOON);
    let told: Told = within(SOON, client.read_to_close()).await;
    assert_eq!(told.close, Some(Some(1001)));
    let drained = within(DEADLINE, drain).await;
    assert_eq!((drained.ended, drained.cut), (0, 1));
    assert_eq!(start.elapsed().as_secs(), SOON.as_secs());
}

#[tokio::test(start_paused = true)]
async fn a_plain_service_is_told_and_its_client_gets_1001_or_its_own_end() {
    for offer in ALL {
        let sessions = Sessions::default();
        let (tell, told) = oneshot::channel();
        let service = once_in(layer(&sessions), |mut channels: ChannelSet| async move {
            let mut input = channels.take_reader(0).ok_or("no channel 0")?;
            let mut output = channels.take_writer(1).ok_or("no channel 1")?;
            let _ = tell.send(read_out(&mut input).await.1);
            output.write_all(b"bye").await?;
            Err("cut short".into())
        });
        let mut client = open(service, offer).await;
        let drain = sessions.drain(DEADLINE);
        let seen: Told = within(SOON, client.read_to_end()).await;
        drop(client);
        assert_eq!(
            seen.text(1),
            "bye",
            "what is written within the grace leaves"
        );
        assert_eq!(seen.close, Some(Some(1001)));
        let End::Error(kind, cause) = told.await.unwrap() else {
            panic!("a drain is no end of input");
        };
        assert_eq!(kind, std::io::ErrorKind::ConnectionAborted);
        assert_eq!(cause, EndCause::Drained);
        assert_eq!(within(SOON, drain).await.ended, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_not_ended_is_cut_at_the_deadline_awaited_or_not() {
    let sessions = Sessions::default();
    let service = layer(&sessions).layer(service_fn(|mut channels: ChannelSet| async move {
        let mut output = channels.take_writer(1).ok_or("no channel 1")?;
        loop {
            output.write_all(&[7; 32 * 1024]).await?;
        }
        #[allow(unreachable_code)]
        Ok::<_, BoxError>(())
    }));
    // The client does not read, so neither the accepted output nor the Close can leave.
    let _mute = open_with(service, subprotocols::V5, 1024).await;
    assert_eq!(sessions.len(), 1);
    let start = Instant::now();
    drop(sessions.drain(Duration::from_secs(300)));
    let drained = within(DEADLINE * 2, sessions.drain(DEADLINE)).await;
    assert_eq!((drained.ended, drained.cut), (0, 1));
    let took = start.elapsed();
    assert!(took >= DEADLINE && took < DEADLINE + SOON, "{took:?}");
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_the_drain_is_dropped_after_its_grace() {
    struct Tells(Option<oneshot::Sender<()>>);
    impl Drop for Tells {
        fn drop(&mut self) {
            let _ = self.0.take().unwrap().send(());
        }
    }
    let sessions = Sessions::default();
    let (tell, dropped) = oneshot::channel();
    let service = once_in(layer(&sessions), |channels: ChannelSet| async move {
        let _tells = Tells(Some(tell));
        let _channels = channels;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V4).await;
    let start = Instant::now();
    let drain = sessions.drain(DEADLINE);
    within(SOON, dropped).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "the grace");
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1001)));
    drop(client);
    assert_eq!(within(SOON, drain).await.ended, 1);
}

#[tokio::test(start_paused = true)]
async fn a_session_without_a_connection_is_cut_at_the_deadline_whatever_its_grace() {
    // If the session spun during the grace, the paused clock would never reach the deadline.
    let _watchdog = Watchdog::bites_after(Duration::from_secs(20));
    let sessions = Sessions::default();
    let layer = layer(&sessions).config(config().sessions(sessions.clone()).grace(DEADLINE * 10));
    let service = once_in(layer, |channels: ChannelSet| async move {
        let _channels = channels;
        std::future::pending().await
    });
    let client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    drop(client);
    let drained = within(DEADLINE * 2, sessions.drain(DEADLINE)).await;
    assert_eq!((drained.ended, drained.cut), (0, 1));
    assert!(start.elapsed() < DEADLINE + SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn new_sessions_are_refused_with_503_once_it_is_closed() {
    let sessions = Sessions::default();
    let service = layer(&sessions).layer(service_fn(read));
    let mut first = open(service.clone(), subprotocols::V5).await;
    sessions.close();
    assert!(sessions.is_closed());
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service);
    let refused = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    // Sessions that began earlier go on.
    first.send(0, b"more").await.unwrap();
    first.close_channel(0).await.unwrap();
    let told = within(SOON, first.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn sessions_learn_that_the_server_takes_no_new_ones() {
    let sessions = Sessions::default();
    let service = layer(&sessions).layer(service_fn(|channels: ChannelSet| async move {
        let session: Session = channels.session().clone();
        session.draining().await;
        Ok::<_, BoxError>(())
    }));
    let mut client = open(service, subprotocols::V5).await;
    sessions.close();
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)), "it ended of itself");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_being_accepted_when_the_drain_begins_is_refused() {
    use tower_wsstream::AcceptMode;

    let sessions = Sessions::default();
    let (go, gone) = oneshot::channel::<()>();
    let service = once_in(
        layer(&sessions).config(
            config()
                .sessions(sessions.clone())
                .accept(AcceptMode::Explicit),
        ),
        |channels: ChannelSet| async move {
            let _ = gone.await;
            channels.session().accept().await;
            Ok(())
        },
    );
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service);
    let handshake = tokio::spawn(Raw::handshake(near, subprotocols::V5));
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let drained = within(SOON, sessions.drain(DEADLINE)).await;
    assert_eq!(drained.ended, 0, "it is none yet");
    go.send(()).unwrap();
    let refused = within(SOON, handshake).await.unwrap().unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn the_list_tells_who_is_there_since_when_and_what_moved() {
    let sessions = Sessions::default();
    let inner = layer(&sessions).layer(service_fn(read));
    let service = ServiceBuilder::new()
        .map_request(|mut request: http::Request<_>| {
            request.extensions_mut().insert(Peer::new("alice"));
            request
        })
        .service(inner);
    let mut client = open(service, subprotocols::V4).await;
    client.send(0, b"hello").await.unwrap();
    client.send(0, b"again").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let list = sessions.list();
    assert_eq!(list.len(), 1);
    let info = &list[0];
    assert_eq!(info.subprotocol, subprotocols::V4);
    assert_eq!(info.peer.as_ref().unwrap().as_str(), "alice");
    assert!(info.age >= Duration::from_secs(60));
    assert_eq!((info.received.messages, info.received.bytes), (2, 10));
    assert_eq!((info.sent.messages, info.sent.bytes), (0, 0));
    // Keeps a handle, through which the test acts.
    info.session.close(4000, "enough").unwrap();
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(4000)));
    drop(client);
    tokio::time::sleep(SOON).await;
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn layers_that_share_it_are_drained_together_and_others_are_not() {
    let (shared, own) = (Sessions::default(), Sessions::default());
    let one = layer(&shared).layer(service_fn(read));
    let two = layer(&shared).layer(service_fn(read));
    let three = layer(&own).layer(service_fn(read));
    let mut clients = [
        open(one, subprotocols::V5).await,
        open(two, subprotocols::V5).await,
    ];
    let mut other = open(three, subprotocols::V5).await;
    assert_eq!((shared.len(), own.len()), (2, 1));
    let drain = shared.drain(DEADLINE);
    for client in &mut clients {
        let told = within(SOON, client.read_to_end()).await;
        assert!(told.close.is_some());
    }
    drop(clients);
    assert_eq!(within(SOON, drain).await.ended, 2);
    assert_eq!(own.len(), 1);
    other.close_channel(0).await.unwrap();
    let told = within(SOON, other.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_drain_of_nothing_is_done_at_once() {
    let sessions = Sessions::default();
    let drained = within(Duration::ZERO, sessions.drain(DEADLINE)).await;
    assert_eq!((drained.ended, drained.cut), (0, 0));
    assert!(sessions.is_closed());
}

/// hyper adds `close` to the 101 of a connection that it is going to close, which strict clients
/// reject. "Serving" in the crate's documentation says how to prevent that.
#[tokio::test(start_paused = true)]
async fn a_session_that_begins_while_its_server_shuts_down_is_refused_if_sessions_are_closed() {
    use std::pin::pin;

    use hyper::server::conn::http1;
    use hyper_util::{rt::TokioIo, service::TowerToHyperService};
    use tokio::time::{sleep, timeout};
    use tower_wsstream::AcceptMode;

    const SECOND: Duration = Duration::from_secs(1);

    /// Returns the head of the answer to a handshake that the service accepts after two seconds.
    /// The server may shut down after one.
    async fn answer(keep_alive: bool, closes: bool, shuts_down: bool) -> String {
        let sessions = Sessions::default();
        let service = layer(&sessions)
            .config(
                config()
                    .sessions(sessions.clone())
                    .accept(AcceptMode::Explicit),
            )
            .layer(service_fn(async |channels: ChannelSet| {
                sleep(2 * SECOND).await;
                channels.session().accept().await;
                Ok::<_, BoxError>(())
            }));
        let (mut near, far) = tokio::io::duplex(64 * 1024);
        let connection = http1::Builder::new()
            .keep_alive(keep_alive)
            .serve_connection(TokioIo::new(far), TowerToHyperService::new(service))
            .with_upgrades();
        let mut connection = pin!(connection);
        near.write_all(&Head::to("/").bytes()).await.unwrap();
        assert!(timeout(SECOND, connection.as_mut()).await.is_err());
        if closes {
            sessions.close();
        }
        if shuts_down {
            connection.as_mut().graceful_shutdown();
        }
        let _ = within(SOON, connection).await;
        let mut answer = vec![0; 4096];
        let read = near.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..read]).into_owned()
    }

    let fine = answer(true, false, false).await;
    assert!(fine.contains("connection: Upgrade\r\n"), "{fine}");
    for (keep_alive, shuts_down) in [(false, false), (true, true)] {
        let hyper = answer(keep_alive, false, shuts_down).await;
        assert!(hyper.starts_with("HTTP/1.1 101 "), "{hyper}");
        assert!(hyper.contains("connection: Upgrade, close\r\n"), "{hyper}");
    }
    let closed = answer(true, true, true).await;
    assert!(closed.starts_with("HTTP/1.1 503 "), "{closed}");
}
