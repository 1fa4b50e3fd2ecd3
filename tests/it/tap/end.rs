//! The end of a recording.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_half_close_ends_a_side_and_not_the_recording() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let (more, mut go_on) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        assert_eq!(input.read_to_end(&mut Vec::new()).await?, 4);
        go_on.recv().await;
        output.write_all(b"after").await?;
        Ok(())
    })
    .await;
    client.send(0, b"last").await.unwrap();
    client.close_channel(0).await.unwrap();
    assert_eq!(seen(&payload(&mut records).await), is(Inbound, 0, b"last"));
    assert!(timeout(LONG, records.next()).await.is_err());
    more.send(()).await.unwrap();
    read_to_end(client).await;
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Outbound, 1, b"after")]);
    assert_eq!(cause, EndCause::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_end_tells_the_cause_behind_all_records() {
    // A handle that was given away can be read after the session.
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        assert_eq!(input.fill_buf().await?, b"late");
        let session = channels.session().clone();
        tokio::spawn(async move {
            session.ended().await;
            sleep(LONG / 2).await;
            read(&mut input, 4).await.unwrap();
            input.read_u8().await.unwrap_err();
            // It was read to its end, so dropping it changes nothing.
            std::future::pending::<()>().await;
            drop(input);
        });
        Err("no".into())
    })
    .await;
    client.send(0, b"late").await.unwrap();
    read_to_end(client).await;
    let all = rest_seen(&mut records).await;
    assert_eq!(
        all,
        (vec![is(Inbound, 0, b"late")], EndCause::ServiceFailed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_was_shut_down_does_not_hold_the_end() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let (kept, keeps) = oneshot::channel();
    let client = tapped(tap, move |mut channels| async move {
        let mut output = channels.take_writer(1).unwrap();
        output.write_all(b"x").await?;
        output.shutdown().await?;
        let _ = kept.send(output);
        Ok(())
    })
    .await;
    read_to_end(client).await;
    let all = rest_seen(&mut records).await;
    assert_eq!(all, (vec![is(Outbound, 1, b"x")], EndCause::Completed));
    drop(keeps);
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told() {
    type Ends = fn(&EndCause) -> bool;
    let cases: [(&str, Ends); 4] = [
        ("closes", |cause| {
            matches!(
                cause,
                EndCause::PeerClosed {
                    code: Some(1001),
                    ..
                }
            )
        }),
        ("is lost", |cause| {
            matches!(cause, EndCause::ConnectionLost { .. })
        }),
        ("panics", |cause| *cause == EndCause::ServicePanicked),
        ("ends", |cause| {
            matches!(cause, EndCause::Closed { code: 4000, .. })
        }),
    ];
    for (what, ends) in cases {
        let (tap, mut records) = Tap::new(Overflow::Lossy);
        let mut client = tapped(tap, move |channels| async move {
            tokio::task::yield_now().await;
            match what {
                "panics" => panic!("as it should"),
                "ends" => channels.session().close(4000, "")?,
                _ => {}
            }
            channels.session().ended().await;
            Ok(())
        })
        .await;
        match what {
            "is lost" => drop(client),
            "closes" => {
                client.close(Some(1001)).await.unwrap();
                read_to_end(client).await;
            }
            _ => {
                read_to_end(client).await;
            }
        }
        let (all, cause) = rest_seen(&mut records).await;
        assert!(all.is_empty() && ends(&cause), "{what}: {cause:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_refused_ends_its_recording() {
    for accept in [AcceptMode::Immediate, AcceptMode::Explicit] {
        let (tap, mut records) = Tap::new(Overflow::Backpressure);
        assert_eq!(refused(with(tap), accept).await, 404);
        let all = rest_seen(&mut records).await;
        assert_eq!(all, (vec![], EndCause::Aborted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tap_without_a_session_has_no_record() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let mut waiting = tokio_test::task::spawn(records.next());
    assert_pending!(waiting.poll());
    drop(tap);
    assert!(waiting.is_woken());
    assert!(within(waiting).await.is_none());
    assert!(within(records.next()).await.is_none());
}
