//! Promises of the handles: cancel safety, early bytes, and the types of Go.

use super::*;

/// Drops futures wherever they are pending: exactly the accepted bytes count as accepted.
#[tokio::test(start_paused = true)]
async fn dropped_writes_and_sends_have_done_nothing() {
    let _watchdog = Watchdog::bites_after(BITE);
    for spawned in [false, true] {
        for capacity in [1, 700, 20_000] {
            let (logs, log) = oneshot::channel();
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                drop(set);
                let writing = async move {
                    let mut log = Vec::new();
                    let mut dropped = 0;
                    for n in 0..150_u32 {
                        let payload = vec![n as u8; 1500 + 10 * n as usize];
                        if n % 2 == 0 {
                            match stdout.write(&payload).now_or_never() {
                                Some(accepted) => log.push(payload[..accepted?].to_vec()),
                                None => dropped += 1,
                            }
                        } else if let Some(sent) = stdout.send(payload.clone()).now_or_never() {
                            sent?;
                            log.push(payload);
                        } else {
                            dropped += 1;
                        }
                        // A flush that is dropped changes nothing either.
                        let _ = stdout.flush().now_or_never();
                        if n % 16 == 0 {
                            sleep(Duration::from_millis(1)).await;
                        }
                    }
                    assert!(dropped > 0, "nothing was dropped");
                    logs.send(log).unwrap();
                    Ok::<_, BoxError>(())
                };
                match spawned {
                    true => tokio::spawn(writing).await?,
                    false => writing.await,
                }
            });
            let mut client = open_with(service, subprotocols::V5, capacity).await;
            sleep(Duration::from_millis(5)).await;
            let told = within(LONG, client.read_to_end()).await;
            let log = within(LONG, log).await.unwrap();
            let came: Vec<_> = told
                .messages
                .into_iter()
                .map(|(_, payload)| payload)
                .collect();
            assert!(
                came == log,
                "{} messages instead of {}",
                came.len(),
                log.len()
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dropped_reads_have_lost_nothing() {
    for subprotocol in ALL {
        let (mut client, mut readers) = readers(subprotocol).await;
        let mut all = Vec::new();
        let sent = pattern(300_000);
        for piece in sent.chunks(777) {
            // Pending, because there is no data yet.
            let mut buf = [0; 100];
            assert!(readers.stdin.read(&mut buf).now_or_never().is_none());
            {
                let mut filling = pin!(readers.stdin.fill_buf());
                let pending =
                    std::future::poll_fn(|cx| Poll::Ready(filling.as_mut().poll(cx).is_pending()));
                assert!(pending.await);
            }
            client.send(0, piece).await.unwrap();
            // Peeked at and not consumed, so it is there again.
            let seen = within(LONG, readers.stdin.fill_buf()).await.unwrap().len();
            assert_eq!(readers.stdin.fill_buf().await.unwrap().len(), seen);
            let mut left = piece.len();
            while left > 0 {
                let n = within(LONG, readers.stdin.read(&mut buf)).await.unwrap();
                all.extend_from_slice(&buf[..n]);
                left -= n;
            }
        }
        assert!(all == sent);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_into_no_room_is_no_end() {
    let (mut client, mut readers) = readers(subprotocols::V5).await;
    client.send(0, b"more").await.unwrap();
    readers.stdin.fill_buf().await.unwrap();
    assert_eq!(readers.stdin.read(&mut []).await.unwrap(), 0);
    expect(&mut readers.stdin, b"more").await;
}

/// Bytes in the same segment as the request belong to the session.
#[tokio::test(start_paused = true)]
async fn early_bytes_are_not_lost() {
    let (sender, receiver) = oneshot::channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        drop(set);
        let _ = sender.send(read_out(&mut stdin).await);
        Ok(())
    });
    let (mut near, far) = tokio::io::duplex(WINDOW);
    let mut early = Vec::new();
    for n in 0..100 {
        early.extend(frame(true, BINARY, &on(0, &[n])));
    }
    early.extend(frame(true, BINARY, &[255, 0]));
    let head = Head::to("/").offer(subprotocols::V5);
    near.write_all(&[head.bytes(), early].concat())
        .await
        .unwrap();
    serve(far, service);
    let (bytes, end) = within(LONG, receiver).await.unwrap();
    assert_eq!((bytes, end), ((0..100).collect(), End::Eof));
}

#[tokio::test(start_paused = true)]
async fn channels_like_those_of_go() {
    let service = once(|set: ChannelSet| async move {
        let mut channels = set.into_channels();
        assert_eq!(channels.len(), 5);
        // Reading from an outbound channel returns EOF. Writing to an inbound channel sends nothing
        // and does not block.
        let mut buf = [0; 8];
        assert_eq!(channels[1].read(&mut buf).await?, 0);
        for _ in 0..100 {
            channels[0].write_all(&[7; 10_000]).await?;
        }
        channels[0].flush().await?;
        let n = channels[0].read(&mut buf).await?;
        channels[1].write_all(&buf[..n]).await?;
        Pin::new(&mut channels[1]).shutdown().await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::CHANNEL).await;
    client.send(0, b"echo").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.messages, [(1, b"echo".to_vec())]);
    assert_eq!(told.close, Some(Some(1000)));
}
