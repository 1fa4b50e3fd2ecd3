//! Data is held to its rate, and nothing else is.

use super::*;

#[tokio::test(start_paused = true)]
async fn output_leaves_at_its_rate_and_pings_are_answered_at_once() {
    let service = once_in(
        paced(ByteRate::default().outbound(MIB)),
        |mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            for _ in 0..30 * MIB / (32 * 1024) {
                output.write_all(&[7; 32 * 1024]).await?;
            }
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 1 << 20).await;
    let start = Instant::now();
    let (mut got, mut asked) = (0, None);
    let mut answers = 0;
    let close = loop {
        let next = within(LONG, client.next()).await.expect("a Close first");
        match next.opcode {
            BINARY => {
                got += next.payload.len() - 1;
                if asked.is_none() && got < 29 << 20 {
                    asked = Some(Instant::now());
                    client.bytes(&frame(true, PING, b"?")).await.unwrap();
                }
            }
            PONG => {
                let asked: Instant = asked.take().unwrap();
                assert!(
                    asked.elapsed() < Duration::from_millis(100),
                    "{:?}",
                    asked.elapsed()
                );
                answers += 1;
            }
            _ => break next.close_code(),
        }
    };
    assert_eq!((got as u64, close), (30 * MIB, Some(1000)));
    assert!(answers > 100, "{answers} Pongs between the data");
    assert_thirty_seconds(start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn input_comes_at_its_rate_and_output_is_not_held_up() {
    let service = once_in(
        paced(ByteRate::default().inbound(MIB)),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            let (mut total, mut told) = (0, 0);
            loop {
                let n = input.fill_buf().await?.len();
                if n == 0 {
                    break;
                }
                input.consume(n);
                total += n;
                if total >> 20 > told {
                    told = total >> 20;
                    output.write_all(&[told as u8]).await?;
                }
            }
            output.write_all(&total.to_le_bytes()).await?;
            Ok(())
        },
    );
    let client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let start = Instant::now();
    let (mut reader, mut writer) = client.into_halves();
    let sending = tokio::spawn(async move {
        let message = frame(true, BINARY, &on(0, &[7; 32 * 1024]));
        for _ in 0..30 * MIB / (32 * 1024) {
            writer.write_all(&message).await.unwrap();
        }
        writer
            .write_all(&frame(true, BINARY, &[255, 0]))
            .await
            .unwrap();
        writer
    });
    for mib in 1..=30_u8 {
        let told = within(SOON, reader.next()).await.unwrap();
        assert_eq!(&told.payload[..], [1, mib]);
        let late = start.elapsed().as_secs_f64() - f64::from(mib);
        assert!(late.abs() < 1.5, "MiB {mib} is {late} s late");
    }
    let told = within(SOON, reader.read_to_close()).await;
    assert_eq!(told.channel(1), (30 * MIB as usize).to_le_bytes());
    assert_thirty_seconds(start.elapsed());
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_service_in_a_task_of_its_own_is_held_to_the_rate_too() {
    let service = once_in(
        paced(ByteRate::default().outbound(MIB)),
        |mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            let writing = tokio::spawn(async move {
                for _ in 0..4 * MIB / 1000 {
                    output.write_all(&[7; 1000]).await?;
                }
                Ok::<_, std::io::Error>(())
            });
            writing.await??;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V4, 1 << 20).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let secs = start.elapsed().as_secs_f64();
    assert!((3.8..4.2).contains(&secs), "{secs}");
}

/// The output leaves in the polls of the writing task until the rate is used up. Only the session's
/// task has a timer, and nothing else wakes it.
#[tokio::test(start_paused = true)]
async fn a_task_that_uses_the_rate_up_by_itself_is_not_forgotten() {
    let service = once_in(
        paced(ByteRate::default().outbound(10_000)),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            input.fill_buf().await?;
            let writing = tokio::spawn(async move {
                output.send(vec![7; 200_000]).await?;
                output.flush().await
            });
            writing.await??;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V4, 1 << 20).await;
    client.send(0, b"go").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.channel(1).len(), told.close),
        (200_000, Some(Some(1000)))
    );
}

/// The queue was empty when the rate was used up, so no timer was set.
#[tokio::test(start_paused = true)]
async fn a_write_that_finds_the_rate_used_up_leaves_once_it_may() {
    let service = once_in(
        paced(ByteRate::default().outbound(1000)),
        |mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            output.write_all(&[7; 10_000]).await?;
            output.flush().await?;
            tokio::time::sleep(Duration::from_millis(10)).await;
            output.write_all(b"more").await?;
            output.flush().await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 1 << 20).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    assert_eq!(told.channel(1).len(), 10_004);
    let secs = start.elapsed().as_secs_f64();
    assert!((9.5..10.5).contains(&secs), "{secs}");
}

#[tokio::test(start_paused = true)]
async fn a_rate_of_a_few_bytes_is_kept_by_messages_that_are_larger() {
    let service = once_in(
        paced(ByteRate::default().outbound(1000)),
        |mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            output.send(vec![7; 200_000]).await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V4, 1 << 20).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(
        (told.channel(1).len(), told.close),
        (200_000, Some(Some(1000)))
    );
    // The last piece leaves whole, without a wait.
    let secs = start.elapsed().as_secs();
    assert!((130..=200).contains(&secs), "{secs} s");
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_at_once_however_long_the_data_has_to_wait() {
    let service = once_in(
        paced(ByteRate::default().outbound(1000)),
        |mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            output.send(vec![7; 200_000]).await?;
            output.flush().await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V4, 1 << 20).await;
    let first = within(SOON, client.next()).await.unwrap();
    assert!(!first.fin, "a fragment, which half a minute pays for");
    for _ in 0..3 {
        client.bytes(&frame(true, PING, b"?")).await.unwrap();
        let answer = within(Duration::from_millis(10), client.next()).await;
        assert_eq!(answer.unwrap().opcode, PONG);
    }
}

#[tokio::test(start_paused = true)]
async fn the_close_after_a_fault_does_not_wait_for_the_rate() {
    let layer = paced(ByteRate::default().outbound(1000));
    let service = once_in(layer, |mut set: ChannelSet| async move {
        let mut output = set.take_writer(1).ok_or("no channel 1")?;
        loop {
            output.write_all(&[7; 32 * 1024]).await?;
        }
    });
    let mut client = open_with(service, subprotocols::V5, 1 << 20).await;
    let first = within(SOON, client.next()).await.unwrap();
    assert_eq!(first.opcode, BINARY);
    let start = Instant::now();
    // A frame with reserved bits.
    client.bytes(&[0xff, 0x80, 0, 0, 0, 0]).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1002)));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_by_the_rate_is_not_idle() {
    let layer = layer().config(
        config()
            .byte_rate(ByteRate::default().inbound(100))
            .idle_timeout(SOON),
    );
    let service = once_in(layer, |mut set: ChannelSet| async move {
        let mut input = set.take_reader(0).ok_or("no channel 0")?;
        assert_eq!(read_out(&mut input).await, (vec![7; 10_000], End::Eof));
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    client.send(0, &[7; 10_000]).await.unwrap();
    client.close_channel(0).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn what_came_before_a_loss_is_read_at_its_rate_and_then_the_loss() {
    let (tell, told) = oneshot::channel();
    let layer = layer().config(config().byte_rate(ByteRate::default().inbound(1000)));
    let service = once_in(layer, |mut set: ChannelSet| async move {
        let mut input = set.take_reader(0).ok_or("no channel 0")?;
        let _ = tell.send(read_out(&mut input).await);
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    client.send(0, &[7; 20_000]).await.unwrap();
    drop(client);
    let (all, end) = within(LONG, told).await.unwrap();
    assert_eq!(all.len(), 20_000);
    assert!(matches!(end, End::Error(..)), "{end:?}");
}

/// Counts the reads of the server.
struct Counted(DuplexStream, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Runs in real time: while time is paused, no bytes are earned between two reads.
#[tokio::test]
async fn what_a_rate_lets_in_is_not_read_byte_by_byte() {
    const LEN: u64 = 3 * MIB;
    let service = once_in(
        layer().config(config().byte_rate(ByteRate::default().inbound(16 * MIB))),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            tokio::io::copy_buf(&mut input, &mut tokio::io::sink()).await?;
            Ok(())
        },
    );
    let (near, far) = tokio::io::duplex(1 << 20);
    let reads = Arc::<AtomicUsize>::default();
    serve(Counted(far, Arc::clone(&reads)), service);
    let mut client = Raw::handshake(near, subprotocols::V5).await.unwrap();
    let message = frame(true, BINARY, &on(0, &[7; 32 * 1024]));
    for _ in 0..LEN / (32 * 1024) {
        client.bytes(&message).await.unwrap();
    }
    client.close_channel(0).await.unwrap();
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads < 1000, "{reads} reads of 3 MiB");
}
