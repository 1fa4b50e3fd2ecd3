//! How fast a session may move bytes, and how long it may last.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::{Extensions, Request};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::oneshot,
    time::Instant,
};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, EndCause,
    policy::{ByteRate, KeepAlive, Limits, PolicyLayer, TimeLimit, ValidUntil},
    subprotocols,
};

use crate::support::{
    BINARY, End, LONG, PING, PONG, Raw, SOON, config, frame, layer, on, once, once_in, open_with,
    read_out, serve, within,
};

const MIB: u64 = 1 << 20;
/// 30 s within 5 %.
#[track_caller]
fn assert_thirty_seconds(took: Duration) {
    let secs = took.as_secs_f64();
    assert!((28.5..=31.5).contains(&secs), "30 MiB took {secs} s");
}

#[tokio::test(start_paused = true)]
async fn output_leaves_at_its_rate_and_pings_are_answered_at_once() {
    let rate = ByteRate::default().outbound(MIB);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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
    let rate = ByteRate::default().inbound(MIB);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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
    let rate = ByteRate::default().outbound(MIB);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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

/// What it sends leaves in its own poll until the rate is used up. Only the session's
/// task has a timer, and nothing else wakes that.
#[tokio::test(start_paused = true)]
async fn a_task_that_uses_the_rate_up_by_itself_is_not_forgotten() {
    let rate = ByteRate::default().outbound(10_000);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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

/// The queue was empty when the rate was used up, so that nobody waited for it yet.
#[tokio::test(start_paused = true)]
async fn a_write_that_finds_the_rate_used_up_leaves_once_it_may() {
    let rate = ByteRate::default().outbound(1000);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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
    let rate = ByteRate::default().outbound(1000);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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
    // The last piece leaves whole, and is not waited for.
    let secs = start.elapsed().as_secs();
    assert!((130..=200).contains(&secs), "{secs} s");
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_answered_at_once_however_long_the_data_has_to_wait() {
    let rate = ByteRate::default().outbound(1000);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
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
    let layer = layer().config(config().byte_rate(ByteRate::default().outbound(1000)));
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
    // Reserved bits are nobody's.
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

/// Counts the reads of the server's end.
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

/// In real time: while time stands still, nothing is earned between two reads.
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

#[tokio::test(start_paused = true)]
async fn a_route_or_a_request_has_a_rate_of_its_own() {
    let inner = layer()
        .config(config().byte_rate(ByteRate::default().outbound(1)))
        .layer(service_fn(|mut set: ChannelSet| async move {
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            output.write_all(&[7; 32 * 1024]).await?;
            output.write_all(&[7; 32 * 1024]).await?;
            Ok::<_, BoxError>(())
        }));
    let service = ServiceBuilder::new()
        .layer(PolicyLayer::new(ByteRate::default()))
        .service(inner);
    let mut client = open_with(service, subprotocols::V4, 1 << 20).await;
    let start = Instant::now();
    let told = within(SOON, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 64 * 1024);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_a_request_that_makes_no_sense_is_a_500_that_names_it() {
    for (layer, named) in [
        (
            PolicyLayer::new(Limits::default().receive_window(0)),
            "receive_window",
        ),
        (
            PolicyLayer::new(Limits::default().max_frame(0)),
            "max_frame",
        ),
    ] {
        let inner = once(|_: ChannelSet| async { Ok(()) });
        let service = ServiceBuilder::new().layer(layer).service(inner);
        let (near, far) = tokio::io::duplex(64 * 1024);
        serve(far, service);
        let refused = Raw::handshake(near, subprotocols::V5).await.unwrap_err();
        assert!(refused.starts_with("HTTP/1.1 500 "), "{named}: {refused}");
    }
}

/// When a session ends that would go on, with these extensions of its request.
async fn limited(insert: impl Fn(&mut Extensions) + Clone + Send + 'static) -> Duration {
    let (tell, told) = oneshot::channel();
    let inner = once_in(
        layer().config(config().time_limit(Duration::from_secs(100))),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            let _ = tell.send(read_out(&mut input).await.1);
            Err("not finished".into())
        },
    );
    let service = ServiceBuilder::new()
        .map_request(move |mut request: Request<Incoming>| {
            insert(request.extensions_mut());
            request
        })
        .service(inner);
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let start = Instant::now();
    let (mut reader, mut writer) = {
        client.send(0, b"busy").await.unwrap();
        client.into_halves()
    };
    // Data does not help.
    let busy = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if writer
                .write_all(&frame(true, BINARY, &on(0, b"x")))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let seen = within(LONG, reader.read_to_close()).await;
    assert_eq!(seen.close, Some(Some(1001)));
    let End::Error(kind, cause) = told.await.unwrap() else {
        panic!("a time limit is no end of input");
    };
    assert_eq!(kind, std::io::ErrorKind::TimedOut);
    assert_eq!(cause, EndCause::TimeLimit);
    assert!(cause.is_timeout() && !cause.is_remote());
    busy.abort();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_at_its_time_limit_whatever_moves() {
    let secs = |n| Duration::from_secs(n);
    assert_eq!(limited(|_| {}).await.as_secs(), 100);
    for n in [7, 200] {
        let limit = TimeLimit(Some(secs(n)));
        let ended = limited(move |extensions| {
            let _ = extensions.insert(limit);
        })
        .await;
        assert_eq!(ended.as_secs(), n);
    }
    // Measured against the system's clock, which is not paused.
    for (until, expected) in [
        (SystemTime::now() + secs(50), 48..=50),
        (SystemTime::now() + secs(5000), 100..=100),
        (SystemTime::now() - secs(1), 0..=0),
    ] {
        let until = ValidUntil(until);
        let ended = limited(move |extensions| {
            let _ = extensions.insert(until);
        })
        .await;
        assert!(
            expected.contains(&ended.as_secs()),
            "{ended:?}, {expected:?}"
        );
    }
}

/// A credential does not last longer because its service takes long to accept.
#[tokio::test(start_paused = true)]
async fn what_expires_does_so_while_the_service_gets_ready() {
    let secs = Duration::from_secs;
    let start = Instant::now();
    let service = ServiceBuilder::new()
        .layer(PolicyLayer::new(ValidUntil(SystemTime::now() + secs(50))))
        .layer(layer().config(config().accept(AcceptMode::Explicit).accept_timeout(LONG)))
        .service(service_fn(move |set: ChannelSet| async move {
            tokio::time::sleep(secs(40)).await;
            set.session().accept().await;
            assert_eq!(set.session().ended().await, EndCause::TimeLimit);
            Ok::<_, BoxError>(())
        }));
    let client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let (mut reader, _writer) = client.into_halves();
    within(LONG, reader.read_to_close()).await;
    let ended = start.elapsed().as_secs();
    // The system's clock is not paused.
    assert!((48..=50).contains(&ended), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn pings_can_be_switched_off_for_a_request() {
    let inner = layer()
        .config(config().keep_alive(KeepAlive::every(Duration::from_secs(5))))
        .layer(service_fn(|set: ChannelSet| async move {
            set.session().ended().await;
            Ok::<_, BoxError>(())
        }));
    let quiet = ServiceBuilder::new()
        .layer(PolicyLayer::new(KeepAlive::never()))
        .service(inner.clone());
    let mut client = open_with(quiet, subprotocols::V4, 64 * 1024).await;
    let nothing = tokio::time::timeout(LONG, client.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let mut client = open_with(inner, subprotocols::V4, 64 * 1024).await;
    let ping = within(SOON + SOON, client.next()).await.unwrap();
    assert_eq!(ping.opcode, PING);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_pings_takes_nothing_from_what_data_may() {
    let rate = ByteRate::default().outbound(1000);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
        |mut set: ChannelSet| async move {
            let mut input = set.take_reader(0).ok_or("no channel 0")?;
            let mut output = set.take_writer(1).ok_or("no channel 1")?;
            input.fill_buf().await?;
            output.write_all(b"done").await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    let start = Instant::now();
    for _ in 0..1000 {
        client.bytes(&frame(true, PING, &[7; 125])).await.unwrap();
        assert_eq!(within(SOON, client.next()).await.unwrap().opcode, PONG);
    }
    client.send(0, b"x").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!((&*told.text(1), told.close), ("done", Some(Some(1000))));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// It holds while the session is open. What comes behind our Close is discarded as it comes:
/// the peer's own Close lies behind it.
#[tokio::test(start_paused = true)]
async fn input_behind_our_close_is_discarded_without_a_rate() {
    let rate = ByteRate::default().inbound(1000);
    let service = once_in(
        layer().config(config().byte_rate(rate)),
        |mut set: ChannelSet| async move {
            set.take_writer(1).unwrap().write_all(b"bye").await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocols::V5, 64 * 1024).await;
    within(SOON, client.read_to_close()).await;
    let start = Instant::now();
    for _ in 0..1000 {
        client.send(0, &[7; 1000]).await.unwrap();
    }
    client.close(Some(1000)).await.unwrap();
    assert_eq!(within(SOON, client.next()).await, None);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
