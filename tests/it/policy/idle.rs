//! The end of an idle session.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_idle_service_learns_it_and_may_still_speak() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in ALL {
        for well in [true, false] {
            let (tell, read) = oneshot::channel();
            let service = once_in(idle(), move |mut set: ChannelSet| async move {
                let mut stdin = set.take_reader(0).unwrap();
                let mut stdout = set.take_writer(1).unwrap();
                let _ = tell.send(read_out(&mut stdin).await);
                assert_eq!(set.session().ended().await, EndCause::IdleTimeout);
                sleep(Duration::from_millis(900)).await;
                stdout.write_all(b"you are idle").await?;
                well.then_some(()).ok_or_else(|| "idle".into())
            });
            let mut client = open(service, offer).await;
            let start = Instant::now();
            client.send(0, b"first").await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            assert_at(
                "the Close",
                start.elapsed(),
                IDLE + Duration::from_millis(900),
            );
            assert_eq!(told.text(1), "you are idle");
            // An error of the service in its grace does not change the cause.
            let close = (told.close, &*told.reason);
            let expected = if well {
                (1000, "")
            } else {
                (1001, "idle timeout")
            };
            assert_eq!(close, (Some(Some(expected.0)), expected.1), "{offer:?}");
            let end = End::Error(io::ErrorKind::TimedOut, EndCause::IdleTimeout);
            assert_eq!(read.await.unwrap(), (b"first".to_vec(), end));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_service_that_ignores_it_is_dropped_after_its_grace() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once_in(
        idle().config(config().idle_timeout(IDLE).grace(secs(3))),
        |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            let mut ended = pin!(set.session().ended());
            (&mut ended).await;
            loop {
                stdout.write_all(b".").await?;
                sleep(secs(1)).await;
            }
        },
    );
    let client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let (mut client, _write) = client.into_halves();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1001)));
    assert_eq!(told.reason, "idle timeout");
    assert!(told.text(1).starts_with("..."), "{told:?}");
    // The client is silent, so the socket is released later.
    assert!(start.elapsed() >= IDLE + secs(3));
}

/// The service has returned, but another task still holds a writer.
#[tokio::test(start_paused = true)]
async fn a_session_whose_writer_is_forgotten_ends_when_idle() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (give, output) = oneshot::channel();
    let service = once_in(idle(), |mut set: ChannelSet| async move {
        assert!(give.send(set.take_writer(1)).is_ok());
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let mut output = output.await.unwrap().unwrap();
    let close = within(LONG, client.next()).await.unwrap();
    assert_at("the Close", start.elapsed(), IDLE + secs(1));
    assert_eq!(close.close_code(), Some(1000), "the service has told it");
    let error = output.write_all(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_is_not_idle() {
    let _watchdog = Watchdog::bites_after(BITE);
    // In the grace after a Close that ended its input.
    let service = once_in(idle(), |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        let (all, end) = read_out(&mut stdin).await;
        assert_eq!((all.len(), end), (5, End::Eof));
        sleep(secs(25)).await;
        let code = Some(1000);
        assert!(
            matches!(set.session().ended().await, EndCause::PeerClosed { code: c, .. } if c == code)
        );
        stdout.write_all(b"done").await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    client.send(0, b"input").await.unwrap();
    client.close(Some(1000)).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!((&*told.text(1), told.close), ("done", Some(Some(1000))));

    // While its last output waits for the peer to read.
    let service = once_in(idle(), |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        stdout.send(vec![7; 300_000]).await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 1000).await;
    sleep(6 * IDLE).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.channel(1).len(), told.close),
        (300_000, Some(Some(1000)))
    );
}

#[cfg(feature = "remotecommand")]
mod command {
    use tower_wsstream::{
        BoxError,
        remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    };

    use super::*;

    /// Never ends.
    async fn never(_command: RemoteCommand) -> Result<ExitStatus, BoxError> {
        std::future::pending().await
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_command_is_told_by_a_status() {
        let _watchdog = Watchdog::bites_after(BITE);
        for offer in ALL {
            let service = ServiceBuilder::new()
                .layer(WsStreamLayer::new(Protocols::default()).idle_timeout(IDLE))
                .layer(RemoteCommandLayer::new())
                .service_fn(never);
            let (near, far) = tokio::io::duplex(4096);
            serve(far, service);
            let path = "/exec?stdin=1&stdout=1&command=sleep";
            let mut client = Raw::handshake_at(near, path, offer).await.unwrap();
            let start = Instant::now();
            let told = within(LONG, client.read_to_end()).await;
            assert!(start.elapsed() >= IDLE + secs(1), "its grace was kept");
            let said = told.text(3);
            assert!(said.contains("idle for too long"), "{offer:?}: {said}");
            if offer.contains("v4") || offer.contains("v5") {
                let status: serde_json::Value = serde_json::from_str(&said).unwrap();
                assert_eq!(status["status"], "Failure");
                assert_eq!(status["reason"], "Timeout");
                assert_eq!(status["code"], 504);
            }
            assert_eq!(told.messages.last().unwrap().0, 3, "it is the last word");
            assert_eq!(told.close, Some(Some(1000)), "{offer:?}: it was told");
        }
    }
}
