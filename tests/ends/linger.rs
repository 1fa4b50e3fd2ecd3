//! What follows behind our Close, and what was accepted before it.

use super::*;

async fn goodbye(mut set: ChannelSet) -> Result<(), BoxError> {
    set.take_writer(1).unwrap().write_all(b"bye").await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn after_its_close_the_server_reads_on_until_the_fin() {
    let (mut client, mut dropped) = open_watched(session(goodbye), subprotocols::V5, 4096).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("bye", Some(Some(1000)))
    );
    // Our side is shut down; what the client still says is read.
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

#[tokio::test(start_paused = true)]
async fn lingering_ends_after_five_minutes_whatever_comes() {
    let (mut client, dropped) = open_watched(session(goodbye), subprotocols::V5, 4096).await;
    within(LONG, client.read_to_end()).await;
    let start = Instant::now();
    let talk = async {
        while client.send(0, b"still here").await.is_ok() {
            sleep(secs(10)).await;
        }
    };
    let _ = within(LONG, async { tokio::join!(talk, dropped) }).await;
    let elapsed = start.elapsed();
    assert!(elapsed >= secs(300) && elapsed <= secs(311), "{elapsed:?}");
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
    // Each byte taken starts the time anew.
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

/// A client that writes before it reads would wait for us as we for it.
#[tokio::test(start_paused = true)]
async fn closing_reads_while_it_writes() {
    for subprotocol in [subprotocols::V4, subprotocols::V5, subprotocols::V4_BASE64] {
        let service = once(|mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            // It never reads: the window is full, and reading is paused.
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

/// Without lingering the kernel turns the last bytes into a reset.
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
        // It is slow, so that the last bytes are still in the kernel when the
        // server has said its Close.
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
