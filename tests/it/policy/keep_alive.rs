//! Pings, and peers that do not answer them.

use super::*;

/// Receives nothing but Pings for `time`, and returns when each arrived.
async fn pings(client: &mut Raw<DuplexStream>, time: Duration) -> Vec<Duration> {
    let start = Instant::now();
    let mut seen = Vec::new();
    while let Ok(next) = timeout(time.saturating_sub(start.elapsed()), client.next()).await {
        let frame: Frame = next.expect("the session goes on");
        assert_eq!((frame.opcode, frame.payload.len()), (PING, 8));
        seen.push(start.elapsed());
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn a_ping_leaves_in_each_interval_and_none_where_there_is_none() {
    let _watchdog = Watchdog::bites_after(BITE);
    let default = || WsStreamLayer::new(protocols());
    for (layer, interval) in [
        (default(), Some(30)),
        (
            default().config(SessionConfig::default().keep_alive(KeepAlive::default())),
            Some(30),
        ),
        (
            default().config(SessionConfig::default().keep_alive(KeepAlive::every(secs(7)))),
            Some(7),
        ),
        (
            default().config(SessionConfig::default().keep_alive(None)),
            None,
        ),
        (
            default().config(SessionConfig::default().keep_alive(KeepAlive::every(Duration::MAX))),
            None,
        ),
    ] {
        let (mut client, _output, _ended) = waiting(layer, subprotocols::V5, 4096).await;
        let seen = pings(&mut client, secs(605)).await;
        assert_eq!(
            seen.len() as u64,
            interval.map_or(0, |interval| 605 / interval)
        );
        for (n, at) in (1..).zip(seen) {
            assert_at("a Ping", at, secs(n * interval.unwrap()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pings_leave_between_data() {
    let _watchdog = Watchdog::bites_after(BITE);
    let layer = layer().config(config().keep_alive(KeepAlive::every(secs(10))));
    let (mut client, mut output, _ended) = waiting(layer, subprotocols::V5, 4096).await;
    tokio::spawn(async move {
        while output.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(300)).await;
        }
    });
    let start = Instant::now();
    let mut seen = 0;
    while start.elapsed() < secs(61) {
        client.send(0, b"").await.unwrap();
        let frame = within(secs(1), client.next()).await.unwrap();
        if frame.opcode == PING {
            seen += 1;
            assert_at("a Ping", start.elapsed(), secs(10 * seen));
        }
    }
    assert_eq!(seen, 6);
}

#[tokio::test(start_paused = true)]
async fn no_byte_after_a_ping_is_the_end() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (tell, read) = oneshot::channel();
    let (told, cause) = oneshot::channel();
    let service = once_in(beating(30, 10), |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        let _ = tell.send(read_out(&mut stdin).await);
        let _ = told.send((set.session().ended().await, Instant::now()));
        let error = stdout.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        Ok(())
    });
    let (mut client, dropped) = open_watched(service, subprotocols::V5, 4096).await;
    let start = Instant::now();
    // Data from before the Ping does not answer it.
    sleep(Duration::from_millis(29_999)).await;
    client.send(0, b"early").await.unwrap();
    assert_eq!(pings(&mut client, secs(1)).await.len(), 1);
    let (cause, at) = within(LONG, cause).await.unwrap();
    assert_eq!(cause, EndCause::PeerUnresponsive);
    assert!(cause.is_remote() && cause.is_timeout() && cause.is_lost());
    assert_at("the end", at - start, secs(40));
    let end = End::Error(io::ErrorKind::TimedOut, EndCause::PeerUnresponsive);
    assert_eq!(read.await.unwrap(), (b"early".to_vec(), end));
    // The peer is gone, so the socket is released without a Close.
    within(EXACT, dropped).await.unwrap_err();
    assert_eq!(client.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn any_byte_after_a_ping_is_a_sign_of_life() {
    let _watchdog = Watchdog::bites_after(BITE);
    let half = frame(true, BINARY, &on(0, &[7; 100]));
    for sign in [
        frame(true, PONG, b""),
        frame(true, PONG, b"not what was asked"),
        frame(true, PING, b""),
        frame(true, BINARY, b""),
        frame(true, BINARY, &on(0, b"x")),
        frame(true, BINARY, &on(77, b"x")),
        half[..1].to_vec(),
        half[..50].to_vec(),
    ] {
        let (mut client, _output, ended) = waiting(beating(30, 10), subprotocols::V5, 4096).await;
        let start = Instant::now();
        sleep(Duration::from_millis(39_990)).await;
        client.bytes(&sign).await.unwrap();
        let (cause, at) = within(LONG, ended).await.unwrap();
        assert_eq!(cause, EndCause::PeerUnresponsive);
        assert_at(&format!("{sign:?}: the end"), at - start, secs(70));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_lives() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (mut client, _output, mut ended) = waiting(beating(5, 2), subprotocols::V5, 4096).await;
    for _ in 0..200 {
        let ping = within(LONG, client.next()).await.unwrap();
        assert_eq!(ping.opcode, PING);
        sleep(Duration::from_millis(1990)).await;
        client
            .bytes(&frame(true, PONG, &ping.payload))
            .await
            .unwrap();
    }
    assert!(ended.try_recv().is_err());
}

/// Fills a channel that is not read, and sends `more` bytes beyond that.
async fn fill(client: &mut Raw<DuplexStream>, more: usize) {
    for _ in 0..16 {
        client.send(0, &[7; 16 * 1024]).await.unwrap();
    }
    client.send(0, &vec![7; more]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn time_in_which_nothing_is_read_does_not_count() {
    let _watchdog = Watchdog::bites_after(BITE);
    // The pause begins before or after a Ping, and ends between two Pings, or right before an
    // answer is due.
    for begins in [0, 5_000, 31_000, 39_990] {
        for (lasts, more) in [
            (600_000, 65_536),
            (604_000, 100),
            (598_000, 100),
            (1000, 100),
        ] {
            let (tell, stdin) = oneshot::channel();
            let (told, cause) = oneshot::channel();
            let service = once_in(beating(30, 10), |mut set: ChannelSet| async move {
                assert!(tell.send(set.take_reader(0).unwrap()).is_ok());
                let _open = set.take_writer(1);
                let _ = told.send((set.session().ended().await, Instant::now()));
                Ok(())
            });
            let mut client = open_with(service, subprotocols::V5, 1 << 20).await;
            let mut stdin = stdin.await.unwrap();
            let start = Instant::now();
            sleep(Duration::from_millis(begins)).await;
            fill(&mut client, more).await;
            sleep(Duration::from_millis(lasts)).await;
            let mut all = vec![0; 16 * 16 * 1024 + more];
            within(LONG, stdin.read_exact(&mut all)).await.unwrap();
            let resumed = start.elapsed();
            let (cause, at) = within(LONG, cause).await.unwrap();
            assert_eq!(cause, EndCause::PeerUnresponsive);
            let waited = at - start - resumed;
            assert!(
                waited >= secs(10) && waited <= secs(60) + EXACT,
                "a pause from {begins} for {lasts} ms: {waited:?} after it"
            );
        }
    }
}

/// Assumes that peers read at once: output that has left counts as read.
fn prompt() -> WsStreamLayer {
    let limits = Limits::default().min_read_rate(u64::MAX);
    beating(30, 10).limits(limits)
}

#[tokio::test(start_paused = true)]
async fn time_in_which_output_waits_does_not_count() {
    let _watchdog = Watchdog::bites_after(BITE);
    let size = 300_000;
    // The peer starts to read between two Pings, right after one, or right before its answer is
    // due.
    for reads_at in [600_000, 601_000, 609_900, 615_000] {
        let (mut client, mut output, ended) = waiting(prompt(), subprotocols::V5, 1000).await;
        let start = Instant::now();
        output.send(vec![7; size]).await.unwrap();
        sleep(Duration::from_millis(reads_at)).await;
        let mut read = 0;
        while read < size {
            let frame = within(secs(1), client.next()).await.unwrap();
            if frame.opcode != PING {
                read += frame.payload.len();
            }
        }
        let (cause, at) = within(LONG, ended).await.unwrap();
        assert_eq!(cause, EndCause::PeerUnresponsive);
        let waited = at - start - Duration::from_millis(reads_at);
        assert!(
            waited >= secs(10) && waited <= secs(60) + EXACT,
            "output waited for {reads_at} ms: {waited:?} after it"
        );
    }
}

/// The kernel takes 4 MiB, and the Ping lies behind all of it. A slow reader answers once it gets
/// there.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_has_time_for_the_output_in_front_of_the_ping() {
    let _watchdog = Watchdog::bites_after(BITE);
    const RATE: usize = 300_000;
    let size = 3 << 20;
    // The second client types meanwhile. Its input says nothing about what it has read.
    for types in [false, true] {
        let (mut client, mut output, mut ended) =
            waiting(beating(1, 2), subprotocols::V5, 4 << 20).await;
        output.send(vec![7; size]).await.unwrap();
        let (mut read, mut answered) = (0, 0);
        while answered < 20 {
            let next = within(LONG, client.next())
                .await
                .expect("the session goes on");
            if next.opcode == PING {
                let pong = frame(true, PONG, &next.payload);
                client.bytes(&pong).await.unwrap();
                answered += 1;
                continue;
            }
            let late = next.payload.len() as u64 * 1_000_000 / RATE as u64;
            sleep(Duration::from_micros(late)).await;
            read += next.payload.len();
            if types && read < size / 2 {
                client.send(0, b"x").await.unwrap();
            }
        }
        assert_eq!(read, size + 1);
        assert!(ended.try_recv().is_err());
        // From now on nothing lies in front of a Ping.
        let start = Instant::now();
        let (cause, at) = within(LONG, ended).await.unwrap();
        assert_eq!(cause, EndCause::PeerUnresponsive);
        assert_at("the end", at - start, secs(3));
    }
}

/// The output is queued and leaves within calls of the writer, so the session itself does not
/// notice that it waited.
#[tokio::test(start_paused = true)]
async fn time_in_which_a_little_output_waits_does_not_count() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (mut client, mut output, ended) = waiting(prompt(), subprotocols::V5, 55_000).await;
    let start = Instant::now();
    sleep(secs(31)).await;
    // More than is left for the session's own round, so it leaves at once.
    output.send(vec![7; 60_000]).await.unwrap();
    sleep(Duration::from_millis(8900)).await;
    for _ in 0..3 {
        within(EXACT, client.next()).await.unwrap();
    }
    let (cause, at) = within(LONG, ended).await.unwrap();
    assert_eq!(cause, EndCause::PeerUnresponsive);
    assert_at("the end", at - start, secs(70));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_after_our_close() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once_in(beating(5, 2), |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        sleep(secs(1)).await;
        stdout.write_all(b"done").await?;
        Ok(())
    });
    let (mut read, mut write) = open(service, subprotocols::V5).await.into_halves();
    // The peer goes on sending for longer than the server listens.
    let sending = tokio::spawn(async move {
        let start = Instant::now();
        while write
            .write_all(&frame(true, BINARY, &on(0, b"x")))
            .await
            .is_ok()
        {
            sleep(secs(10)).await;
        }
        start.elapsed()
    });
    let told = within(LONG, read.read_to_end()).await;
    assert_eq!((&*told.text(1), told.close), ("done", Some(Some(1000))));
    assert_eq!(told.controls, []);
    assert!(
        within(LONG, sending).await.unwrap() >= secs(60),
        "it lingered"
    );
}
