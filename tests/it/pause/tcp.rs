//! Over TCP, where a paused session watches its socket.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Death {
    /// The process is killed with unread bytes in its socket, or asks for the same.
    Reset,
    /// Its socket is closed. The FIN lies behind data that we do not read.
    Close,
    /// Its socket is closed, and our bytes in it have not been read.
    CloseUnread,
}

/// The client sends more than there is room for, and then dies.
async fn die(mut client: Raw<TcpStream>, death: Death) {
    let message = frame(true, BINARY, &on(0, &[7; 8192]));
    let filling = async {
        loop {
            client.bytes(&message).await.unwrap();
        }
    };
    // Until both kernels are full.
    assert!(timeout(Duration::from_millis(300), filling).await.is_err());
    match death {
        Death::Reset => client.io.set_zero_linger().unwrap(),
        // Reads what arrived meanwhile, so that the kernel sends a FIN.
        Death::Close => {
            let mut sink = [0; 4096];
            while client.io.try_read(&mut sink).is_ok_and(|n| n > 0) {}
        }
        Death::CloseUnread => sleep(Duration::from_millis(600)).await,
    }
    drop(client);
}

#[tokio::test]
async fn over_tcp_the_death_of_a_client_is_noticed_while_reading_is_paused() {
    let _watchdog = Watchdog::bites_after(BITE);
    for death in [Death::Reset, Death::Close, Death::CloseUnread] {
        let mut soonest = Duration::MAX;
        for small in [false, true] {
            let (sender, cause) = oneshot::channel();
            let (stdin, reader) = oneshot::channel();
            let service = once(|mut set: ChannelSet| async move {
                let ended = set.session().ended();
                let mut stdin_reader = set.take_reader(0).unwrap();
                let _open = set.take_writer(1);
                let cause = ended.await;
                sender.send((cause, std::time::Instant::now())).unwrap();
                let _ = stdin.send(read_out(&mut stdin_reader).await);
                Ok(())
            });
            let client = open_tcp(service, subprotocols::V5, small).await;
            die(client, death).await;
            let start = std::time::Instant::now();
            let (cause, at) = within(Duration::from_secs(5), cause).await.unwrap();
            assert!(
                matches!(cause, EndCause::ConnectionLost { .. }),
                "{cause:?}"
            );
            let elapsed = at.saturating_duration_since(start);
            assert!(
                elapsed < Duration::from_secs(2),
                "{death:?} noticed after {elapsed:?}"
            );
            soonest = soonest.min(elapsed);
            // The bytes of the window come first.
            let (bytes, end) = within(Duration::from_secs(5), reader).await.unwrap();
            assert!(bytes.len() >= WINDOW && bytes.iter().all(|byte| *byte == 7));
            assert_eq!(end, End::Error(io::ErrorKind::ConnectionReset, cause));
        }
        // The next Pong provokes a reset, which is noticed at once, not only when the Pong after it
        // fails.
        assert!(soonest < PERIOD, "{death:?} noticed after {soonest:?}");
    }
}

/// A half-closed client is alive: it still reads.
#[tokio::test]
async fn over_tcp_a_client_that_only_stopped_sending_is_not_lost_while_reading_is_paused() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (stdin, reader) = oneshot::channel();
    let service = once(|set| hand_over(set, stdin));
    let mut client = open_tcp(service, subprotocols::V5, false).await;
    let message = frame(true, BINARY, &on(0, &[7; 8192]));
    for _ in 0..WINDOW / 8192 + 10 {
        client.bytes(&message).await.unwrap();
    }
    client.close_channel(0).await.unwrap();
    client.close(Some(1000)).await.unwrap();
    client.io.shutdown().await.unwrap();
    for _ in 0..3 {
        let pong = within(Duration::from_secs(5), client.next()).await.unwrap();
        assert_eq!(pong.opcode, PONG);
    }
    let mut reader = reader.await.unwrap();
    let (bytes, end) = within(Duration::from_secs(5), read_out(&mut reader)).await;
    assert_eq!((bytes.len(), end), (WINDOW + 81_920, End::Eof));
    let told = within(Duration::from_secs(5), client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test]
async fn over_tcp_reading_goes_on_after_it_was_watched() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (stdin, reader) = oneshot::channel();
    let service = once(|set| hand_over(set, stdin));
    let mut client = open_tcp(service, subprotocols::V5, false).await;
    let mut reader = reader.await.unwrap();
    for _ in 0..2 {
        let message = frame(true, BINARY, &on(0, &[7; 8192]));
        for _ in 0..WINDOW / 8192 + 10 {
            client.bytes(&message).await.unwrap();
        }
        // Two Pongs, so that the watch has begun.
        for _ in 0..2 {
            let pong = within(Duration::from_secs(5), client.next()).await.unwrap();
            assert_eq!(pong.opcode, PONG);
        }
        let mut all = vec![0; WINDOW + 81_920];
        within(Duration::from_secs(5), reader.read_exact(&mut all))
            .await
            .unwrap();
    }
    client.send(0, b"more").await.unwrap();
    let mut more = [0; 4];
    within(Duration::from_secs(5), reader.read_exact(&mut more))
        .await
        .unwrap();
    assert_eq!(&more, b"more");
}
