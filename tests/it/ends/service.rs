//! Services that end, and services that do not.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_end_in_the_first_poll_is_an_answer_unless_something_was_written() {
    for (how, writes, status) in [
        (How::Ok, false, "101"),
        (How::Err, false, "500"),
        (How::Panic, false, "500"),
        (How::Ok, true, "101"),
        (How::Err, true, "101"),
        (How::Panic, true, "101"),
    ] {
        let service = once(move |mut set: ChannelSet| async move {
            if writes {
                set.take_writer(1).unwrap().write_all(b"out").await?;
            }
            finish(how).await
        });
        let (near, far) = tokio::io::duplex(4096);
        serve(far, service);
        match Raw::handshake(near, subprotocols::V4).await {
            Ok(mut client) => {
                assert_eq!(status, "101", "{how:?}");
                let told = within(LONG, client.read_to_end()).await;
                assert_eq!(told.text(1), if writes { "out" } else { "" });
                assert_eq!(told.close, Some(Some(own_code(how))), "{how:?}");
            }
            Err(head) => {
                assert!(
                    head.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{how:?}: {head}"
                );
                assert!(!head.contains("on purpose"), "a fixed text");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_ends_an_open_session() {
    for subprotocol in ALL {
        for how in [How::Ok, How::Err, How::Panic] {
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                sleep(millis(10)).await;
                stdout.write_all(b"out").await?;
                finish(how).await
            });
            let told = within(LONG, open(service, subprotocol).await.read_to_end()).await;
            assert_eq!(told.text(1), "out");
            assert_eq!(told.close, Some(Some(own_code(how))), "{how:?}");
        }
    }
}

/// After a Close the service may go on for the grace: 30 s where clients end their input with a
/// Close, otherwise 1 s.
#[tokio::test(start_paused = true)]
async fn a_service_ends_or_is_dropped_after_the_close_of_the_peer() {
    for (subprotocol, code, grace) in [
        (subprotocols::V4, Some(1000), secs(30)),
        (subprotocols::V4, None, secs(30)),
        (subprotocols::V4, Some(1001), secs(1)),
        (subprotocols::V5, Some(1000), secs(1)),
        (subprotocols::V5, None, secs(1)),
    ] {
        for how in [How::Ok, How::Err, How::Panic, How::Never] {
            let (note, mut dropped) = drop_note();
            let service = once(move |set: ChannelSet| async move {
                let _note = note;
                let ended = set.session().ended();
                drop(set);
                ended.await;
                sleep(millis(700)).await;
                finish(how).await
            });
            let mut client = open(service, subprotocol).await;
            let start = Instant::now();
            client.close(code).await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            // A peer's Close is always answered with its own code.
            assert_eq!(told.close, Some(code), "{how:?} on {subprotocol}");
            let expected = if how == How::Never {
                grace
            } else {
                millis(700)
            };
            assert_after(start, expected);
            let dropped = soon(dropped.recv()).await.unwrap();
            assert!(
                dropped - start <= expected + millis(5),
                "{how:?} on {subprotocol}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_the_loss_is_dropped_after_the_grace() {
    let (note, mut dropped) = drop_note();
    let service = once(move |set: ChannelSet| async move {
        let _held = (set, note);
        std::future::pending::<()>().await;
        Ok(())
    });
    let client = open(service, subprotocols::V5).await;
    sleep(secs(10)).await;
    drop(client);
    let start = Instant::now();
    soon(dropped.recv()).await.unwrap();
    assert_after(start, secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_a_protocol_error_is_dropped_after_the_grace() {
    let (note, mut dropped) = drop_note();
    let service = once(move |set: ChannelSet| async move {
        let _held = (set, note);
        std::future::pending::<()>().await;
        Ok(())
    });
    let client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let mut client = act(Act::ReservedBit, client).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1002)));
    assert_after(start, Duration::ZERO);
    soon(dropped.recv()).await.unwrap();
    assert_after(start, secs(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_clean_close_on_v4_output_flows_for_thirty_seconds() {
    let (errors, mut error) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        let (_, end) = read_out(&mut stdin).await;
        assert_eq!(end, End::Eof);
        tokio::spawn(async move {
            loop {
                if let Err(failed) = stdout.write_all(b".").await {
                    errors.send(failed).unwrap();
                    return;
                }
                sleep(secs(1)).await;
            }
        });
        std::future::pending::<()>().await;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    let start = Instant::now();
    client.close(Some(1000)).await.unwrap();
    for second in 0..30 {
        let frame = within(LONG, client.next()).await.unwrap();
        assert_eq!(&frame.payload[..], [1, b'.']);
        assert_after(start, secs(second));
    }
    let told = within(LONG, client.read_to_end()).await;
    assert!(told.text(1).len() <= 1);
    assert_eq!(told.close, Some(Some(1000)));
    assert_after(start, secs(30));
    let error = within(LONG, error.recv()).await.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn silence_does_not_shorten_the_thirty_seconds_after_a_clean_close() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        let (input, end) = read_out(&mut stdin).await;
        assert_eq!(end, End::Eof);
        sleep(secs(25)).await;
        stdout.write_all(&input).await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    client.send(0, b"work").await.unwrap();
    client.close(None).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.text(1), "work");
    assert_eq!(told.close, Some(None));
}

#[tokio::test(start_paused = true)]
async fn the_fin_of_the_peer_ends_the_thirty_seconds_after_the_grace() {
    let (note, mut dropped) = drop_note();
    let service = once(move |mut set: ChannelSet| async move {
        let _note = note;
        let mut stdout = set.take_writer(1).unwrap();
        set.session().ended().await;
        sleep(millis(5500)).await;
        // The FIN came half a second ago, and the client may or may not still read.
        stdout.write_all(b"late").await?;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V4).await;
    client.close(Some(1000)).await.unwrap();
    let start = Instant::now();
    sleep(secs(5)).await;
    client.io.shutdown().await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, secs(6));
    assert_eq!(told.text(1), "late");
    assert_eq!(told.close, Some(Some(1000)));
    soon(dropped.recv()).await.unwrap();
}
