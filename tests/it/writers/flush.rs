//! The promises of a flush.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_is_written_leaves_without_a_flush() {
    for spawned in [false, true] {
        for subprotocol in ALL {
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                let prompt = async move {
                    // In the first poll, or long after it.
                    stdout.write_all(b"$ ").await.unwrap();
                    sleep(Duration::from_secs(1)).await;
                    stdout.write_all(b"$ ").await.unwrap();
                    std::future::pending::<()>().await;
                };
                if spawned {
                    tokio::spawn(prompt);
                } else {
                    prompt.await;
                }
                std::future::pending().await
            });
            let mut client = open(service, subprotocol).await;
            let start = Instant::now();
            for second in 0..2 {
                let frame = within(LONG, client.next()).await.unwrap();
                assert_eq!(client.split(&frame.payload), (1, b"$ ".to_vec()));
                let late = start.elapsed() - Duration::from_secs(second);
                assert!(late < Duration::from_millis(5), "{late:?}");
            }
        }
    }
}

/// Reads `bytes` bytes of frames, whole or in part.
async fn take(client: &mut Raw<impl AsyncRead + AsyncWrite + Unpin>, bytes: usize) {
    let mut piece = vec![0; bytes];
    client.io.read_exact(&mut piece).await.unwrap();
    client.buf.extend_from_slice(&piece);
}

#[tokio::test(start_paused = true)]
async fn a_flush_waits_until_the_transport_has_taken_everything() {
    let _watchdog = Watchdog::bites_after(BITE);
    const SENT: usize = 20_000;
    for spawned in [false, true] {
        for shutdown in [false, true] {
            let (done, mut flushed) = oneshot::channel();
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                let writing = async move {
                    stdout.write_all(&[7; SENT]).await.unwrap();
                    match shutdown {
                        true => stdout.shutdown().await.unwrap(),
                        false => stdout.flush().await.unwrap(),
                    }
                    done.send(()).unwrap();
                    std::future::pending::<()>().await;
                };
                if spawned {
                    tokio::spawn(writing);
                } else {
                    writing.await;
                }
                std::future::pending().await
            });
            let mut client = open_with(service, subprotocols::V4, 1000).await;
            let left = SENT + 5 - client.buf.len();
            take(&mut client, left - 1001).await;
            sleep(Duration::from_secs(10)).await;
            assert!(flushed.try_recv().is_err(), "one byte is still here");
            take(&mut client, 1).await;
            within(LONG, &mut flushed).await.unwrap();
        }
    }
}

/// One channel flushes while another waits for room that its own budget does not give: neither
/// sleeps for ever.
#[tokio::test(start_paused = true)]
async fn a_flush_and_a_full_sibling_both_go_on() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stderr = set.take_writer(2).unwrap();
        drop(set);
        let full = tokio::spawn(async move {
            stdout.write_all(&[1; 500_000]).await.unwrap();
            stdout.flush().await.unwrap();
        });
        for _ in 0..100 {
            stderr.write_all(&[2; 100]).await?;
            stderr.flush().await?;
        }
        full.await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 500_000);
    assert_eq!(told.channel(2).len(), 10_000);
    assert_eq!(told.close, Some(Some(1000)));
}

/// While the peer takes nothing, a session must not use CPU. If a task spins, the clock stands
/// still, and this test hangs.
#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_does_not_spin() {
    let _watchdog = Watchdog::bites_after(Duration::from_secs(5));
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        stdout.write_all(&[7; 10_000]).await?;
        let mut flush = pin!(stdout.flush());
        std::future::poll_fn(|cx| {
            counted.fetch_add(1, Ordering::Relaxed);
            flush.as_mut().poll(cx)
        })
        .await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    sleep(Duration::from_secs(10)).await;
    let polled = polls.load(Ordering::Relaxed);
    assert!(
        polled < 10,
        "{polled} polls, and the client has read no byte"
    );
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 10_000);
}

/// Nor must a session use CPU after its end, when every writer has failed.
#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_behind_the_end_does_not_spin() {
    let _watchdog = Watchdog::bites_after(Duration::from_secs(5));
    let (done, result) = oneshot::channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        stdout.send(vec![7; 10_000]).await?;
        set.session().close(4000, "")?;
        tokio::spawn(async move {
            let _ = done.send(stdout.flush().await);
        });
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    sleep(Duration::from_secs(10)).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 10_000);
    assert_eq!(told.close, Some(Some(4000)));
    // Output that was accepted before the end has left, so the flush may succeed.
    within(LONG, result).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_is_told_of_the_loss() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (done, result) = oneshot::channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        tokio::spawn(async move {
            stdout.write_all(&[7; 10_000]).await.unwrap();
            let _ = done.send(stdout.flush().await);
        });
        Ok(())
    });
    let client = open_with(service, subprotocols::V4, 1000).await;
    tokio::task::yield_now().await;
    drop(client);
    let error = within(LONG, result).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
