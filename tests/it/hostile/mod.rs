//! Hostile and unlucky peers: no session spins, hangs or leaks.

mod buffering;

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;
use tower::{Layer, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelReader, ChannelSet, ChannelType,
    Encoding, SessionConfig, WsStreamLayer,
    policy::Limits,
    session::{Hold, LastWords},
    testing::{Connect, Frame},
};

const NAME: &str = "attack.k8s.io";

/// More polls than any of these services needs. A service that spins is ended, so that paused time
/// advances.
const SPIN: usize = 5_000;

fn protocols(half_close: bool) -> ChannelProtocols {
    use ChannelType::{Read, Write};
    let config =
        ChannelProtocolConfig::new(Encoding::Binary, [Read, Write, Write]).half_close(half_close);
    ChannelProtocols::builder()
        .protocol(NAME, config)
        .build()
        .unwrap()
}

fn connect() -> Connect {
    Connect::to("/").offer(NAME).buffer(4096)
}

/// Counts the polls of a service, and ends it after too many.
struct Counted<F> {
    future: Pin<Box<F>>,
    polls: Arc<AtomicUsize>,
}

impl<F: Future<Output = Result<(), BoxError>>> Future for Counted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if self.polls.fetch_add(1, Ordering::Relaxed) > SPIN {
            return Poll::Ready(Ok(()));
        }
        self.future.as_mut().poll(cx)
    }
}

macro_rules! counted_service {
    ($polls:expr, $body:expr) => {{
        let polls = Arc::clone(&$polls);
        service_fn(move |set: ChannelSet| Counted {
            future: Box::pin($body(set)),
            polls: Arc::clone(&polls),
        })
    }};
}

fn bad_frame() -> Frame {
    // A continuation without a message.
    Frame::new(0, vec![0; 3])
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_waits_for_a_mute_peer_is_not_polled_again_and_again() {
    let polls = Arc::new(AtomicUsize::new(0));
    let service = counted_service!(polls, async |mut set: ChannelSet| {
        let mut stdout = set.take_writer(1).unwrap();
        stdout.write_all(&[7; 20_000]).await?;
        stdout.flush().await?;
        Ok(())
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let mut client = connect().connect(service).await.unwrap();
    client.stall(Duration::from_secs(10)).await;
    assert!(polls.load(Ordering::Relaxed) < 20, "{polls:?} polls");
    assert_eq!(client.read_to_end().await.channel(1).len(), 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_the_room_of_others_is_not_polled_again_and_again() {
    let polls = Arc::new(AtomicUsize::new(0));
    let service = counted_service!(polls, async |mut set: ChannelSet| {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stderr = set.take_writer(2).unwrap();
        stdout.send(vec![7; 300_000]).await?;
        stderr.write_all(b"x").await?;
        Ok(())
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let mut client = connect().connect(service).await.unwrap();
    client.stall(Duration::from_secs(10)).await;
    assert!(polls.load(Ordering::Relaxed) < 20, "{polls:?} polls");
    assert_eq!(client.read_to_end().await.channel(2), b"x");
}

#[tokio::test(start_paused = true)]
async fn a_flush_in_its_grace_is_not_polled_again_and_again() {
    let polls = Arc::new(AtomicUsize::new(0));
    let service = counted_service!(polls, async |mut set: ChannelSet| {
        let mut stdout = set.take_writer(1).unwrap();
        // Above the budget, so that room is not a reason to be woken.
        stdout.send(vec![7; 100_000]).await?;
        stdout.flush().await?;
        Ok(())
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let mut client = connect().connect(service).await.unwrap();
    client.send_frame(bad_frame()).await.unwrap();
    client.stall(Duration::from_secs(10)).await;
    assert!(polls.load(Ordering::Relaxed) < 20, "{polls:?} polls");
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_with_the_session_whose_output_was_dropped() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let service = service_fn(move |mut set: ChannelSet| {
        let tell = tell.clone();
        async move {
            let mut stdout = set.take_writer(1).unwrap();
            tokio::spawn(async move {
                stdout.send(vec![7; 100_000]).await.unwrap();
                let _ = tell.send(stdout.flush().await);
            });
            Ok::<_, BoxError>(())
        }
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let mut client = connect().connect(service).await.unwrap();
    client.stall(Duration::from_secs(1)).await;
    client.send_frame(bad_frame()).await.unwrap();
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.close_code, Some(1002));
    let flushed = timeout(Duration::from_secs(600), told.recv()).await;
    let flushed = flushed
        .expect("the flush hangs after its session is gone")
        .unwrap();
    assert_eq!(flushed.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_long_hold_is_no_stalled_peer() {
    let service = service_fn(async |mut set: ChannelSet| {
        let hold = Hold::until_peer_reads(Duration::from_millis(20), Duration::from_secs(120));
        set.session().hold_output(hold);
        set.take_writer(1).unwrap().write_all(b"held").await?;
        Ok::<_, BoxError>(())
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let mut client = connect().connect(service).await.unwrap();
    client.stall(Duration::from_secs(110)).await;
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.channel(1), b"held");
    assert_eq!(transcript.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn the_longest_duration_means_for_ever() {
    let service = service_fn(async |mut set: ChannelSet| {
        let hold = Hold::until_peer_reads(Duration::MAX, Duration::MAX);
        set.session().hold_output(hold);
        set.take_writer(1).unwrap().write_all(b"all").await?;
        let mut stdin = set.take_reader(0).unwrap();
        let _ = stdin.read(&mut [0]).await;
        Ok::<_, BoxError>(())
    });
    let service = WsStreamLayer::new(protocols(false))
        .config(
            SessionConfig::default()
                .upgrade_timeout(Duration::MAX)
                .accept_timeout(Duration::MAX)
                .grace(Duration::MAX)
                .closed_grace(Duration::MAX)
                .close_timeout(Duration::MAX),
        )
        .layer(service);
    let mut client = connect().connect(service).await.unwrap();
    client.send(0, b"x").await.unwrap();
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.channel(1), b"all");
    assert_eq!(transcript.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn last_words_that_were_never_said_do_not_keep_their_session() {
    let token = Arc::new(());
    let mine = Arc::clone(&token);
    let service = service_fn(move |mut set: ChannelSet| {
        let mine = Arc::clone(&mine);
        async move {
            let session = set.session().clone();
            set.session().say_last(move |_| {
                let _ = (&session, &mine);
                None::<LastWords>
            });
            let mut stdin = set.take_reader(0).unwrap();
            let _ = stdin.read(&mut [0]).await;
            Ok::<_, BoxError>(())
        }
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let client = connect().connect(service).await.unwrap();
    drop(client);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "the closure keeps its session, and that the closure"
    );
}

/// Returns everything that was read, and how it ended.
async fn read_all(mut stdin: ChannelReader) -> (Vec<u8>, io::Result<()>) {
    let mut all = Vec::new();
    let end = stdin.read_to_end(&mut all).await;
    (all, end.map(drop))
}

#[tokio::test(start_paused = true)]
async fn a_close_inside_a_message_is_no_end_of_input() {
    for base64 in [false, true] {
        let (tell, mut told) = mpsc::unbounded_channel();
        let service = service_fn(move |mut set: ChannelSet| {
            let tell = tell.clone();
            async move {
                let _ = tell.send(read_all(set.take_reader(0).unwrap()).await);
                Ok::<_, BoxError>(())
            }
        });
        let table = ChannelProtocols::standard([ChannelType::Read]).unwrap();
        let service = WsStreamLayer::new(table).layer(service);
        let (name, part) = match base64 {
            false => ("channel.k8s.io", Frame::binary(&b"\0cut o"[..])),
            true => ("base64.channel.k8s.io", Frame::text(&b"0Y3V0IG"[..])),
        };
        let mut client = Connect::to("/").offer(name).connect(service).await.unwrap();
        client.send_frame(part.fin(false)).await.unwrap();
        client.close(Some(1000)).await.unwrap();
        let (bytes, end) = told.recv().await.unwrap();
        assert!(!bytes.is_empty());
        assert!(
            end.is_err(),
            "an upload that was cut off looks complete (base64: {base64})"
        );
        drop(client);
    }
}

/// A spawned reader has a small window, and runs on another thread than the driver.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_window_loses_nothing() {
    const MESSAGES: usize = 3_000;
    for window in [16 * 1024, 64 * 1024] {
        let service = service_fn(async |mut set: ChannelSet| {
            let mut stdin = set.take_reader(0).unwrap();
            let mut stdout = set.take_writer(1).unwrap();
            let task = tokio::spawn(async move {
                let (mut n, mut buf) = (0_u64, vec![0; 700]);
                loop {
                    match stdin.read(&mut buf).await? {
                        0 => break,
                        read => n += read as u64,
                    }
                }
                stdout.write_all(&n.to_be_bytes()).await?;
                io::Result::Ok(())
            });
            task.await??;
            Ok::<_, BoxError>(())
        });
        let limits = Limits::default().receive_window(window);
        let service = WsStreamLayer::new(protocols(true))
            .limits(limits)
            .layer(service);
        let mut client = Connect::to("/")
            .offer(NAME)
            .buffer(1 << 20)
            .connect(service)
            .await
            .unwrap();
        for _ in 0..MESSAGES {
            client.send(0, b"x").await.unwrap();
            client.send(0, &[7; 15_000]).await.unwrap();
        }
        client.close_channel(0).await.unwrap();
        let got = client.read_to_end().await.channel(1);
        let got = u64::from_be_bytes(got.try_into().expect("the session has broken"));
        assert_eq!(got, MESSAGES as u64 * 15_001, "window {window}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_large_write_of_another_task_leaves_a_buffering_transport() {
    let service = service_fn(async |mut set: ChannelSet| {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stdin = set.take_reader(0).unwrap();
        let task = tokio::spawn(async move {
            // The session's task is asleep meanwhile.
            tokio::time::sleep(Duration::from_secs(1)).await;
            stdout.write_all(&[7; 30_000]).await?;
            // The client answers only once it has everything.
            stdin.read_exact(&mut [0]).await?;
            io::Result::Ok(())
        });
        task.await??;
        Ok::<_, BoxError>(())
    });
    let service = WsStreamLayer::new(protocols(true)).layer(service);
    let mut client = buffering::connect(service).await;
    let message = timeout(Duration::from_secs(60), client.next_data()).await;
    assert_eq!(
        message
            .expect("30,000 bytes lie in the transport, unflushed")
            .len(),
        30_001
    );
}
