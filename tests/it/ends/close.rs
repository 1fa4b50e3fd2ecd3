//! `Session::close`.

use super::*;

#[tokio::test(start_paused = true)]
async fn session_close_sends_what_was_accepted_then_its_own_code() {
    for (code, reason) in [(1001, "going"), (1011, ""), (3000, "three"), (4999, "x")] {
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdin = set.take_reader(0).unwrap();
            let mut stdout = set.take_writer(1).unwrap();
            let session = set.session().clone();
            stdout.write_all(&[b'o'; 20_000]).await?;
            stdout.send(vec![b'o'; 80_000]).await?;
            session
                .close(code, reason)
                .expect("a code that may be sent");
            let error = stdout.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            let error = stdout.send("more").await.unwrap_err();
            assert!(
                matches!(End::of(&error), End::Error(_, EndCause::Closed { code: c, .. }) if c == code)
            );
            let (_, end) = read_out(&mut stdin).await;
            assert!(matches!(
                end,
                End::Error(io::ErrorKind::ConnectionAborted, EndCause::Closed { code: c, .. }) if c == code
            ));
            assert!(matches!(session.ended().await, EndCause::Closed { .. }));
            // The first close counts.
            session.close(4000, "again").unwrap();
            stdout.flush().await?;
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V5, 1000).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), 100_000);
        assert_eq!(told.close, Some(Some(code)));
        assert_eq!(told.reason, reason);
    }
}

/// One poll earlier or later gives the same end.
#[tokio::test(start_paused = true)]
async fn a_close_is_the_end_whenever_it_is_asked_for_and_whatever_is_returned() {
    for polls in 0..3 {
        for how in [How::Ok, How::Err, How::Panic, How::Never] {
            let service = once(move |set: ChannelSet| async move {
                for _ in 0..polls {
                    tokio::task::yield_now().await;
                }
                set.session().close(4001, "log in again")?;
                finish(how).await
            });
            let mut client = open(service, subprotocols::V5).await;
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.close, Some(Some(4001)), "{how:?} in poll {polls}");
            assert_eq!(told.reason, "log in again");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_is_too_long_is_cut_between_characters() {
    let reason = "ä".repeat(100);
    let expected = "ä".repeat(61);
    let service = once(move |set: ChannelSet| async move {
        set.session().close(4000, &reason)?;
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
    assert_eq!((told.close, told.reason), (Some(Some(4000)), expected));
}

#[tokio::test(start_paused = true)]
async fn codes_that_must_not_be_sent_are_refused_and_change_nothing() {
    let service = once(|mut set: ChannelSet| async move {
        for code in [
            0,
            999,
            1000,
            1004,
            1005,
            1006,
            1015,
            1016,
            2999,
            5000,
            u16::MAX,
        ] {
            let refused = set.session().close(code, "").unwrap_err();
            assert!(refused.to_string().contains(&code.to_string()));
        }
        set.take_writer(1).unwrap().write_all(b"out").await?;
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("out", Some(Some(1000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_session_close_is_dropped_after_the_grace() {
    let (note, mut dropped) = drop_note();
    let service = once(move |set: ChannelSet| async move {
        let _held = note;
        sleep(millis(100)).await;
        set.session().close(1001, "")?;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V5).await;
    sleep(millis(100)).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1001)));
    soon(dropped.recv()).await.unwrap();
    assert_after(start, secs(1));
}

/// The service is polled and returns before the session looks at its call.
#[tokio::test(start_paused = true)]
async fn session_close_counts_also_where_the_service_returns_at_once() {
    for pause in [None, Some(millis(10))] {
        for how in [How::Ok, How::Err, How::Panic] {
            let service = once(move |set: ChannelSet| async move {
                if let Some(pause) = pause {
                    sleep(pause).await;
                }
                set.session().close(4001, "mine")?;
                if pause.is_none() {
                    tokio::task::yield_now().await;
                }
                drop(set);
                finish(how).await
            });
            let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
            let seen = (told.close, told.reason.as_str());
            assert_eq!(seen, (Some(Some(4001)), "mine"), "{how:?} after {pause:?}");
        }
    }
}

/// The service has its grace in which to write, and a close of its own does not take it away.
#[tokio::test(start_paused = true)]
async fn session_close_behind_another_end_has_no_effect() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        let session = set.session().clone();
        assert!(matches!(session.ended().await, EndCause::PeerClosed { .. }));
        session.close(4001, "too late")?;
        sleep(secs(20)).await;
        stdout.write_all(b"the result").await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    client.close(Some(1000)).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.text(1), "the result");
    assert_eq!(told.close, Some(Some(1000)));
}
