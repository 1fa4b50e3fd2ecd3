//! Upgrades that never arrive.

use super::*;

/// Returns a service that reports the cause of the end, and does not return by itself.
fn staying() -> (
    impl Inner,
    mpsc::UnboundedReceiver<(EndCause, Instant)>,
    mpsc::UnboundedReceiver<Instant>,
) {
    let (tells, told) = mpsc::unbounded_channel();
    let (drops, dropped) = mpsc::unbounded_channel();
    let service = service_fn(move |set: ChannelSet| {
        let tells = tells.clone();
        let guard = Dropped(drops.clone());
        async move {
            let cause = set.session().ended().await;
            let _ = tells.send((cause, Instant::now()));
            pending::<()>().await;
            drop(guard);
            Ok::<_, BoxError>(())
        }
    });
    (service, told, dropped)
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_gone_before_the_101_is_lost_at_once() {
    let (inner, mut told, mut dropped) = staying();
    let service = standard().layer(inner);
    let before = tasks();
    let (request, wire) = hold(&Head::to("/")).await;
    let response = service.oneshot(request).await.unwrap();
    let started = Instant::now();
    drop((response, wire));
    let (cause, at) = soon(told.recv()).await.unwrap();
    assert!(matches!(cause, EndCause::UpgradeFailed { .. }), "{cause}");
    assert_eq!(at, started);
    let at = soon(dropped.recv()).await.unwrap();
    assert_eq!((at - started).as_millis() / 10, 100, "one second of grace");
    settle().await;
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_never_handed_over_is_lost_in_time() {
    let short = || {
        standard().config(
            SessionConfig::default()
                .upgrade_timeout(Duration::from_secs(2))
                .grace(Duration::from_secs(3)),
        )
    };
    for (layer, upgrade, grace) in [(standard(), 10, 1), (short(), 2, 3)] {
        let (inner, mut told, mut dropped) = staying();
        let service = layer.layer(inner);
        let before = tasks();
        // The connection is not polled on: no answer leaves, and no upgrade arrives.
        let (request, _wire) = hold(&Head::to("/")).await;
        let _response = service.oneshot(request).await.unwrap();
        let started = Instant::now();
        let (cause, at) = soon(told.recv()).await.unwrap();
        let EndCause::UpgradeFailed { kind, .. } = cause else {
            panic!("{cause}");
        };
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!((at - started).as_millis() / 10, upgrade * 100);
        let at = soon(dropped.recv()).await.unwrap();
        assert_eq!((at - started).as_millis() / 10, (upgrade + grace) * 100);
        settle().await;
        assert_eq!(tasks(), before);
    }
}

/// Output that was accepted meanwhile waits within its budget, and then fails.
#[tokio::test(start_paused = true)]
async fn handles_of_a_session_that_is_never_upgraded_wait_and_then_fail() {
    let (inner, mut sets) = handing();
    let (request, _wire) = hold(&Head::to("/")).await;
    let _response = standard().layer(inner).oneshot(request).await.unwrap();
    let mut set = sets.recv().await.unwrap();
    let mut writer = set.take_writer(1).unwrap();
    let mut reader = set.take_reader(0).unwrap();
    writer.write_all(&[0; 32 * 1024]).await.unwrap();
    let mut flush = tokio_test::task::spawn(async move {
        writer.flush().await.unwrap_err();
        writer.write(b"x").await.unwrap_err()
    });
    assert_pending!(flush.poll());
    let error = timeout(LONG, reader.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(flush.is_woken());
    let error = assert_ready!(flush.poll());
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(cause(&error), EndCause::UpgradeFailed { .. }));
}

/// `Duration::MAX` stands for never.
#[tokio::test(start_paused = true)]
async fn durations_without_end_do_not_panic() -> Result<(), BoxError> {
    let layer = standard().config(
        SessionConfig::default()
            .accept_timeout(Duration::MAX)
            .upgrade_timeout(Duration::MAX)
            .grace(Duration::MAX)
            .closed_grace(Duration::MAX)
            .close_timeout(Duration::MAX),
    );
    let service = layer.layer(service_fn(async |set: ChannelSet| {
        set.session().ended().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        Ok::<_, BoxError>(())
    }));
    let mut client = Connect::to("/").connect(service).await?;
    client.close(None).await?;
    assert_eq!(
        timeout(LONG, client.receive()).await?,
        Received::Closed {
            code: None,
            reason: "".into()
        }
    );
    Ok(())
}
