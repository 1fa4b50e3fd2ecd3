//! The summary of a session, reported once when the whole session is over.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, EndCause, SessionConfig, WsStreamLayer,
    session::{Peer, SessionSummary},
    subprotocols,
};

use crate::support::{
    BINARY, Raw, SOON, TEXT, config, echo, frame, layer, on, open, open_with, serve, within,
};

#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<SessionSummary>>>);

impl Told {
    fn layer(&self) -> WsStreamLayer {
        layer().config(self.config())
    }

    fn config(&self) -> SessionConfig {
        let told = self.clone();
        config().on_end(move |summary| told.0.lock().unwrap().push(summary.clone()))
    }

    /// Waits until the session must be over, and returns its only summary.
    async fn only(&self) -> SessionSummary {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let told = self.0.lock().unwrap();
        assert_eq!(told.len(), 1, "told once");
        told[0].clone()
    }
}

/// Reads channel 0 to its end, and writes twice.
async fn answer(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no channel 1")?;
    let mut errors = channels.take_writer(2).ok_or("no channel 2")?;
    drop(channels);
    input.read_to_end(&mut Vec::new()).await?;
    output.write_all(&[7; 40_000]).await?;
    errors.send("done").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn each_channel_has_its_messages_and_bytes() {
    for offer in [
        subprotocols::V4,
        subprotocols::V4_BASE64,
        subprotocols::CHANNEL,
    ] {
        let told = Told::default();
        let service = ServiceBuilder::new()
            .map_request(|mut request: http::Request<_>| {
                request.extensions_mut().insert(Peer::new("192.0.2.7"));
                request
            })
            .service(told.layer().layer(service_fn(answer)));
        let mut client = open(service, offer).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        client.send(0, b"hello").await.unwrap();
        client.send(0, b"").await.unwrap();
        client.send(0, &[1; 100_000]).await.unwrap();
        client.send(4, b"resize").await.unwrap();
        // For a channel that only the server writes, and for channels that do not exist.
        client.send(1, b"lost").await.unwrap();
        client.send(70, b"lost").await.unwrap();
        client.close(Some(1000)).await.unwrap();
        within(SOON, client.read_to_end()).await;
        drop(client);

        let summary = told.only().await;
        assert_eq!(summary.subprotocol, offer);
        assert_eq!(summary.peer.as_ref().unwrap().as_str(), "192.0.2.7");
        assert!(matches!(
            summary.cause,
            EndCause::PeerClosed {
                code: Some(1000),
                ..
            }
        ));
        assert_eq!(summary.close_code, Some(1000));
        assert!(
            summary.duration >= Duration::from_secs(30),
            "{:?}",
            summary.duration
        );
        assert!(
            summary.duration < Duration::from_secs(40),
            "{:?}",
            summary.duration
        );
        let counts: Vec<_> = summary
            .channels
            .iter()
            .map(|channel| {
                let (received, sent) = (channel.received, channel.sent);
                [received.messages, received.bytes, sent.messages, sent.bytes]
            })
            .collect();
        let expected = [
            [3, 100_005, 0, 0],
            [0, 0, 2, 40_000],
            [0, 0, 1, 4],
            [0, 0, 0, 0],
            [1, 6, 0, 0],
        ];
        assert_eq!(counts, expected, "{offer}");
        assert_eq!(summary.ignored, 2);
        assert_eq!(summary.received().bytes, 100_011);
        assert_eq!(summary.sent().messages, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn fragments_are_one_message_and_what_nobody_reads_counts() {
    let told = Told::default();
    let service = told
        .layer()
        .layer(service_fn(|channels: ChannelSet| async move {
            let session = channels.session().clone();
            drop(channels);
            session.ended().await;
            Ok::<_, BoxError>(())
        }));
    let mut client = open(service, subprotocols::V4).await;
    client
        .bytes(&frame(false, BINARY, &on(0, b"one ")))
        .await
        .unwrap();
    client.bytes(&frame(false, 0, b"message")).await.unwrap();
    client.bytes(&frame(true, 0, b"")).await.unwrap();
    client
        .bytes(&frame(true, TEXT, &on(0, b"text")))
        .await
        .unwrap();
    client.close(None).await.unwrap();
    within(SOON, client.read_to_end()).await;
    drop(client);
    let received = told.only().await.channels[0].received;
    assert_eq!((received.messages, received.bytes), (2, 15));
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told_with_its_cause() {
    // The service's own errors.
    for (result, cause, code) in [
        (Ok(()), EndCause::Completed, Some(1000)),
        (Err("no"), EndCause::ServiceFailed, Some(1011)),
    ] {
        let told = Told::default();
        let service = told
            .layer()
            .layer(service_fn(move |channels: ChannelSet| async move {
                tokio::task::yield_now().await;
                drop(channels);
                result.map_err(BoxError::from)
            }));
        let mut client = open(service, subprotocols::V5).await;
        within(SOON, client.read_to_end()).await;
        drop(client);
        let summary = told.only().await;
        assert_eq!((&summary.cause, summary.close_code), (&cause, code));
    }
    // A lost connection: there was no Close.
    let told = Told::default();
    let client = open(told.layer().layer(service_fn(answer)), subprotocols::V5).await;
    drop(client);
    let summary = told.only().await;
    assert!(matches!(summary.cause, EndCause::ConnectionLost { .. }));
    assert_eq!(summary.close_code, None);
    // A peer that breaks the protocol.
    let told = Told::default();
    let mut client = open(told.layer().layer(service_fn(answer)), subprotocols::V5).await;
    client.bytes(&[0xff; 16]).await.unwrap();
    within(SOON, client.read_to_end()).await;
    drop(client);
    let summary = told.only().await;
    assert!(matches!(summary.cause, EndCause::ProtocolError { .. }));
    assert_eq!(summary.close_code, Some(1002));
}

/// `Completed` describes the session. The outcome of the command is in its Status.
#[cfg(feature = "remotecommand")]
#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_command_is_told_on_every_subprotocol() {
    use tower_wsstream::{
        Rejection, Status,
        access::SessionLimitLayer,
        remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    };
    for subprotocol in [
        subprotocols::V5,
        subprotocols::V4,
        subprotocols::V4_BASE64,
        subprotocols::CHANNEL,
    ] {
        for (most, result, code, reason) in [
            (1, Ok(0), Some(0), None),
            (1, Ok(3), Some(3), Some("NonZeroExitCode")),
            (1, Err("no"), None, Some("InternalError")),
            (0, Ok(0), None, Some("TooManyRequests")),
        ] {
            let told = Told::default();
            let seen = Arc::clone(&told.0);
            let layer = WsStreamLayer::new(Protocols::default()).config(
                SessionConfig::default()
                    .on_end(move |summary| seen.lock().unwrap().push(summary.clone())),
            );
            let service = tower::ServiceBuilder::new()
                .layer(layer)
                .layer(RemoteCommandLayer::new())
                .map_err(|error: BoxError| match error.downcast::<Rejection>() {
                    Ok(rejection) => BoxError::from(rejection.to_status()),
                    Err(error) => error,
                })
                .layer(SessionLimitLayer::new(most, |_: &RemoteCommand| Some(())))
                .service_fn(move |_: RemoteCommand| async move {
                    result.map(ExitStatus::from_code).map_err(BoxError::from)
                });
            let (near, far) = tokio::io::duplex(64 * 1024);
            serve(far, service);
            let mut client = Raw::handshake_at(near, "/?command=x&stdout=1", subprotocol)
                .await
                .unwrap();
            within(SOON, client.read_to_end()).await;
            drop(client);
            let summary = told.only().await;
            assert_eq!(summary.cause.name(), "completed");
            assert_eq!(summary.close_code, Some(1000));
            let status = summary.status.expect("a command's outcome");
            assert_eq!(
                (status.exit_code(), status.reason()),
                (code, reason),
                "{subprotocol}"
            );
            assert_eq!(status.is_success(), code == Some(0));
        }
    }
    // A session that reports no outcome, or no longer can, has none in its summary.
    let told = Told::default();
    let words = told
        .layer()
        .layer(service_fn(|channels: ChannelSet| async move {
            channels.session().say_last(|_| {
                let words = tower_wsstream::session::LastWords::silence();
                Some(words.with_status(Status::from_exit_code(7)))
            });
            answer(channels).await
        }));
    let client = open(words.clone(), subprotocols::V5).await;
    drop(client);
    assert_eq!(told.only().await.status, None);
    told.0.lock().unwrap().clear();
    let mut client = open(words, subprotocols::V5).await;
    client.close_channel(0).await.unwrap();
    within(SOON, client.read_to_end()).await;
    drop(client);
    assert_eq!(told.only().await.status, Some(Status::from_exit_code(7)));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_refused_was_none() {
    let told = Told::default();
    let layer = layer().config(told.config().accept(AcceptMode::Explicit));
    let service = layer.layer(service_fn(|_: ChannelSet| async {
        tokio::task::yield_now().await;
        Err::<(), BoxError>("no".into())
    }));
    let (near, far) = tokio::io::duplex(64 * 1024);
    serve(far, service);
    Raw::handshake(near, subprotocols::V5).await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(told.0.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_who_is_told_ends_nothing() {
    let layer = layer().config(config().on_end(|_| panic!("of no matter")));
    let service = layer.layer(service_fn(answer));
    for _ in 0..2 {
        let mut client = open(service.clone(), subprotocols::V5).await;
        client.close_channel(0).await.unwrap();
        let told = within(SOON, client.read_to_end()).await;
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// The session is dropped midway, as by a runtime that shuts down.
#[test]
fn an_aborted_session_is_told_too() {
    let told = Told::default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let client = runtime.block_on(async {
        let service = told.layer().layer(service_fn(answer));
        let mut client = open(service, subprotocols::V5).await;
        client.send(0, b"hello").await.unwrap();
        tokio::time::sleep(SOON).await;
        client
    });
    drop(runtime);
    let told = told.0.lock().unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].cause, EndCause::Aborted);
    assert_eq!(told[0].channels[0].received.bytes, 5);
    drop(client);
}

/// A write tells of the loss while input is left that was not read.
#[tokio::test(start_paused = true)]
async fn a_service_that_ends_by_the_loss_is_not_its_cause() {
    #[derive(Clone, Copy, Debug)]
    enum End {
        Fails,
        /// As a `RemoteCommandLayer` does with the error of its service.
        TellsNoError,
        Panics,
    }
    use End::{Fails, Panics, TellsNoError};

    for end in [Fails, TellsNoError, Panics] {
        for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
            let told = Told::default();
            let service = service_fn(move |channels: ChannelSet| async move {
                match (end, echo(channels).await) {
                    (Panics, Err(error)) => panic!("{error}"),
                    (TellsNoError, Err(_)) => Ok(()),
                    (_, result) => result,
                }
            });
            let mut client = open_with(told.layer().layer(service), offer, 1 << 20).await;
            // More than one read takes: the first write finds the loss in front of the rest.
            for _ in 0..40 {
                client.send(0, &[7; 10_000]).await.unwrap();
            }
            drop(client);
            let cause = told.only().await.cause;
            assert!(
                matches!(cause, EndCause::ConnectionLost { .. }),
                "{end:?}: {cause}"
            );
        }
    }
}
