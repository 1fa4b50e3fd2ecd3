//! Pauses over memory.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pong_leaves_in_each_period_while_reading_is_paused() {
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
            // The next frame is an answer, not a Pong.
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

/// The reader belongs to a task of its own, which reads a byte now and then.
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
    assert!((15..=16).contains(&pongs), "{pongs} Pongs in 10 s");
    within(LONG, sending).await.unwrap();
}

/// Neither side reads: nothing moves, and nothing may use CPU.
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
