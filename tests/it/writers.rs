//! The one path of all writers: order, wake-ups, flush and budgets, over
//! transports that take little at a time.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::join_all};
use proptest::prelude::*;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower::Layer;
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, ChannelWriter,
    Encoding, WsStreamLayer, policy::Limits, subprotocols,
};

use crate::support::{
    ALL, BITE, LONG, Raw, Told, Watchdog, layer, once, once_in, open, open_tcp, open_with, within,
};

const DOZEN: u8 = 12;

/// Twelve channels that go out, and a thirteenth that comes in.
fn dozen() -> WsStreamLayer {
    let mut channels = vec![ChannelType::Write; DOZEN.into()];
    channels.push(ChannelType::Read);
    let raw = ChannelProtocolConfig::new(Encoding::Binary, channels.clone());
    let base64 = ChannelProtocolConfig::new(Encoding::Base64, channels);
    let table = ChannelProtocols::builder()
        .protocol(subprotocols::V4, raw)
        .protocol(subprotocols::V4_BASE64, base64)
        .build();
    WsStreamLayer::new(table.unwrap())
}

/// The `n`th message of a channel, 64 bytes.
fn message(channel: u8, n: u32) -> [u8; 64] {
    let mut message = [channel; 64];
    message[..4].copy_from_slice(&n.to_be_bytes());
    message
}

async fn write_messages(mut writer: ChannelWriter, messages: u32) {
    let channel = writer.id();
    for n in 0..messages {
        writer.write_all(&message(channel, n)).await.unwrap();
    }
}

/// Half of them in the service's future, half in tasks of their own; nobody
/// flushes.
async fn dozen_writers(mut set: ChannelSet, messages: u32) -> Result<(), BoxError> {
    let mut own = Vec::new();
    for channel in 0..DOZEN {
        let writing = write_messages(set.take_writer(channel).unwrap(), messages);
        if channel % 2 == 0 {
            own.push(writing);
        } else {
            tokio::spawn(writing);
        }
    }
    drop(set);
    join_all(own).await;
    Ok(())
}

fn assert_dozen(told: &Told, messages: u32) {
    for channel in 0..DOZEN {
        let expected: Vec<u8> = (0..messages).flat_map(|n| message(channel, n)).collect();
        assert!(told.channel(channel) == expected, "channel {channel}");
    }
    assert!(told.messages.iter().all(|(_, payload)| payload.len() == 64));
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn a_dozen_writers_over_a_transport_of_one_byte() {
    let _watchdog = Watchdog::bites_after(BITE);
    for subprotocol in [subprotocols::V4, subprotocols::V4_BASE64] {
        let service = dozen().layer(tower::service_fn(|set| dozen_writers(set, 100)));
        let mut client = open_with(service, subprotocol, 1).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_dozen(&told, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dozen_writers_with_room_for_one_message_at_a_time() {
    let _watchdog = Watchdog::bites_after(BITE);
    for limits in [
        Limits::default().send_budget(1),
        Limits::default().high_water(1),
        Limits::default().send_budget(200).high_water(500),
    ] {
        for capacity in [1, 63, 4096] {
            let service = tower::service_fn(|set| dozen_writers(set, 100));
            let service = dozen().limits(limits).layer(service);
            let mut client = open_with(service, subprotocols::V4, capacity).await;
            let told = within(LONG, client.read_to_end()).await;
            assert_dozen(&told, 100);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_writers_on_two_threads() {
    let _watchdog = Watchdog::bites_after(BITE);
    for capacity in [1, 64, 1000, 100_000] {
        let messages = if capacity == 1 { 50 } else { 1000 };
        let service = dozen().layer(tower::service_fn(move |set| dozen_writers(set, messages)));
        let mut client = open_with(service, subprotocols::V4, capacity).await;
        let told = within(BITE, client.read_to_end()).await;
        assert_dozen(&told, messages);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_writers_over_tcp_to_a_slow_reader() {
    let _watchdog = Watchdog::bites_after(BITE);
    for limits in [Limits::default(), Limits::default().send_budget(1000)] {
        let service = dozen().limits(limits);
        let service = service.layer(tower::service_fn(|set| dozen_writers(set, 2000)));
        let mut client = open_tcp(service, subprotocols::V4, true).await;
        let mut slow = [0; 1500];
        let slowly = async {
            // Up to the Close: the server waits for its answer.
            while !client.buf.ends_with(&[0x88, 2, 0x03, 0xe8]) {
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
                let n = client.io.read(&mut slow).await.unwrap();
                assert!(n > 0, "an end without a Close");
                client.buf.extend_from_slice(&slow[..n]);
            }
        };
        within(BITE, slowly).await;
        let told = client.read_to_end().await;
        assert_dozen(&told, 2000);
    }
}

/// One reader goes to sleep and comes back: what was lost while it slept shows.
#[tokio::test(start_paused = true)]
async fn a_dozen_writers_survive_a_client_that_stops_and_goes_on() {
    let _watchdog = Watchdog::bites_after(BITE);
    let service = dozen().layer(tower::service_fn(|set| dozen_writers(set, 3000)));
    let mut client = open_with(service, subprotocols::V4, 4096).await;
    let mut pieces = [1, 10, 5000, 200, 64].into_iter().cycle();
    for _ in 0..50 {
        sleep(Duration::from_secs(2)).await;
        let mut piece = vec![0; pieces.next().unwrap()];
        within(LONG, client.io.read_exact(&mut piece))
            .await
            .unwrap();
        client.buf.extend_from_slice(&piece);
    }
    let told = within(LONG, client.read_to_end()).await;
    assert_dozen(&told, 3000);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_leaves_without_a_flush() {
    for spawned in [false, true] {
        for subprotocol in ALL {
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                let prompt = async move {
                    // In the first poll, and long after it.
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

/// Reads so many bytes, of frames whole and in part.
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

/// A flush of one channel while another waits for room, which its budget alone
/// never gives: neither sleeps for ever.
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

/// While the peer takes nothing a session must cost nothing: the clock stands
/// still where somebody spins, and so does this test.
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
    assert!(polled < 10, "{polled} polls, and nobody has read a byte");
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 10_000);
}

/// The same behind the end of the session, when every writer has failed.
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
    // What was accepted before the end has left: the flush may say so.
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

#[tokio::test(start_paused = true)]
async fn a_full_channel_leaves_its_siblings_their_budget() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (notes, mut note) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        let mut stderr = set.take_writer(2).unwrap();
        drop(set);
        sleep(Duration::from_millis(10)).await;
        // Nobody reads: accepted is the budget, and the write that passes it.
        for writer in [&mut stdout, &mut stderr] {
            let mut accepted = 0;
            while let Some(n) = writer.write(&[7; 1000]).now_or_never() {
                accepted += n?;
            }
            notes.send(accepted).unwrap();
        }
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    for _ in 0..2 {
        let accepted = within(LONG, note.recv()).await.unwrap();
        let budget = 64 * 1024;
        assert!(
            (budget - 1000..budget + 3000).contains(&accepted),
            "{accepted} bytes accepted"
        );
    }
    within(LONG, client.read_to_end()).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_session_queues_is_bounded_over_all_channels() {
    let _watchdog = Watchdog::bites_after(BITE);
    let (notes, note) = oneshot::channel();
    let service = once_in(dozen(), move |mut set: ChannelSet| async move {
        let mut writers: Vec<_> = (0..DOZEN).filter_map(|id| set.take_writer(id)).collect();
        drop(set);
        sleep(Duration::from_millis(10)).await;
        let mut accepted = 0;
        for writer in &mut writers {
            while let Some(n) = writer.write(&[7; 1000]).now_or_never() {
                accepted += n?;
            }
        }
        notes.send(accepted).unwrap();
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V4, 1000).await;
    let accepted = within(LONG, note).await.unwrap();
    let mark = 256 * 1024;
    assert!(
        (mark - 3000..mark + 3000).contains(&accepted),
        "{accepted} bytes accepted"
    );
    within(LONG, client.read_to_end()).await;
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_changes_its_task_while_it_waits_is_woken_there() {
    let _watchdog = Watchdog::bites_after(BITE);
    for shutdown in [false, true] {
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdout = set.take_writer(1).unwrap();
            drop(set);
            while let Some(n) = stdout.write(&[7; 1000]).now_or_never() {
                n?;
            }
            // Waits here once, and goes on elsewhere.
            std::future::poll_fn(|cx| {
                assert!(pin!(stdout.write(&[7; 1000])).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            tokio::spawn(async move {
                if !shutdown {
                    stdout.write_all(b"end").await.unwrap();
                }
                stdout.shutdown().await.unwrap();
            });
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V4, 1000).await;
        sleep(Duration::from_secs(1)).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).ends_with(b"end"), !shutdown);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// A waker may own the task that owns the writer: woken or dropped under the
/// lock of the writers it would wait for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_are_aborted_while_they_write_harm_nobody() {
    let _watchdog = Watchdog::bites_after(BITE);
    for round in 0..50_u64 {
        let service = once_in(dozen(), move |mut set: ChannelSet| async move {
            let tasks: Vec<_> = (1..DOZEN)
                .filter_map(|id| set.take_writer(id))
                .map(|mut writer| {
                    tokio::spawn(async move { while writer.write_all(&[7; 500]).await.is_ok() {} })
                })
                .collect();
            let last = set.take_writer(0).unwrap();
            drop(set);
            for _ in 0..round * 5 {
                tokio::task::yield_now().await;
            }
            for task in tasks {
                task.abort();
            }
            write_messages(last, 10).await;
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V4, 512).await;
        let told = within(BITE, client.read_to_end()).await;
        let expected: Vec<u8> = (0..10).flat_map(|n| message(0, n)).collect();
        assert!(told.channel(0) == expected);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

/// One step of a task that has some channels for itself.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, usize),
    Send(usize, usize),
    Flush(usize),
    Drop(usize),
    Yield,
    Sleep,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        4 => 1..200_usize,
        2 => 1500..3000_usize,
        1 => 20_000..50_000_usize,
        1 => 60_000..80_000_usize,
    ];
    prop_oneof![
        8 => (0..2_usize, len.clone()).prop_map(|(at, len)| Step::Write(at, len)),
        4 => (0..2_usize, len).prop_map(|(at, len)| Step::Send(at, len)),
        2 => (0..2_usize).prop_map(Step::Flush),
        1 => (0..2_usize).prop_map(Step::Drop),
        2 => Just(Step::Yield),
        1 => Just(Step::Sleep),
    ]
}

/// What one task has written, a message each.
type Log = Vec<(u8, Vec<u8>)>;

async fn run(mut writers: [Option<ChannelWriter>; 2], steps: Vec<Step>) -> Log {
    let mut log = Log::new();
    for (n, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write(at, len) => {
                let Some(writer) = &mut writers[at] else {
                    continue;
                };
                let payload: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                let accepted = writer.write(&payload).await.unwrap();
                assert!(accepted == len.min(32 * 1024));
                log.push((writer.id(), payload[..accepted].to_vec()));
            }
            Step::Send(at, len) => {
                let Some(writer) = &mut writers[at] else {
                    continue;
                };
                let payload: Vec<u8> = (0..len).map(|i| (i * 11 + n) as u8).collect();
                writer.send(payload.clone()).await.unwrap();
                log.push((writer.id(), payload));
            }
            Step::Flush(at) => {
                if let Some(writer) = &mut writers[at] {
                    writer.flush().await.unwrap();
                }
            }
            Step::Drop(at) => writers[at] = None,
            Step::Yield => tokio::task::yield_now().await,
            Step::Sleep => sleep(Duration::from_millis(3)).await,
        }
    }
    log
}

/// Two tasks, one of them the service, with two channels each. The model is
/// what each has written: on the wire it is the same, in that order over both
/// of its channels.
async fn random_schedule(
    steps: [Vec<Step>; 2],
    subprotocol: &str,
    capacity: usize,
    reads: Vec<(usize, bool)>,
    limits: Limits,
) {
    let logs: Arc<Mutex<[Log; 2]>> = Arc::default();
    let noted = Arc::clone(&logs);
    let service = once_in(
        dozen().limits(limits),
        move |mut set: ChannelSet| async move {
            let [first, second] = steps;
            let mine = [set.take_writer(0), set.take_writer(1)];
            let theirs = [set.take_writer(2), set.take_writer(3)];
            drop(set);
            let other = Arc::clone(&noted);
            let task = tokio::spawn(async move {
                let log = run(theirs, second).await;
                other.lock().unwrap()[1] = log;
            });
            let log = run(mine, first).await;
            noted.lock().unwrap()[0] = log;
            task.await?;
            Ok(())
        },
    );
    let mut client = open_with(service, subprotocol, capacity).await;
    let slowly = async {
        for (len, waits) in reads {
            if waits {
                sleep(Duration::from_millis(2)).await;
            }
            let mut piece = vec![0; len];
            match client.io.read(&mut piece).await.unwrap() {
                0 => return,
                n => client.buf.extend_from_slice(&piece[..n]),
            }
        }
    };
    within(LONG, slowly).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let logs = logs.lock().unwrap();
    for (task, log) in logs.iter().enumerate() {
        let ours = |channel: u8| usize::from(channel) / 2 == task;
        let came: Vec<_> = told.messages.iter().filter(|(id, _)| ours(*id)).collect();
        let lens = |log: &[&(u8, Vec<u8>)]| -> Vec<_> {
            log.iter()
                .map(|(id, payload)| (*id, payload.len()))
                .collect()
        };
        let log: Vec<_> = log.iter().collect();
        assert_eq!(lens(&came), lens(&log));
        assert!(came == log, "other bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn random_writes_come_in_the_order_in_which_they_were_made(
        first in proptest::collection::vec(step(), 0..40),
        second in proptest::collection::vec(step(), 0..40),
        base64: bool,
        capacity in prop_oneof![1..10_usize, 10..5000_usize, 50_000..200_000_usize],
        reads in proptest::collection::vec((1..70_000_usize, any::<bool>()), 0..50),
        tight: bool,
    ) {
        let _watchdog = Watchdog::bites_after(BITE);
        let limits = match tight {
            true => Limits::default().send_budget(3000).high_water(4000),
            false => Limits::default(),
        };
        let subprotocol = if base64 { subprotocols::V4_BASE64 } else { subprotocols::V4 };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(random_schedule([first, second], subprotocol, capacity, reads, limits));
    }
}

#[tokio::test(start_paused = true)]
async fn limits_of_one_byte_still_let_everything_through() {
    let layer = layer().limits(Limits::default().send_budget(1).high_water(1));
    let service = once_in(layer, |mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        stdout.write_all(&[7; 100_000]).await?;
        stdout.send(vec![8; 100_000]).await?;
        Ok(())
    });
    let mut client = open_with(service, subprotocols::V5, 100).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 200_000);
}

/// A payload with an owner whose drop can be seen.
struct Owned(
    Vec<u8>,
    #[allow(dead_code, reason = "it is held, and nothing else")] Arc<()>,
);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A large message leaves, its client reads it, and the session lives on.
#[tokio::test(start_paused = true)]
async fn a_message_that_has_left_is_not_kept() {
    let _watchdog = Watchdog::bites_after(BITE);
    let owner = Arc::new(());
    let kept = Arc::downgrade(&owner);
    let service = once_in(dozen(), move |mut set: ChannelSet| async move {
        let mut writer = set.take_writer(0).unwrap();
        let payload = Bytes::from_owner(Owned(vec![b'x'; 1 << 20], owner));
        writer.send(payload).await?;
        writer.flush().await?;
        match kept.strong_count() {
            0 => Ok(()),
            _ => Err("the payload is still held".into()),
        }
    });
    let mut client = open(service, subprotocols::V4).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(0).len(), 1 << 20);
    assert_eq!(told.close, Some(Some(1000)));
}
