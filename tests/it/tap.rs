//! Taps: what is recorded, who waits for it, what is lost, and the end.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, ServiceBuilder};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelReader, ChannelSet,
    ChannelType, ChannelWriter, Encoding, EndCause, Rejection, SessionConfig, WsStreamLayer,
    channel::{
        ChannelStream,
        tap::{Direction, Lost, Overflow, Payload, Record, Tap, TapLayer, TapReader},
    },
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Client, Connect, Received, Refused, Transcript},
};

use Direction::{Inbound, Outbound};

use crate::support::LONG;

/// Longer than everything that ends by itself; what takes longer hangs.
/// What a record counts beside its bytes.
const RECORD: usize = 128;

/// Input on 0, output on 1, both on 2.
fn protocols() -> ChannelProtocols {
    use ChannelType::{Read, ReadWrite, Write};
    let channels = |encoding| ChannelProtocolConfig::new(encoding, [Read, Write, ReadWrite]);
    let v5 = channels(Encoding::Binary).half_close(true);
    ChannelProtocols::builder()
        .protocol(subprotocols::V5, v5)
        .protocol(subprotocols::V4_BASE64, channels(Encoding::Base64))
        .build()
        .unwrap()
}

fn layer() -> WsStreamLayer {
    WsStreamLayer::new(protocols()).config(SessionConfig::default().keep_alive(None))
}

/// A layer for the one session that there is.
fn with(tap: Tap) -> TapLayer<impl Fn(&ChannelSet) -> Option<Tap> + Clone + Send + Sync + 'static> {
    let tap = Arc::new(Mutex::new(Some(tap)));
    TapLayer::new(move |_: &ChannelSet| {
        let tap = tap.lock().unwrap().take();
        Some(tap.expect("there is one session"))
    })
}

/// A session of a function with a tap on it.
async fn tapped_on<F, Fut>(subprotocol: &str, tap: Tap, function: F) -> Client
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let function = Arc::new(Mutex::new(Some(function)));
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(with(tap))
        .service_fn(move |channels| {
            let function = function.lock().unwrap().take();
            function.expect("there is one session")(channels)
        });
    let connect = Connect::to("/").offer(subprotocol).connect(service);
    within(connect).await.unwrap()
}

async fn tapped<F, Fut>(tap: Tap, function: F) -> Client
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    tapped_on(subprotocols::V5, tap, function).await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("it comes by itself")
}

async fn payload(records: &mut TapReader) -> Payload {
    match within(records.next()).await {
        Some(Record::Payload(payload)) => payload,
        other => panic!("{other:?}"),
    }
}

type Seen = (Direction, u8, Vec<u8>);

fn seen(payload: &Payload) -> Seen {
    (payload.direction, payload.channel, payload.bytes.to_vec())
}

fn is(direction: Direction, channel: u8, bytes: &[u8]) -> Seen {
    (direction, channel, bytes.to_vec())
}

/// All records, the cause of the end, and what was lost before that.
async fn rest(records: &mut TapReader) -> (Vec<Payload>, EndCause, Lost) {
    let mut all = Vec::new();
    let end = loop {
        match within(records.next()).await {
            Some(Record::Payload(payload)) => all.push(payload),
            Some(Record::End(end)) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert!(within(records.next()).await.is_none(), "behind the end");
    (all, end.cause, end.lost)
}

async fn rest_seen(records: &mut TapReader) -> (Vec<Seen>, EndCause) {
    let (all, cause, lost) = rest(records).await;
    assert_eq!(lost, Lost::default());
    assert!(all.iter().all(|payload| payload.lost == Lost::default()));
    (all.iter().map(seen).collect(), cause)
}

async fn read_to_end(client: Client) -> Transcript {
    within(client.read_to_end()).await
}

async fn read(reader: &mut ChannelReader, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await?;
    Ok(bytes)
}

// What is recorded.

async fn every_kind(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).unwrap();
    let mut output = channels.take_writer(1).unwrap();
    let mut both = channels.take(2).unwrap();
    drop(channels);
    read(&mut input, 2).await?;
    let shown = input.fill_buf().await?.len();
    assert_eq!(shown, 8, "all of the message");
    // What is looked at and not consumed the service has not had.
    input.consume(3);
    output.write_all(b"written").await?;
    output.send("sent").await?;
    output.send("").await?;
    let mut sink = output.into_sink();
    sink.send(Bytes::from_static(b"sunk")).await?;
    let mut stream = input.into_stream();
    assert_eq!(&stream.next().await.unwrap()?[..], b"56789");
    both.write_all(b"both").await?;
    let mut one = [0];
    both.read_exact(&mut one).await?;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_service_has_and_says_is_recorded_decoded() {
    for subprotocol in [subprotocols::V5, subprotocols::V4_BASE64] {
        for overflow in [Overflow::Backpressure, Overflow::Lossy] {
            let (tap, mut records) = Tap::new(overflow);
            let mut client = tapped_on(subprotocol, tap, every_kind).await;
            client.send(0, b"0123456789").await.unwrap();
            client.send(2, b"xyz").await.unwrap();
            let told = read_to_end(client).await;
            assert_eq!(told.channel(1), b"writtensentsunk");
            let expected = vec![
                is(Inbound, 0, b"01"),
                is(Inbound, 0, b"234"),
                is(Outbound, 1, b"written"),
                is(Outbound, 1, b"sent"),
                is(Outbound, 1, b"sunk"),
                is(Inbound, 0, b"56789"),
                is(Outbound, 2, b"both"),
                is(Inbound, 2, b"x"),
            ];
            let all = rest_seen(&mut records).await;
            assert_eq!(all, (expected, EndCause::Completed));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_the_service_has_as_such_are_not_copied() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let (had, mut has) = mpsc::unbounded_channel();
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap().into_stream();
        let bytes = input.next().await.unwrap()?;
        had.send(bytes)?;
        let message = Bytes::from(vec![7; 100_000]);
        had.send(message.clone())?;
        channels.take_writer(1).unwrap().send(message).await?;
        Ok(())
    })
    .await;
    client.send(0, &[1; 5000]).await.unwrap();
    read_to_end(client).await;
    let (all, ..) = rest(&mut records).await;
    for payload in all {
        let same = has.recv().await.unwrap();
        assert_eq!(payload.bytes.as_ptr(), same.as_ptr());
        assert_eq!(payload.bytes.len(), same.len());
    }
    assert!(has.recv().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_record_has_the_time_at_which_the_service_had_it() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let start = Instant::now();
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        sleep(Duration::from_secs(5)).await;
        read(&mut input, 1).await?;
        sleep(Duration::from_secs(7)).await;
        output.write_all(b"x").await?;
        Ok(())
    })
    .await;
    client.send(0, b"x").await.unwrap();
    read_to_end(client).await;
    // Taken long afterwards.
    sleep(Duration::from_secs(100)).await;
    let (all, ..) = rest(&mut records).await;
    let times: Vec<_> = all
        .iter()
        .map(|payload| (payload.time - start).as_secs())
        .collect();
    assert_eq!(times, [5, 12]);
}

#[tokio::test(start_paused = true)]
async fn a_command_is_recorded_with_its_sizes_and_without_its_status() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(with(tap))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |mut command: RemoteCommand| {
            let mut stdout = command.stdout.take().unwrap();
            let size = command.resize.as_mut().unwrap().next().await.unwrap();
            stdout.write_all(size.to_string().as_bytes()).await?;
            Ok::<_, BoxError>(ExitStatus::from_code(3))
        });
    let connect = Connect::to("/exec?command=sh&stdout=1&tty=1").offer(subprotocols::V5);
    let mut client = within(connect.connect(service)).await.unwrap();
    let size = br#"{"Width":80,"Height":24}"#;
    client.send(4, size).await.unwrap();
    assert_eq!(read_to_end(client).await.exit_code(), Some(3));
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Inbound, 4, size), is(Outbound, 1, b"80x24")]);
    assert_eq!(cause, EndCause::Completed);
}

#[tokio::test(start_paused = true)]
async fn each_layer_records_for_itself() {
    let (outer, mut outer_records) = Tap::new(Overflow::Backpressure);
    // Full after one.
    let (inner, mut inner_records) = Tap::with_capacity(Overflow::Lossy, 1);
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(with(outer))
        .layer(with(inner))
        .service_fn(async |mut channels: ChannelSet| {
            let mut output = channels.take_writer(1).unwrap();
            output.write_all(b"one").await?;
            output.write_all(b"three").await?;
            Ok::<_, BoxError>(())
        });
    let connect = Connect::to("/").offer(subprotocols::V5);
    read_to_end(within(connect.connect(service)).await.unwrap()).await;
    let (all, _) = rest_seen(&mut outer_records).await;
    assert_eq!(all, [is(Outbound, 1, b"one"), is(Outbound, 1, b"three")]);
    let (all, _, lost) = rest(&mut inner_records).await;
    assert_eq!(all.len(), 1);
    assert_eq!((lost.payloads, lost.bytes), (1, 5));
}

// A full queue.

#[tokio::test(start_paused = true)]
async fn a_write_waits_for_room_with_nothing_accepted() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let (waits, mut waited) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut output = channels.take_writer(1).unwrap();
        drop(channels);
        output.write_all(b"a").await?;
        for _ in 0..3 {
            assert!(timeout(LONG, output.write(b"no")).await.is_err());
            assert!(timeout(LONG, output.send("no")).await.is_err());
            output.flush().await?;
        }
        waits.send(()).await?;
        output.write_all(b"b").await?;
        output.send("c").await?;
        Ok(())
    })
    .await;
    timeout(LONG * 10, waited.recv()).await.unwrap().unwrap();
    let first = within(client.receive()).await;
    assert_eq!(first, Received::Message(1, Bytes::from_static(b"a")));
    assert!(timeout(LONG, client.receive()).await.is_err());

    assert_eq!(seen(&payload(&mut records).await), is(Outbound, 1, b"a"));
    let next = within(client.receive()).await;
    assert_eq!(next, Received::Message(1, Bytes::from_static(b"b")));
    assert!(timeout(LONG, client.receive()).await.is_err());
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Outbound, 1, b"b"), is(Outbound, 1, b"c")]);
    assert_eq!(cause, EndCause::Completed);
    assert_eq!(read_to_end(client).await.channel(1), b"c");
}

#[tokio::test(start_paused = true)]
async fn a_read_waits_for_room_with_nothing_taken() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let (waits, mut waited) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap();
        drop(channels);
        assert_eq!(read(&mut input, 1).await?, b"a");
        for _ in 0..3 {
            assert!(timeout(LONG, input.read_u8()).await.is_err());
            assert!(timeout(LONG, input.fill_buf()).await.is_err());
        }
        waits.send(()).await?;
        assert_eq!(read(&mut input, 1).await?, b"b");
        let mut stream = input.into_stream();
        assert!(timeout(LONG, stream.next()).await.is_err());
        waits.send(()).await?;
        assert_eq!(&stream.next().await.unwrap()?[..], b"cd");
        Ok(())
    })
    .await;
    client.send(0, b"abcd").await.unwrap();
    timeout(LONG * 10, waited.recv()).await.unwrap().unwrap();
    assert_eq!(seen(&payload(&mut records).await), is(Inbound, 0, b"a"));
    timeout(LONG * 10, waited.recv()).await.unwrap().unwrap();
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Inbound, 0, b"b"), is(Inbound, 0, b"cd")]);
    assert_eq!(cause, EndCause::Completed);
    read_to_end(client).await;
}

/// What is in its hands a service passes on before it lets it go, in a queue that
/// holds less than that.
#[tokio::test(start_paused = true)]
async fn a_copy_needs_no_room_for_both_of_its_sides() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        drop(channels);
        tokio::io::copy_buf(&mut input, &mut output).await?;
        Ok(())
    })
    .await;
    let sent = vec![7; 50_000];
    client.send(0, &sent).await.unwrap();
    client.close_channel(0).await.unwrap();
    let recording = tokio::spawn(async move { rest_seen(&mut records).await });
    assert!(read_to_end(client).await.channel(1) == sent);
    let (all, _) = recording.await.unwrap();
    for direction in [Inbound, Outbound] {
        let passed = all.iter().filter(|(it, ..)| *it == direction);
        assert!(passed.flat_map(|(.., bytes)| bytes).eq(&sent));
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_holds_its_capacity_and_one_record_at_most() {
    for (size, capacity) in [(1, 100 * (RECORD + 1)), (1, 5000), (5000, 50_000)] {
        let (tap, mut records) = Tap::with_capacity(Overflow::Lossy, capacity);
        let client = tapped(tap, move |mut channels| async move {
            let mut output = channels.take_writer(1).unwrap();
            for _ in 0..1000 {
                output.write_all(&vec![0; size]).await?;
            }
            Ok(())
        })
        .await;
        read_to_end(client).await;
        let (all, _, lost) = rest(&mut records).await;
        assert_eq!(all.len(), capacity.div_ceil(RECORD + size), "{size}");
        assert_eq!(all.len() as u64 + lost.payloads, 1000);
    }
}

#[tokio::test(start_paused = true)]
async fn loss_is_counted_in_the_next_record_and_at_the_end() {
    let (tap, mut records) = Tap::with_capacity(Overflow::Lossy, 3 * (RECORD + 2));
    let (more, mut go_on) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        for _ in 0..3 {
            output.write_all(b"ok").await?;
        }
        read(&mut input, 10).await?;
        for _ in 0..6 {
            output.write_all(b"lost").await?;
        }
        go_on.recv().await;
        output.write_all(b"on").await?;
        output.write_all(b"end").await?;
        Ok(())
    })
    .await;
    client.send(0, &[0; 10]).await.unwrap();
    for _ in 0..9 {
        within(client.receive()).await;
    }
    assert_eq!(payload(&mut records).await.lost, Lost::default());
    more.send(()).await.unwrap();
    read_to_end(client).await;
    let (all, _, lost) = rest(&mut records).await;
    let counts: Vec<_> = all
        .iter()
        .map(|it| (&it.bytes[..], it.lost.payloads, it.lost.bytes))
        .collect();
    assert_eq!(
        counts,
        [(&b"ok"[..], 0, 0), (&b"ok"[..], 0, 0), (&b"on"[..], 7, 34)]
    );
    assert_eq!((lost.payloads, lost.bytes), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_dropped_lets_everybody_go_on() {
    let (tap, records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        let mut other = channels.take_writer(2).unwrap();
        output.write_all(b"a").await?;
        let (read, written, sent) =
            tokio::join!(read(&mut input, 5), output.write_all(b"b"), other.send("c"));
        assert_eq!(read?, b"input");
        written?;
        sent?;
        output.write_all(b"d").await?;
        Ok(())
    })
    .await;
    client.send(0, b"input").await.unwrap();
    within(client.receive()).await;
    assert!(timeout(LONG, client.receive()).await.is_err(), "all wait");
    drop(records);
    let told = read_to_end(client).await;
    assert_eq!(
        (told.channel(1), told.channel(2)),
        (b"bd".into(), b"c".into())
    );
    assert_eq!(told.close_code, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_room_fails_at_the_end_of_the_session() {
    let (tap, records) = Tap::with_capacity(Overflow::Backpressure, 1);
    let (failed, fails) = oneshot::channel();
    let client = tapped(tap, move |mut channels| async move {
        let mut output = channels.take_writer(1).unwrap();
        output.write_all(b"a").await?;
        tokio::spawn(async move { failed.send(output.write(b"b").await).unwrap() });
        channels.session().ended().await;
        Ok(())
    })
    .await;
    sleep(LONG).await;
    drop(client);
    let error = within(fails).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(matches!(
        EndCause::from_error(&error),
        Some(EndCause::ConnectionLost { .. })
    ));
    drop(records);
}

// The end.

#[tokio::test(start_paused = true)]
async fn a_half_close_ends_a_side_and_not_the_recording() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let (more, mut go_on) = mpsc::channel(1);
    let mut client = tapped(tap, move |mut channels| async move {
        let mut input = channels.take_reader(0).unwrap();
        let mut output = channels.take_writer(1).unwrap();
        assert_eq!(input.read_to_end(&mut Vec::new()).await?, 4);
        go_on.recv().await;
        output.write_all(b"after").await?;
        Ok(())
    })
    .await;
    client.send(0, b"last").await.unwrap();
    client.close_channel(0).await.unwrap();
    assert_eq!(seen(&payload(&mut records).await), is(Inbound, 0, b"last"));
    assert!(timeout(LONG, records.next()).await.is_err());
    more.send(()).await.unwrap();
    read_to_end(client).await;
    let (all, cause) = rest_seen(&mut records).await;
    assert_eq!(all, [is(Outbound, 1, b"after")]);
    assert_eq!(cause, EndCause::Completed);
}

#[tokio::test(start_paused = true)]
async fn the_end_tells_the_cause_behind_all_records() {
    // A handle that was given away may be read when the session is over.
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let mut client = tapped(tap, async |mut channels: ChannelSet| {
        let mut input = channels.take_reader(0).unwrap();
        assert_eq!(input.fill_buf().await?, b"late");
        let session = channels.session().clone();
        tokio::spawn(async move {
            session.ended().await;
            sleep(LONG / 2).await;
            read(&mut input, 4).await.unwrap();
            input.read_u8().await.unwrap_err();
            // Read to its end: it is no source any more, dropped or not.
            std::future::pending::<()>().await;
            drop(input);
        });
        Err("no".into())
    })
    .await;
    client.send(0, b"late").await.unwrap();
    read_to_end(client).await;
    let all = rest_seen(&mut records).await;
    assert_eq!(
        all,
        (vec![is(Inbound, 0, b"late")], EndCause::ServiceFailed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_writer_that_was_shut_down_does_not_hold_the_end() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let (kept, keeps) = oneshot::channel();
    let client = tapped(tap, move |mut channels| async move {
        let mut output = channels.take_writer(1).unwrap();
        output.write_all(b"x").await?;
        output.shutdown().await?;
        let _ = kept.send(output);
        Ok(())
    })
    .await;
    read_to_end(client).await;
    let all = rest_seen(&mut records).await;
    assert_eq!(all, (vec![is(Outbound, 1, b"x")], EndCause::Completed));
    drop(keeps);
}

#[tokio::test(start_paused = true)]
async fn every_end_is_told() {
    type Ends = fn(&EndCause) -> bool;
    let cases: [(&str, Ends); 4] = [
        ("closes", |cause| {
            matches!(
                cause,
                EndCause::PeerClosed {
                    code: Some(1001),
                    ..
                }
            )
        }),
        ("is lost", |cause| {
            matches!(cause, EndCause::ConnectionLost { .. })
        }),
        ("panics", |cause| *cause == EndCause::ServicePanicked),
        ("ends", |cause| {
            matches!(cause, EndCause::Closed { code: 4000, .. })
        }),
    ];
    for (what, ends) in cases {
        let (tap, mut records) = Tap::new(Overflow::Lossy);
        let mut client = tapped(tap, move |channels| async move {
            tokio::task::yield_now().await;
            match what {
                "panics" => panic!("as it should"),
                "ends" => channels.session().close(4000, "")?,
                _ => {}
            }
            channels.session().ended().await;
            Ok(())
        })
        .await;
        match what {
            "is lost" => drop(client),
            "closes" => {
                client.close(Some(1001)).await.unwrap();
                read_to_end(client).await;
            }
            _ => {
                read_to_end(client).await;
            }
        }
        let (all, cause) = rest_seen(&mut records).await;
        assert!(all.is_empty() && ends(&cause), "{what}: {cause:?}");
    }
}

/// Its answer, where there is no session.
async fn refused<F>(layer: TapLayer<F>, accept: AcceptMode) -> u16
where
    F: Fn(&ChannelSet) -> Option<Tap> + Clone + Send + Sync + 'static,
{
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols()).config(SessionConfig::default().accept(accept)))
        .layer(layer)
        .service_fn(async |_: ChannelSet| {
            Err::<(), BoxError>(Rejection::new(http::StatusCode::NOT_FOUND, "none").into())
        });
    let connect = Connect::to("/").offer(subprotocols::V5).connect(service);
    let error = within(connect).await.unwrap_err();
    error.downcast::<Refused>().unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_refused_ends_its_recording() {
    for accept in [AcceptMode::Immediate, AcceptMode::Explicit] {
        let (tap, mut records) = Tap::new(Overflow::Backpressure);
        assert_eq!(refused(with(tap), accept).await, 404);
        let all = rest_seen(&mut records).await;
        assert_eq!(all, (vec![], EndCause::Aborted));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tap_without_a_session_has_no_record() {
    let (tap, mut records) = Tap::new(Overflow::Backpressure);
    let mut waiting = tokio_test::task::spawn(records.next());
    assert_pending!(waiting.poll());
    drop(tap);
    assert!(waiting.is_woken());
    assert!(within(waiting).await.is_none());
    assert!(within(records.next()).await.is_none());
}

// The layer.

#[tokio::test(start_paused = true)]
async fn who_is_recorded_is_decided_on_the_request() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let asked = Arc::clone(&taken);
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(TapLayer::new(move |channels: &ChannelSet| {
            assert_eq!(channels.subprotocol(), subprotocols::V5);
            let path = channels.request()?.uri.path().to_owned();
            let (tap, records) = Tap::new(Overflow::Backpressure);
            asked.lock().unwrap().push((path.clone(), records));
            (path == "/yes").then_some(tap)
        }))
        .service_fn(async |mut channels: ChannelSet| {
            channels.take_writer(1).unwrap().write_all(b"x").await?;
            Ok::<_, BoxError>(())
        });
    for path in ["/no", "/yes"] {
        let connect = Connect::to(path).offer(subprotocols::V5);
        let client = within(connect.connect(service.clone())).await.unwrap();
        assert_eq!(read_to_end(client).await.channel(1), b"x");
    }
    let mut taken = std::mem::take(&mut *taken.lock().unwrap());
    let (path, mut yes) = taken.pop().unwrap();
    assert_eq!(path, "/yes");
    assert_eq!(rest_seen(&mut yes).await.0, [is(Outbound, 1, b"x")]);
    let (_, mut no) = taken.pop().unwrap();
    assert!(taken.is_empty(), "asked once a session");
    assert!(within(no.next()).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_function_that_panics_is_answered() {
    let layer = TapLayer::new(|_: &ChannelSet| -> Option<Tap> { panic!("as it should") });
    assert_eq!(refused(layer, AcceptMode::Immediate).await, 500);
}

#[tokio::test(start_paused = true)]
async fn readiness_is_that_of_the_inner_service() {
    let (mock, mut handle) = tower_test::mock::pair::<ChannelSet, ()>();
    let service = TapLayer::new(|_: &ChannelSet| None).layer(mock);
    let mut service = tokio_test::task::spawn(service);
    handle.allow(0);
    let mut ready =
        || service.enter(|cx, mut service| tower::Service::poll_ready(&mut *service, cx));
    assert_pending!(ready());
    handle.allow(1);
    assert_ready_ok!(ready());
}

#[tokio::test]
async fn debug_shows_no_payload() {
    let (tap, records) = Tap::new(Overflow::Lossy);
    let all = format!("{tap:?} {records:?}");
    assert!(all.contains("262144") && all.contains("Lossy"), "{all}");
}

// All of it, at random.

/// A reader, in the one form or the other.
enum Input {
    Reader(ChannelReader),
    Stream(ChannelStream),
    Gone,
}

#[derive(Clone, Debug)]
enum Step {
    Read(bool, usize),
    Consume(bool, usize),
    Stream(bool),
    Write(bool, usize),
    Send(bool, usize),
    Flush(bool),
    DropReader(bool),
    Yield,
    Sleep,
}

/// A step, and whether it is given one poll only.
fn step() -> impl Strategy<Value = (Step, bool)> {
    let len = || prop_oneof![4 => 0..200_usize, 2 => 900..3000_usize, 1 => 20_000..70_000_usize];
    let step = prop_oneof![
        6 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Read(at, len)),
        6 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Consume(at, len)),
        1 => any::<bool>().prop_map(Step::Stream),
        8 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Write(at, len)),
        4 => (any::<bool>(), len()).prop_map(|(at, len)| Step::Send(at, len)),
        1 => any::<bool>().prop_map(Step::Flush),
        1 => any::<bool>().prop_map(Step::DropReader),
        2 => Just(Step::Yield),
        2 => Just(Step::Sleep),
    ];
    (step, any::<bool>())
}

/// Waits for it, or polls it once and drops it.
async fn attempt<T>(future: impl Future<Output = T>, once: bool) -> Option<T> {
    match once {
        true => future.now_or_never(),
        false => Some(future.await),
    }
}

/// Does what the steps say, and notes what it has had and said.
async fn run(
    steps: Vec<(Step, bool)>,
    inputs: &mut [Input; 2],
    outputs: &mut [ChannelWriter; 2],
    log: &mut Vec<Seen>,
) -> io::Result<()> {
    let id = |at: bool| if at { 2 } else { 0 };
    for (n, (step, once)) in steps.into_iter().enumerate() {
        match step {
            Step::Read(at, len) => match &mut inputs[usize::from(at)] {
                Input::Reader(reader) => {
                    let mut buf = vec![0; len];
                    if let Some(read) = attempt(reader.read(&mut buf), once).await {
                        log.push((Inbound, id(at), buf[..read?].to_vec()));
                    }
                }
                Input::Stream(stream) => {
                    if let Some(Some(bytes)) = attempt(stream.next(), once).await {
                        log.push((Inbound, id(at), bytes?.to_vec()));
                    }
                }
                Input::Gone => {}
            },
            Step::Consume(at, len) => {
                if let Input::Reader(reader) = &mut inputs[usize::from(at)]
                    && let Some(bytes) = attempt(reader.fill_buf(), once).await
                {
                    let bytes = bytes?;
                    let bytes = bytes[..len.min(bytes.len())].to_vec();
                    // In between anything may happen, a write too.
                    if n % 3 == 0 {
                        tokio::task::yield_now().await;
                    }
                    reader.consume(bytes.len());
                    log.push((Inbound, id(at), bytes));
                }
            }
            Step::Stream(at) => {
                let input = &mut inputs[usize::from(at)];
                *input = match std::mem::replace(input, Input::Gone) {
                    Input::Reader(reader) => Input::Stream(reader.into_stream()),
                    other => other,
                };
            }
            Step::Write(at, len) => {
                let writer = &mut outputs[usize::from(at)];
                let payload: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                if let Some(written) = attempt(writer.write(&payload), once).await {
                    log.push((Outbound, writer.id(), payload[..written?].to_vec()));
                }
            }
            Step::Send(at, len) => {
                let writer = &mut outputs[usize::from(at)];
                let payload: Vec<u8> = (0..len).map(|i| (i * 11 + n) as u8).collect();
                if let Some(sent) = attempt(writer.send(payload.clone()), once).await {
                    sent?;
                    log.push((Outbound, writer.id(), payload));
                }
            }
            Step::Flush(at) => {
                attempt(outputs[usize::from(at)].flush(), once)
                    .await
                    .transpose()?;
            }
            Step::DropReader(at) => inputs[usize::from(at)] = Input::Gone,
            Step::Yield => tokio::task::yield_now().await,
            Step::Sleep => sleep(Duration::from_millis(3)).await,
        }
    }
    Ok(())
}

fn joined<'a>(log: impl IntoIterator<Item = &'a Seen>, of: Direction, channel: u8) -> Vec<u8> {
    let log = log
        .into_iter()
        .filter(|(it, id, _)| (*it, *id) == (of, channel));
    log.flat_map(|(.., bytes)| bytes).copied().collect()
}

/// Takes what was lost out of the log.
fn skip<'a>(log: &mut impl Iterator<Item = &'a Seen>, lost: Lost) {
    let skipped = (0..lost.payloads).map(|_| log.next().expect("something was lost").2.len());
    assert_eq!(skipped.sum::<usize>() as u64, lost.bytes);
}

/// The records are what the service has had and said, in that order; where some
/// are missing the count says which.
async fn random_session(
    steps: Vec<(Step, bool)>,
    subprotocol: &str,
    (overflow, capacity): (Overflow, usize),
    sent: Vec<(bool, usize)>,
    pauses: Vec<bool>,
) {
    let (tap, mut records) = Tap::with_capacity(overflow, capacity);
    let recording = tokio::spawn(async move {
        let mut all = Vec::new();
        let mut pauses = pauses.into_iter().cycle();
        while let Some(record) = records.next().await {
            all.push(record);
            if pauses.next() == Some(true) {
                sleep(Duration::from_millis(2)).await;
            }
        }
        all
    });
    let (logs, logged) = oneshot::channel();
    let mut client = tapped_on(subprotocol, tap, move |mut channels| async move {
        let mut inputs = [0, 2].map(|id| Input::Reader(channels.take_reader(id).unwrap()));
        let mut outputs = [1, 2].map(|id| channels.take_writer(id).unwrap());
        drop(channels);
        let mut log = Vec::new();
        let result = run(steps, &mut inputs, &mut outputs, &mut log).await;
        let _ = logs.send(log);
        Ok(result?)
    })
    .await;
    let mut inputs = [Vec::new(), Vec::new()];
    for (n, (at, len)) in sent.into_iter().enumerate() {
        let payload: Vec<u8> = (0..len).map(|i| (i * 13 + n) as u8).collect();
        let channel = if at { 2 } else { 0 };
        within(client.send(channel, &payload)).await.unwrap();
        inputs[usize::from(at)].extend(payload);
    }
    match subprotocol {
        subprotocols::V5 => {
            client.close_channel(0).await.unwrap();
            client.close_channel(2).await.unwrap();
        }
        _ => client.close(None).await.unwrap(),
    }
    let told = read_to_end(client).await;
    let log: Vec<Seen> = within(logged).await.unwrap();
    let log: Vec<Seen> = log.into_iter().filter(|it| !it.2.is_empty()).collect();
    for channel in [1, 2] {
        assert!(told.channel(channel) == joined(&log, Outbound, channel));
    }
    for (channel, sent) in [0, 2].into_iter().zip(&inputs) {
        assert!(sent.starts_with(&joined(&log, Inbound, channel)));
    }

    let records = within(recording).await.unwrap();
    let mut left = log.iter();
    let mut ended = false;
    let mut time = None;
    for record in &records {
        assert!(!ended, "behind the end");
        let lost = match record {
            Record::Payload(payload) => {
                skip(&mut left, payload.lost);
                assert!(left.next() == Some(&seen(payload)), "another record");
                assert!(time <= Some(payload.time));
                time = Some(payload.time);
                payload.lost
            }
            Record::End(end) => {
                skip(&mut left, end.lost);
                ended = true;
                end.lost
            }
            other => panic!("{other:?}"),
        };
        assert!(overflow == Overflow::Lossy || lost == Lost::default());
    }
    assert!(ended && left.next().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn records_are_what_went_through(
        steps in vec(step(), 0..60),
        base64: bool,
        lossy: bool,
        capacity in prop_oneof![0..2_usize, 200..2000_usize, 10_000..300_000_usize],
        sent in vec((any::<bool>(), prop_oneof![1..200_usize, 1000..20_000_usize]), 0..10),
        pauses in vec(any::<bool>(), 0..10),
    ) {
        let subprotocol = if base64 { subprotocols::V4_BASE64 } else { subprotocols::V5 };
        let overflow = if lossy { Overflow::Lossy } else { Overflow::Backpressure };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(random_session(steps, subprotocol, (overflow, capacity), sent, pauses));
    }
}
