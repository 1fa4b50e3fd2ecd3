//! Reading that is paused: the peer is kept alive, and watched.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{BoxError, ChannelReader, ChannelSet, EndCause, subprotocols};

use crate::support::{
    BINARY, BITE, End, LONG, PING, PONG, Raw, Watchdog, frame, on, once, open_tcp, open_with,
    read_out, within,
};

const WINDOW: usize = 256 * 1024;
const PERIOD: Duration = Duration::from_millis(500);
/// Much less: what comes as late as a Pong was woken by its timer.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Hands its stdin to the test, and waits for the end.
async fn hand_over(
    mut set: ChannelSet,
    stdin: oneshot::Sender<ChannelReader>,
) -> Result<(), BoxError> {
    let reader = set.take_reader(0).unwrap();
    let ended = set.session().ended();
    let _open = set.take_writer(1);
    assert!(stdin.send(reader).is_ok());
    ended.await;
    Ok(())
}

/// A session whose reader reads nothing, and more than it has room for.
async fn paused(subprotocol: &str) -> (Raw<DuplexStream>, ChannelReader) {
    let (sender, stdin) = oneshot::channel();
    let mut client = open_with(once(|set| hand_over(set, sender)), subprotocol, 4 * WINDOW).await;
    for _ in 1..WINDOW / 8192 {
        client.send(0, &[7; 8192]).await.unwrap();
    }
    // Four characters make three bytes, or the last ones of a message fewer.
    let last = if subprotocol == subprotocols::V4_BASE64 {
        8190
    } else {
        8192
    };
    client.send(0, &vec![7; last]).await.unwrap();
    let before = timeout(Duration::from_secs(2), client.next()).await;
    assert!(
        before.is_err(),
        "the window is full, and nothing is behind it: {before:?}"
    );
    client.send(0, b"behind").await.unwrap();
    (client, stdin.await.unwrap())
}

async fn expect_pong(client: &mut Raw<DuplexStream>) {
    let pong = within(LONG, client.next()).await.unwrap();
    assert_eq!((pong.opcode, pong.payload.len()), (PONG, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pong_leaves_every_half_second_while_reading_is_paused() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in [subprotocols::V5, subprotocols::V4, subprotocols::V4_BASE64] {
        let (mut client, _stdin) = paused(subprotocol).await;
        let start = Instant::now();
        for n in 1..=240 {
            expect_pong(&mut client).await;
            let late = start.elapsed().checked_sub(n * PERIOD);
            let late = late.unwrap_or_else(|| panic!("Pong {n} after {:?}", start.elapsed()));
            assert!(late < PERIOD, "Pong {n} is late by {late:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_when_the_reader_reads() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in [subprotocols::V5, subprotocols::V4, subprotocols::V4_BASE64] {
        for pongs in [0, 3] {
            let (mut client, mut stdin) = paused(subprotocol).await;
            for _ in 0..pongs {
                expect_pong(&mut client).await;
            }
            let mut all = Vec::new();
            while !all.ends_with(b"behind") {
                within(AT_ONCE, stdin.read_buf(&mut all)).await.unwrap();
            }
            assert!(all.len() >= WINDOW);
            // And no Pong any more, but an answer.
            client.bytes(&frame(true, PING, b"alive?")).await.unwrap();
            let answer = within(LONG, client.next()).await.unwrap();
            assert_eq!(&answer.payload[..], b"alive?");
            let more = timeout(10 * PERIOD, client.next()).await;
            assert!(more.is_err(), "{more:?}");
            client.send(0, b"more").await.unwrap();
            let mut more = [0; 4];
            within(LONG, stdin.read_exact(&mut more)).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reading_goes_on_when_the_reader_is_dropped() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in [subprotocols::V5, subprotocols::V4, subprotocols::V4_BASE64] {
        for pongs in [0, 3] {
            let (mut client, stdin) = paused(subprotocol).await;
            for _ in 0..pongs {
                expect_pong(&mut client).await;
            }
            drop(stdin);
            for _ in 0..50 {
                within(AT_ONCE, client.send(0, &[7; 100_000]))
                    .await
                    .unwrap();
            }
            client.bytes(&frame(true, PING, b"alive?")).await.unwrap();
            let answer = within(AT_ONCE, client.next()).await.unwrap();
            assert_eq!(&answer.payload[..], b"alive?");
        }
    }
}

/// A reader that a task of its own holds, which reads a byte now and then.
#[tokio::test(start_paused = true)]
async fn pauses_come_and_go_and_no_byte_is_lost() {
    let _watchdog = Watchdog::bites_after(BITE);
    for spawned in [false, true] {
        let (done, result) = oneshot::channel();
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdin = set.take_reader(0).unwrap();
            let _open = set.take_writer(1);
            drop(set);
            let reading = async move {
                let (mut total, mut sum) = (0, 0_u64);
                let mut sizes = [1, 100_000, 16 * 1024, 3, 400_000].into_iter().cycle();
                loop {
                    sleep(Duration::from_millis(700)).await;
                    let mut buf = vec![0; sizes.next().unwrap()];
                    let mut filled = 0;
                    while filled < buf.len() {
                        let n = stdin.read(&mut buf[filled..]).await.unwrap();
                        if n == 0 {
                            break;
                        }
                        filled += n;
                    }
                    total += filled;
                    sum += buf[..filled]
                        .iter()
                        .map(|byte| u64::from(*byte))
                        .sum::<u64>();
                    if filled < buf.len() {
                        done.send((total, sum)).unwrap();
                        return;
                    }
                }
            };
            if spawned {
                tokio::spawn(reading);
                std::future::pending::<()>().await;
            } else {
                reading.await;
            }
            Ok(())
        });
        let client = open_with(service, subprotocols::V5, 4096).await;
        let (mut read, mut write) = client.into_halves();
        tokio::spawn(async move { while read.next().await.is_some() {} });
        let mut sum = 0;
        for n in 0..200_u32 {
            let payload = vec![n as u8; 10_007];
            sum += u64::from(n as u8) * 10_007;
            let message = frame(true, BINARY, &on(0, &payload));
            within(LONG, write.write_all(&message)).await.unwrap();
        }
        write
            .write_all(&frame(true, BINARY, &[255, 0]))
            .await
            .unwrap();
        assert_eq!(within(LONG, result).await.unwrap(), (200 * 10_007, sum));
    }
}

#[tokio::test(start_paused = true)]
async fn output_flows_while_reading_is_paused() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once(|mut set: ChannelSet| async move {
        let _stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        for _ in 0..10 {
            sleep(Duration::from_secs(1)).await;
            stdout.write_all(&[7; 10_000]).await?;
        }
        Ok(())
    });
    let client = open_with(service, subprotocols::V5, 2000).await;
    let (mut read, mut write) = client.into_halves();
    let sending = tokio::spawn(async move {
        let message = frame(true, BINARY, &on(0, &[1; 10_000]));
        for _ in 0..100 {
            write.write_all(&message).await.unwrap();
        }
        write
    });
    let told = within(LONG, read.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 100_000);
    assert_eq!(told.close, Some(Some(1000)));
    let pongs = told
        .controls
        .iter()
        .filter(|frame| frame.opcode == PONG)
        .count();
    assert!((18..=20).contains(&pongs), "{pongs} Pongs in 10 s");
    within(LONG, sending).await.unwrap();
}

/// Neither side reads: nothing moves, and nothing may cost anything.
#[tokio::test(start_paused = true)]
async fn a_session_that_is_stuck_both_ways_sleeps() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once(|mut set: ChannelSet| async move {
        let _stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        stdout.write_all(&[7; 1_000_000]).await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 1000).await;
    let message = frame(true, BINARY, &on(0, &[1; 10_000]));
    let mut sent = 0;
    while timeout(PERIOD, client.bytes(&message)).await.is_ok() {
        sent += 1;
    }
    assert!(
        sent * 10_000 >= WINDOW - 10_000 && sent * 10_000 < WINDOW + 100_000,
        "{sent}"
    );
    sleep(Duration::from_secs(600)).await;
}

#[derive(Clone, Copy, Debug)]
enum Death {
    /// The process is killed with unread bytes in its socket, or wants it so.
    Reset,
    /// Its socket is closed; the FIN lies behind what we do not read.
    Close,
    /// The same, with bytes of ours that it has not read.
    CloseUnread,
}

/// What the client has sent was more than there is room for; then it dies.
async fn die(mut client: Raw<TcpStream>, death: Death) {
    let message = frame(true, BINARY, &on(0, &[7; 8192]));
    let filling = async {
        loop {
            client.bytes(&message).await.unwrap();
        }
    };
    // Until nothing more goes: both kernels are full.
    assert!(timeout(Duration::from_millis(300), filling).await.is_err());
    match death {
        Death::Reset => client.io.set_zero_linger().unwrap(),
        // What came meanwhile is read, so that the kernel says FIN.
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
            // The window's bytes first.
            let (bytes, end) = within(Duration::from_secs(5), reader).await.unwrap();
            assert!(bytes.len() >= WINDOW && bytes.iter().all(|byte| *byte == 7));
            assert_eq!(end, End::Error(io::ErrorKind::ConnectionReset, cause));
        }
        // The next Pong draws the reset, and that is noticed: not only the
        // failure of the Pong after it.
        assert!(soonest < PERIOD, "{death:?} noticed after {soonest:?}");
    }
}

/// A half-closed client is not dead: it reads.
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
        // Two, so that the watch has begun.
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

/// More Pings than anybody could answer to a peer that reads none of it: they
/// are read all the same, and what is kept of the answers is bounded.
#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_that_nobody_reads_the_answers_of() {
    let _watchdog = Watchdog::bites_after(BITE);
    const CAPACITY: usize = 4096;
    let (lines, mut line) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let _open = set.take_writer(1);
        let mut buf = [0; 16];
        loop {
            let n = stdin.read(&mut buf).await?;
            if n == 0 {
                return Ok(());
            }
            lines.send(buf[..n].to_vec())?;
        }
    });
    let mut client = open_with(service, subprotocols::V5, CAPACITY).await;
    let mut payload = [b'p'; 125];
    for n in 0..20_000_u32 {
        payload[..4].copy_from_slice(&n.to_be_bytes());
        within(LONG, client.bytes(&frame(true, PING, &payload)))
            .await
            .unwrap();
        if n % 1000 == 0 {
            client.send(0, b"data").await.unwrap();
            assert_eq!(within(LONG, line.recv()).await.unwrap(), b"data");
            // The answers wait for room, and nobody turns in circles for it.
            sleep(Duration::from_secs(5)).await;
        }
    }
    // What the transport held, what was half out, sixteen that waited.
    client.close_channel(0).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    let pongs: Vec<u32> = (told.controls.iter())
        .map(|pong| u32::from_be_bytes(pong.payload[..4].try_into().unwrap()))
        .collect();
    let most = CAPACITY / 127 + 1 + 2 * 16;
    assert!(pongs.len() <= most, "{} Pongs were kept", pongs.len());
    assert!(pongs.is_sorted(), "in order");
    let newest: Vec<u32> = (20_000 - 16..20_000).collect();
    assert_eq!(
        pongs[pongs.len() - 16..],
        newest,
        "the newest ones are answered"
    );
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_does_not_hold_up_output() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        stdout.write_all(&[7; 300_000]).await?;
        Ok(())
    });
    let client = open_with(service, subprotocols::V5, 4096).await;
    let (mut read, mut write) = client.into_halves();
    let flood = tokio::spawn(async move {
        let ping = frame(true, PING, b"");
        while write.write_all(&ping).await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    let told = within(LONG, read.read_to_close()).await;
    assert_eq!(told.channel(1).len(), 300_000);
    assert_eq!(told.close, Some(Some(1000)));
    flood.abort();
}
