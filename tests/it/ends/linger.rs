//! The time after our Close, and output that was accepted before it.

use super::*;

async fn goodbye(mut set: ChannelSet) -> Result<(), BoxError> {
    set.take_writer(1).unwrap().write_all(b"bye").await?;
    Ok(())
}

/// Returns whether the server has shut its side down.
async fn has_shut_down(client: &mut Raw<DuplexStream>) -> bool {
    let fin = tokio::time::timeout(millis(1), client.next()).await;
    if let Ok(Some(frame)) = &fin {
        panic!("behind the Close: {frame:?}");
    }
    fin.is_ok()
}

/// A proxy that copies bytes closes both of its connections at the first EOF. A FIN right behind
/// our Close would cost the client everything it has not read yet.
#[tokio::test(start_paused = true)]
async fn fin_waits_for_the_peers_close() {
    for answer in [Some(1000), Some(4001), None] {
        let (mut client, mut dropped) =
            open_watched(session(goodbye), subprotocols::V5, 4096).await;
        let told = within(LONG, client.read_to_close()).await;
        assert_eq!(
            (told.text(1).as_str(), told.close),
            ("bye", Some(Some(1000)))
        );
        // The Close may be late, as that of a slow reader is: anything the client sends is a sign
        // of life.
        for _ in 0..5 {
            sleep(secs(29)).await;
            assert!(!has_shut_down(&mut client).await);
            client.bytes(&frame(true, PING, b"")).await.unwrap();
        }
        client.close(answer).await.unwrap();
        assert!(has_shut_down(&mut client).await);
        assert!(dropped.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    }
}

#[tokio::test(start_paused = true)]
async fn the_fin_of_the_peer_is_an_answer_to_the_close() {
    let (mut client, dropped) = open_watched(session(goodbye), subprotocols::V5, 4096).await;
    within(LONG, client.read_to_close()).await;
    let start = Instant::now();
    client.io.shutdown().await.unwrap();
    assert_eq!(within(LONG, client.next()).await, None);
    let _ = within(LONG, dropped).await;
    assert_after(start, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn fin_comes_after_thirty_seconds_without_a_byte() {
    let service = session(goodbye);
    let (mut client, dropped) = open_watched(service, subprotocols::V5, 4096).await;
    within(LONG, client.read_to_close()).await;
    sleep(secs(20)).await;
    client.send(0, b"late").await.unwrap();
    let start = Instant::now();
    assert_eq!(within(LONG, client.next()).await, None);
    assert_after(start, secs(30));
    // The client may still answer the FIN.
    let _ = within(LONG, dropped).await;
    assert_after(start, secs(60));
}

#[tokio::test(start_paused = true)]
async fn fin_goes_at_once_behind_the_answer_to_a_close() {
    let (mut client, _dropped) = open_watched(once(until_ended), subprotocols::V5, 4096).await;
    client.close(Some(4001)).await.unwrap();
    let told = within(LONG, client.read_to_close()).await;
    assert_eq!(told.close, Some(Some(4001)));
    assert!(has_shut_down(&mut client).await);
}

/// After a fault, nothing is decoded any more, so there is no Close to wait for.
#[tokio::test(start_paused = true)]
async fn fin_goes_at_once_behind_the_close_for_a_fault() {
    for (fault, code) in [
        (Act::ReservedBit, 1002),
        (Act::NotUtf8, 1007),
        (Act::TooLarge, 1009),
    ] {
        let limits = Limits::default().max_frame(LARGEST);
        let service = once_in(layer().limits(limits), until_ended);
        let client = open(service, subprotocols::V5).await;
        let mut client = act(fault, client).await.unwrap();
        let told = within(LONG, client.read_to_close()).await;
        assert_eq!(told.close, Some(Some(code)), "{fault:?}");
        assert!(has_shut_down(&mut client).await, "{fault:?}");
    }
}

/// A fault behind our own Close also means that there is no Close to wait for.
#[tokio::test(start_paused = true)]
async fn a_fault_ends_the_wait_for_the_peers_close() {
    let client = open(session(goodbye), subprotocols::V5).await;
    let mut client = act(Act::Unmasked, client).await.unwrap();
    within(LONG, client.read_to_close()).await;
    assert!(has_shut_down(&mut client).await);
}

async fn until_ended(set: ChannelSet) -> Result<(), BoxError> {
    set.session().ended().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_its_close_the_server_reads_on_until_the_fin() {
    let (mut client, mut dropped) = open_watched(session(goodbye), subprotocols::V5, 4096).await;
    within(LONG, client.read_to_end()).await;
    // Our side is shut down. Data that the client still sends is read.
    for _ in 0..100 {
        client.send(0, &[7; 2000]).await.unwrap();
    }
    client.close(Some(1000)).await.unwrap();
    sleep(secs(1)).await;
    assert!(dropped.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    let start = Instant::now();
    client.io.shutdown().await.unwrap();
    let _ = within(LONG, dropped).await;
    assert_after(start, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn after_thirty_seconds_of_silence_the_socket_is_let_go() {
    let (mut client, dropped) = open_watched(session(goodbye), subprotocols::V5, 4096).await;
    within(LONG, client.read_to_end()).await;
    for _ in 0..3 {
        sleep(secs(20)).await;
        client.send(0, b"still here").await.unwrap();
    }
    let start = Instant::now();
    let _ = within(LONG, dropped).await;
    assert_after(start, secs(30));
}

/// Sends data every ten seconds until the connection is dropped, and returns the time that this
/// took.
async fn talk_until(dropped: impl Future, client: &mut Raw<DuplexStream>) -> Duration {
    let start = Instant::now();
    let talk = async {
        while client.send(0, b"still here").await.is_ok() {
            sleep(secs(10)).await;
        }
    };
    let _ = within(LONG, async { tokio::join!(talk, dropped) }).await;
    start.elapsed()
}

/// RFC 6455, 7.1.1. The limit applies with and without an answer to our Close.
#[tokio::test(start_paused = true)]
async fn lingering_ends_after_five_minutes_whatever_comes() {
    for answers in [true, false] {
        let (mut client, dropped) = open_watched(session(goodbye), subprotocols::V5, 4096).await;
        match answers {
            true => within(LONG, client.read_to_end()).await,
            false => within(LONG, client.read_to_close()).await,
        };
        let elapsed = talk_until(dropped, &mut client).await;
        assert!(elapsed >= secs(300) && elapsed <= secs(311), "{elapsed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_closing_can_be_set() {
    let service = once_in(layer().config(config().close_limit(secs(40))), goodbye);
    let (mut client, dropped) = open_watched(service, subprotocols::V5, 4096).await;
    within(LONG, client.read_to_close()).await;
    let elapsed = talk_until(dropped, &mut client).await;
    assert!(elapsed >= secs(40) && elapsed <= secs(51), "{elapsed:?}");
}

/// Output for a peer that takes it byte by byte cannot be kept for ever, but a slow reader is
/// legitimate. So it gets five minutes, and the time for the queued output at 2 KiB/s.
#[tokio::test(start_paused = true)]
async fn closing_is_bounded_however_little_leaves_at_a_time() {
    for (rate, allowed) in [(2048, 300 + 29), (1024, 300 + 58), (60_000, 300 + 1)] {
        let limits = match rate {
            2048 => Limits::default(),
            rate => Limits::default().min_read_rate(rate),
        };
        let service = once_in(layer().limits(limits), |mut set: ChannelSet| async move {
            set.take_writer(1).unwrap().write_all(&[7; 30_000]).await?;
            set.take_writer(2).unwrap().write_all(&[7; 30_000]).await?;
            Ok(())
        });
        let (mut client, dropped) = open_watched(service, subprotocols::V5, 64).await;
        let start = Instant::now();
        let trickle = async {
            while client.io.read_exact(&mut [0; 1]).await.is_ok() {
                sleep(secs(80)).await;
            }
        };
        tokio::select! {
            () = trickle => {}
            _ = dropped => {}
        }
        let elapsed = start.elapsed();
        let allowed = secs(allowed);
        assert!(
            elapsed >= allowed && elapsed <= allowed + secs(1),
            "{rate}: {elapsed:?}"
        );
    }
}

/// The time that our own rate needs is added once. A peer that takes 80 s for a frame must not
/// renew it.
#[tokio::test(start_paused = true)]
async fn closing_is_bounded_where_the_output_has_a_rate_of_its_own() {
    // The payload of a frame of 64 bytes, which is as much as the transport holds.
    const FRAME: usize = 64;
    const PAYLOAD: usize = FRAME - 3;
    for (rate, takes) in [(1_000, FRAME), (1_000, 1), (20_000, FRAME)] {
        // More than a burst, which is 50 ms of the rate.
        let frames_at_once = (rate / 20 / FRAME as u64) as usize + 1;
        let capacity = FRAME * frames_at_once;
        let takes = if takes == 1 { 1 } else { capacity };
        let rate_of = layer().config(config().byte_rate(ByteRate::default().outbound(rate)));
        let service = once_in(rate_of, |mut set: ChannelSet| async move {
            for channel in [1, 2] {
                let mut writer = set.take_writer(channel).unwrap();
                for _ in 0..30_000 / PAYLOAD {
                    writer.write_all(&[7; PAYLOAD]).await?;
                }
            }
            Ok(())
        });
        let (mut client, dropped) = open_watched(service, subprotocols::V5, capacity).await;
        let start = Instant::now();
        let trickle = async {
            let mut bytes = vec![0; takes];
            // Ten hours are enough to see a renewal.
            while client.io.read_exact(&mut bytes).await.is_ok() && start.elapsed() < secs(36_000) {
                sleep(secs(80)).await;
            }
        };
        tokio::select! {
            () = trickle => {}
            _ = dropped => {}
        }
        // The time for 63 KB at this rate, and at 2 KiB/s.
        let allowed = secs(300 + 63_000 / rate + 63_000 / 2048 + 90);
        let elapsed = start.elapsed();
        assert!(
            elapsed <= allowed,
            "{rate} by {takes}: {elapsed:?}, not {allowed:?}"
        );
    }
}

/// A client that reads 4 KiB/s gets everything.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_all_of_a_long_end() {
    const ALL: usize = 1 << 20;
    let service = once(|mut set: ChannelSet| async move {
        set.take_writer(1).unwrap().send(vec![7; ALL]).await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 4096).await;
    let mut bytes = 0;
    let close = loop {
        // A frame has up to 32 KiB.
        let frame = within(LONG, client.next()).await.expect("not cut off");
        sleep(secs(8)).await;
        match frame.opcode {
            CLOSE => break frame.close_code(),
            _ => bytes += frame.payload.len(),
        }
    };
    assert_eq!((bytes - 1, close), (ALL, Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn ninety_seconds_without_a_byte_taken_abort_a_close() {
    let (writes, mut written) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        stdout.send(vec![7; 100_000]).await?;
        writes.send(Instant::now()).unwrap();
        Ok(())
    });
    let (mut client, dropped) = open_watched(service, subprotocols::V5, 4096).await;
    let start = within(LONG, written.recv()).await.unwrap();
    // Each byte that the client reads restarts the deadline.
    for _ in 0..3 {
        sleep(secs(80)).await;
        client.io.read_exact(&mut [0; 100]).await.unwrap();
    }
    let _ = within(LONG, dropped).await;
    assert_after(start, secs(3 * 80 + 90));
    let mut rest = Vec::new();
    client.io.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 4096, "{} bytes", rest.len());
}

/// If we did not read while we close, a client that writes before it reads would deadlock with us.
#[tokio::test(start_paused = true)]
async fn closing_reads_while_it_writes() {
    for subprotocol in [subprotocols::V4, subprotocols::V5, subprotocols::V4_BASE64] {
        let service = once(|mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            // The service never reads: the window is full, and reading is paused.
            let _stdin = set.take_reader(0).unwrap();
            sleep(millis(100)).await;
            stdout.send(vec![7; 1_000_000]).await?;
            Ok(())
        });
        let mut client = open_with(service, subprotocol, 4096).await;
        for _ in 0..100 {
            within(LONG, client.send(0, &[1; 10_000])).await.unwrap();
        }
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), 1_000_000);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// Without lingering, the kernel replaces the last bytes with a reset.
#[tokio::test]
async fn over_tcp_nothing_is_lost_to_a_client_that_goes_on_sending() {
    let _watchdog = Watchdog::bites_after(secs(50));
    for round in 0..10 {
        let service = once(|mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            for _ in 0..32 {
                stdout.write_all(&[7; 32 * 1024]).await?;
            }
            Ok(())
        });
        let client = open_tcp(service, subprotocols::V5, true).await;
        let (mut client, mut far) = client.into_halves();
        let talk = tokio::spawn(async move {
            let message = frame(true, BINARY, &on(0, &[1; 16 * 1024]));
            while far.write_all(&message).await.is_ok() {}
        });
        // The client is slow, so the last bytes are still in the kernel when the server has sent
        // its Close.
        let (mut close, mut bytes) = (None, 0);
        while close.is_none() {
            tokio::task::yield_now().await;
            match within(secs(20), client.next()).await {
                Some(frame) if frame.opcode == CLOSE => close = frame.close_code(),
                Some(frame) => bytes += frame.payload.len() - 1,
                None => break,
            }
        }
        talk.abort();
        assert_eq!(
            (bytes, close),
            (32 * 32 * 1024, Some(1000)),
            "round {round}"
        );
    }
}
