//! How each end of a session looks to its reader, its writer and its client.

#[path = "support/raw.rs"]
mod raw;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use raw::{
    ALL, BINARY, CLOSE, End, PING, PONG, Raw, Told, Watchdog, base64, frame, layer, on, once,
    once_in, open, open_tcp, open_watched, open_with, read_out, session, within,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower_wsstream::{
    BoxError, ChannelSet, EndCause, Hold, LastWords, Limits, Outcome, Session, subprotocols,
};

const LONG: Duration = Duration::from_secs(3600);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Timers of tokio are a millisecond late.
#[track_caller]
fn assert_after(start: Instant, expected: Duration) {
    let elapsed = start.elapsed();
    assert!(
        elapsed >= expected && elapsed <= expected + millis(5),
        "after {elapsed:?} instead of {expected:?}"
    );
}

/// Tells when it is dropped.
struct Dropped(Option<oneshot::Sender<Instant>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.take().unwrap().send(Instant::now());
    }
}

fn drop_note() -> (Dropped, oneshot::Receiver<Instant>) {
    let (sender, receiver) = oneshot::channel();
    (Dropped(Some(sender)), receiver)
}

/// What the client does to the session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Close(Option<u16>),
    /// The connection ends without a Close.
    Drop,
    ReservedBit,
    Unmasked,
    TooLarge,
    NotUtf8,
    NotBase64,
    ShortClose,
    BadCloseCode,
    MalformedChannelClose,
}

const LARGEST: u64 = 100_000;

async fn act(act: Act, mut client: Raw<DuplexStream>) -> Option<Raw<DuplexStream>> {
    let bytes = match act {
        Act::Close(code) => {
            client.close(code).await.unwrap();
            return Some(client);
        }
        Act::Drop => return None,
        Act::ReservedBit => vec![0xc2, 0x80, 0, 0, 0, 0],
        Act::Unmasked => vec![0x82, 0x02, 0, b'x'],
        Act::TooLarge => {
            let mut head = vec![0x82, 0xff];
            head.extend_from_slice(&(LARGEST + 1).to_be_bytes());
            head.extend_from_slice(&[0; 4]);
            head
        }
        Act::NotUtf8 => frame(true, raw::TEXT, &on(0, b"\xff")),
        Act::NotBase64 => frame(true, raw::TEXT, b"0!!!!"),
        Act::ShortClose => frame(true, CLOSE, &[3]),
        Act::BadCloseCode => frame(true, CLOSE, &1005_u16.to_be_bytes()),
        Act::MalformedChannelClose => frame(true, BINARY, &[255, 0, 0]),
    };
    client.bytes(&bytes).await.unwrap();
    Some(client)
}

/// What the service saw: its input and how that ended, why the session ended,
/// and what became of a write behind the end.
struct Saw {
    input: (Vec<u8>, End),
    cause: EndCause,
    write: io::Result<()>,
}

/// Reads to the end, waits for the end of the session, and writes.
async fn look(mut set: ChannelSet, saw: oneshot::Sender<Saw>) -> Result<(), BoxError> {
    let mut stdin = set.take_reader(0).unwrap();
    let mut stdout = set.take_writer(1).unwrap();
    let ended = set.session().ended();
    drop(set);
    let input = read_out(&mut stdin).await;
    let cause = ended.await;
    let write = match stdout.write_all(b"late").await {
        Ok(()) => stdout.flush().await,
        Err(error) => Err(error),
    };
    let _ = saw.send(Saw {
        input,
        cause,
        write,
    });
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn how_each_end_of_the_peer_looks_from_both_sides() {
    use Act::*;
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, InvalidData};
    let _watchdog = Watchdog::bites_after(secs(50));
    // What happens, what a reader gets without half-close and with it, what
    // the cause says, and the code of our Close.
    type Row = (
        Act,
        Option<io::ErrorKind>,
        io::ErrorKind,
        &'static str,
        Option<Option<u16>>,
    );
    let rows: [Row; 13] = [
        (
            Close(Some(1000)),
            None,
            ConnectionAborted,
            "the peer closed with code 1000",
            Some(Some(1000)),
        ),
        (
            Close(None),
            None,
            ConnectionAborted,
            "the peer closed without a code",
            Some(None),
        ),
        (
            Close(Some(1001)),
            Some(ConnectionAborted),
            ConnectionAborted,
            "the peer closed with code 1001",
            Some(Some(1001)),
        ),
        (
            Close(Some(1011)),
            Some(ConnectionAborted),
            ConnectionAborted,
            "the peer closed with code 1011",
            Some(Some(1011)),
        ),
        (
            Close(Some(4999)),
            Some(ConnectionAborted),
            ConnectionAborted,
            "the peer closed with code 4999",
            Some(Some(4999)),
        ),
        (
            Drop,
            Some(ConnectionReset),
            ConnectionReset,
            "the connection is lost",
            None,
        ),
        (
            ReservedBit,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
        (
            Unmasked,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
        (
            TooLarge,
            Some(InvalidData),
            InvalidData,
            "the peer sent more than the limits allow",
            Some(Some(1009)),
        ),
        (
            NotUtf8,
            Some(InvalidData),
            InvalidData,
            "the peer sent invalid text",
            Some(Some(1007)),
        ),
        (
            NotBase64,
            Some(InvalidData),
            InvalidData,
            "the peer sent invalid text",
            Some(Some(1007)),
        ),
        (
            ShortClose,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
        (
            BadCloseCode,
            Some(InvalidData),
            InvalidData,
            "the peer broke the protocol",
            Some(Some(1002)),
        ),
    ];
    for subprotocol in ALL {
        let half_close = subprotocol == subprotocols::V5;
        for (what, whole, half, words, code) in rows {
            if what == NotBase64 && !subprotocol.contains("base64") {
                continue;
            }
            let context = format!("{what:?} on {subprotocol:?}");
            let (saw, seen) = oneshot::channel();
            let layer = layer().limits(Limits::default().max_frame(LARGEST));
            let service = once_in(layer, |set| look(set, saw));
            let mut client = open(service, subprotocol).await;
            client.send(0, b"before").await.unwrap();
            let client = act(what, client).await;
            let told = match client {
                Some(mut client) => Some(within(LONG, client.read_to_end()).await),
                None => None,
            };
            let seen = within(LONG, seen).await.expect(&context);

            let kind = if half_close { Some(half) } else { whole };
            let end = match kind {
                None => End::Eof,
                Some(kind) => End::Error(kind, seen.cause.clone()),
            };
            assert_eq!(seen.input, (b"before".to_vec(), end), "{context}");
            let said = seen.cause.to_string();
            assert!(said.starts_with(words), "{context}: {said}");
            // After a Close of the peer there is a grace; after a fault, none.
            if matches!(what, Close(_)) {
                seen.write.expect(&context);
            } else {
                let error = seen.write.expect_err(&context);
                let expected = End::Error(io::ErrorKind::BrokenPipe, seen.cause);
                assert_eq!(End::of(&error), expected, "{context}");
            }
            let Some(told) = told else { continue };
            assert_eq!(told.close, code, "{context}");
            let late = if matches!(what, Close(_)) { "late" } else { "" };
            assert_eq!(told.text(1), late, "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_close_of_a_channel_is_a_protocol_error_where_the_subprotocol_has_it() {
    for (subprotocol, code) in [
        (subprotocols::V5, Some(Some(1002))),
        (subprotocols::V4, None),
    ] {
        let (saw, seen) = oneshot::channel();
        let mut client = open(once(|set| look(set, saw)), subprotocol).await;
        client.send(0, b"before").await.unwrap();
        let mut client = act(Act::MalformedChannelClose, client).await.unwrap();
        if code.is_some() {
            assert_eq!(within(LONG, client.read_to_end()).await.close, code);
            let (input, end) = within(LONG, seen).await.unwrap().input;
            assert_eq!(input, b"before");
            assert!(
                matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
                "{end:?}"
            );
        } else {
            client.close(None).await.unwrap();
            assert_eq!(
                within(LONG, seen).await.unwrap().input,
                (b"before".to_vec(), End::Eof)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_bytes_come_before_the_loss_of_the_connection() {
    for subprotocol in ALL {
        for fin_only in [false, true] {
            let (saw, seen) = oneshot::channel();
            let mut client = open(once(|set| look(set, saw)), subprotocol).await;
            let sent: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
            for piece in sent.chunks(10_000) {
                client.send(0, piece).await.unwrap();
            }
            if fin_only {
                client.io.shutdown().await.unwrap();
            }
            let client = fin_only.then_some(client);
            let seen = within(LONG, seen).await.unwrap();
            assert!(
                seen.input.0 == sent,
                "{} of {}",
                seen.input.0.len(),
                sent.len()
            );
            let cause = seen.cause;
            assert_eq!(
                seen.input.1,
                End::Error(io::ErrorKind::ConnectionReset, cause)
            );
            drop(client);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn all_bytes_come_before_the_loss_also_where_a_write_finds_it_first() {
    let (done, result) = oneshot::channel();
    let service = once(|mut set: ChannelSet| async move {
        let (mut stdin, mut stdout) = (set.take_reader(0).unwrap(), set.take_writer(1).unwrap());
        drop(set);
        let mut total = 0;
        let mut buf = [0; 1000];
        let end = loop {
            match stdin.read(&mut buf).await {
                Ok(0) => break End::Eof,
                Ok(n) => {
                    total += n;
                    // Whether it still can be written is not the question.
                    let _ = stdout.write_all(&buf[..n]).await;
                }
                Err(error) => break End::of(&error),
            }
        };
        let _ = done.send((total, end));
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let mut bytes = Vec::new();
    for _ in 0..100 {
        bytes.extend(frame(true, BINARY, &on(0, &[7; 1000])));
    }
    client.bytes(&bytes).await.unwrap();
    drop(client);
    let (total, end) = within(LONG, result).await.unwrap();
    assert!(
        matches!(end, End::Error(io::ErrorKind::ConnectionReset, _)),
        "{end:?}"
    );
    assert_eq!(total, 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_loss_in_the_middle_of_a_message_leaves_what_came_of_it() {
    let (saw, seen) = oneshot::channel();
    let mut client = open(once(|set| look(set, saw)), subprotocols::V4).await;
    let whole = frame(true, BINARY, &on(0, &[7; 1000]));
    client.bytes(&whole[..500]).await.unwrap();
    drop(client);
    let (input, end) = within(LONG, seen).await.unwrap().input;
    let head = 4 + 4 + 1;
    assert_eq!(input, [7; 500][..500 - head]);
    assert!(
        matches!(end, End::Error(io::ErrorKind::ConnectionReset, _)),
        "{end:?}"
    );
}

/// How the service ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Ok,
    Err,
    Panic,
    /// It ignores the end of its session.
    Never,
}

async fn finish(how: How) -> Result<(), BoxError> {
    match how {
        How::Ok => Ok(()),
        How::Err => Err("failed on purpose".into()),
        How::Panic => panic!("panicked on purpose"),
        How::Never => std::future::pending().await,
    }
}

/// 1000 says that the outcome was told; a service that fails without a way to
/// tell has not told it.
fn own_code(how: How) -> u16 {
    match how {
        How::Ok => 1000,
        How::Err | How::Panic => 1011,
        How::Never => unreachable!("it has no end of its own"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_in_the_first_poll_is_an_answer_unless_something_was_written() {
    for (how, writes, status) in [
        (How::Ok, false, "101"),
        (How::Err, false, "500"),
        (How::Panic, false, "500"),
        (How::Ok, true, "101"),
        (How::Err, true, "101"),
        (How::Panic, true, "101"),
    ] {
        let service = once(move |mut set: ChannelSet| async move {
            if writes {
                set.take_writer(1).unwrap().write_all(b"out").await?;
            }
            finish(how).await
        });
        let (near, far) = tokio::io::duplex(4096);
        raw::serve(far, service);
        match Raw::handshake(near, subprotocols::V4).await {
            Ok(mut client) => {
                assert_eq!(status, "101", "{how:?}");
                let told = within(LONG, client.read_to_end()).await;
                assert_eq!(told.text(1), if writes { "out" } else { "" });
                assert_eq!(told.close, Some(Some(own_code(how))), "{how:?}");
            }
            Err(head) => {
                assert!(
                    head.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{how:?}: {head}"
                );
                assert!(!head.contains("on purpose"), "a fixed text");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_ends_an_open_session() {
    for subprotocol in ALL {
        for how in [How::Ok, How::Err, How::Panic] {
            let service = once(move |mut set: ChannelSet| async move {
                let mut stdout = set.take_writer(1).unwrap();
                sleep(millis(10)).await;
                stdout.write_all(b"out").await?;
                finish(how).await
            });
            let told = within(LONG, open(service, subprotocol).await.read_to_end()).await;
            assert_eq!(told.text(1), "out");
            assert_eq!(told.close, Some(Some(own_code(how))), "{how:?}");
        }
    }
}

/// After a Close the service may go on for the grace: 30 s where a Close is how
/// a client ends its input, else 1 s.
#[tokio::test(start_paused = true)]
async fn a_service_ends_or_is_dropped_after_the_close_of_the_peer() {
    for (subprotocol, code, grace) in [
        (subprotocols::V4, Some(1000), secs(30)),
        (subprotocols::V4, None, secs(30)),
        (subprotocols::V4, Some(1001), secs(1)),
        (subprotocols::V5, Some(1000), secs(1)),
        (subprotocols::V5, None, secs(1)),
    ] {
        for how in [How::Ok, How::Err, How::Panic, How::Never] {
            let (note, dropped) = drop_note();
            let service = once(move |set: ChannelSet| async move {
                let _note = note;
                let ended = set.session().ended();
                drop(set);
                ended.await;
                sleep(millis(700)).await;
                finish(how).await
            });
            let mut client = open(service, subprotocol).await;
            let start = Instant::now();
            client.close(code).await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            // A peer's Close is answered with its own code, whatever happened.
            assert_eq!(told.close, Some(code), "{how:?} on {subprotocol}");
            let expected = if how == How::Never {
                grace
            } else {
                millis(700)
            };
            assert_after(start, expected);
            let dropped = within(LONG, dropped).await.unwrap();
            assert!(
                dropped - start <= expected + millis(5),
                "{how:?} on {subprotocol}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_the_loss_is_dropped_after_the_grace() {
    let (note, dropped) = drop_note();
    let service = once(move |set: ChannelSet| async move {
        let _held = (set, note);
        std::future::pending::<()>().await;
        Ok(())
    });
    let client = open(service, subprotocols::V5).await;
    sleep(secs(10)).await;
    drop(client);
    let start = Instant::now();
    within(LONG, dropped).await.unwrap();
    assert_after(start, secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_a_protocol_error_is_dropped_after_the_grace() {
    let (note, dropped) = drop_note();
    let service = once(move |set: ChannelSet| async move {
        let _held = (set, note);
        std::future::pending::<()>().await;
        Ok(())
    });
    let client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let mut client = act(Act::ReservedBit, client).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1002)));
    assert_after(start, Duration::ZERO);
    within(LONG, dropped).await.unwrap();
    assert_after(start, secs(1));
}

#[tokio::test(start_paused = true)]
async fn after_a_clean_close_on_v4_output_flows_for_thirty_seconds() {
    let (errors, mut error) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        let (_, end) = read_out(&mut stdin).await;
        assert_eq!(end, End::Eof);
        tokio::spawn(async move {
            loop {
                if let Err(failed) = stdout.write_all(b".").await {
                    errors.send(failed).unwrap();
                    return;
                }
                sleep(secs(1)).await;
            }
        });
        std::future::pending::<()>().await;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    let start = Instant::now();
    client.close(Some(1000)).await.unwrap();
    for second in 0..30 {
        let frame = within(LONG, client.next()).await.unwrap();
        assert_eq!(&frame.payload[..], [1, b'.']);
        assert_after(start, secs(second));
    }
    let told = within(LONG, client.read_to_end()).await;
    assert!(told.text(1).len() <= 1);
    assert_eq!(told.close, Some(Some(1000)));
    assert_after(start, secs(30));
    let error = within(LONG, error.recv()).await.unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn silence_does_not_shorten_the_thirty_seconds_after_a_clean_close() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        let (input, end) = read_out(&mut stdin).await;
        assert_eq!(end, End::Eof);
        sleep(secs(25)).await;
        stdout.write_all(&input).await?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    client.send(0, b"work").await.unwrap();
    client.close(None).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.text(1), "work");
    assert_eq!(told.close, Some(None));
}

#[tokio::test(start_paused = true)]
async fn the_fin_of_the_peer_ends_the_thirty_seconds_after_the_grace() {
    let (note, dropped) = drop_note();
    let service = once(move |mut set: ChannelSet| async move {
        let _note = note;
        let mut stdout = set.take_writer(1).unwrap();
        set.session().ended().await;
        sleep(millis(5500)).await;
        // The FIN came half a second ago, and nobody knows whether it reads.
        stdout.write_all(b"late").await?;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V4).await;
    client.close(Some(1000)).await.unwrap();
    let start = Instant::now();
    sleep(secs(5)).await;
    client.io.shutdown().await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, secs(6));
    assert_eq!(told.text(1), "late");
    assert_eq!(told.close, Some(Some(1000)));
    within(LONG, dropped).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn session_close_sends_what_was_accepted_then_its_own_code() {
    for (code, reason) in [(1001, "going"), (1011, ""), (3000, "three"), (4999, "x")] {
        let service = once(move |mut set: ChannelSet| async move {
            let mut stdin = set.take_reader(0).unwrap();
            let mut stdout = set.take_writer(1).unwrap();
            let session = set.session().clone();
            stdout.write_all(&[b'o'; 20_000]).await?;
            stdout.send(vec![b'o'; 80_000]).await?;
            session
                .close(code, reason)
                .expect("a code that may be sent");
            let error = stdout.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            let error = stdout.send("more").await.unwrap_err();
            assert!(
                matches!(End::of(&error), End::Error(_, EndCause::Closed { code: c, .. }) if c == code)
            );
            let (_, end) = read_out(&mut stdin).await;
            assert!(matches!(
                end,
                End::Error(io::ErrorKind::ConnectionAborted, EndCause::Closed { code: c, .. }) if c == code
            ));
            assert!(matches!(session.ended().await, EndCause::Closed { .. }));
            // The first one counts.
            session.close(4000, "again").unwrap();
            stdout.flush().await?;
            Ok(())
        });
        let mut client = open_with(service, subprotocols::V5, 1000).await;
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(told.channel(1).len(), 100_000);
        assert_eq!(told.close, Some(Some(code)));
        assert_eq!(told.reason, reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_reason_that_is_too_long_is_cut_between_characters() {
    let reason = "ä".repeat(100);
    let expected = "ä".repeat(61);
    let service = once(move |set: ChannelSet| async move {
        set.session().close(4000, &reason)?;
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
    assert_eq!((told.close, told.reason), (Some(Some(4000)), expected));
}

#[tokio::test(start_paused = true)]
async fn codes_that_must_not_be_sent_are_refused_and_change_nothing() {
    let service = once(|mut set: ChannelSet| async move {
        for code in [
            0,
            999,
            1000,
            1004,
            1005,
            1006,
            1015,
            1016,
            2999,
            5000,
            u16::MAX,
        ] {
            let refused = set.session().close(code, "").unwrap_err();
            assert!(refused.to_string().contains(&code.to_string()));
        }
        set.take_writer(1).unwrap().write_all(b"out").await?;
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("out", Some(Some(1000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ignores_session_close_is_dropped_after_the_grace() {
    let (note, dropped) = drop_note();
    let service = once(move |set: ChannelSet| async move {
        let _held = note;
        sleep(millis(100)).await;
        set.session().close(1001, "")?;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V5).await;
    sleep(millis(100)).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1001)));
    within(LONG, dropped).await.unwrap();
    assert_after(start, secs(1));
}

/// What is registered as last words.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Words {
    Unregistered,
    None,
    Silence,
    Some,
    Panic,
}

fn register(session: &Session, words: Words, outcomes: Arc<Mutex<Vec<String>>>) {
    if words == Words::Unregistered {
        return;
    }
    session.last_words(move |outcome| {
        outcomes.lock().unwrap().push(match outcome {
            Outcome::Failed(error) => format!("Failed({error})"),
            Outcome::Ended(cause) => format!("Ended({cause})"),
            other => format!("{other:?}"),
        });
        match words {
            Words::Unregistered | Words::None => None,
            Words::Silence => Some(LastWords::silence()),
            Words::Some => Some(LastWords::new(3, "told")),
            Words::Panic => panic!("panicked on purpose"),
        }
    });
}

#[tokio::test(start_paused = true)]
async fn close_says_1000_if_and_only_if_the_outcome_was_told() {
    for words in [
        Words::Unregistered,
        Words::None,
        Words::Silence,
        Words::Some,
        Words::Panic,
    ] {
        for how in [How::Ok, How::Err, How::Panic] {
            let context = format!("{words:?}, {how:?}");
            let outcomes = Arc::default();
            let noted = Arc::clone(&outcomes);
            let service = once(move |mut set: ChannelSet| async move {
                register(set.session(), words, noted);
                let mut stdout = set.take_writer(1).unwrap();
                stdout.write_all(b"out").await?;
                sleep(millis(10)).await;
                finish(how).await
            });
            let told = within(LONG, open(service, subprotocols::V4).await.read_to_end()).await;
            let mut messages = vec![(1, b"out".to_vec())];
            if words == Words::Some {
                messages.push((3, b"told".to_vec()));
            }
            assert_eq!(told.messages, messages, "{context}");
            let code = match words {
                Words::Unregistered => own_code(how),
                Words::Silence | Words::Some => 1000,
                Words::None | Words::Panic => 1011,
            };
            assert_eq!(told.close, Some(Some(code)), "{context}");
            let expected: &[&str] = match (words, how) {
                (Words::Unregistered, _) => &[],
                (_, How::Ok) => &["Returned"],
                (_, How::Err) => &["Failed(failed on purpose)"],
                (_, _) => &["Panicked"],
            };
            assert_eq!(*outcomes.lock().unwrap(), expected, "{context}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_come_behind_all_output_whatever_the_budgets_say() {
    for subprotocol in ALL {
        let words = vec![b'w'; 100_000];
        let expected = words.clone();
        let layer = layer().limits(Limits::default().send_budget(1).high_water(1));
        let service = once_in(layer, move |mut set: ChannelSet| async move {
            set.session()
                .last_words(move |_| Some(LastWords::new(3, words)));
            let mut stdout = set.take_writer(1).unwrap();
            let mut stderr = set.take_writer(2).unwrap();
            drop(set);
            stdout.send(vec![b'o'; 50_000]).await?;
            stderr.send(vec![b'e'; 50_000]).await?;
            Ok(())
        });
        let mut client = open_with(service, subprotocol, 777).await;
        let told = within(LONG, client.read_to_end()).await;
        let channels: Vec<u8> = told.messages.iter().map(|(channel, _)| *channel).collect();
        assert_eq!(channels, [1, 2, 3], "one message each, in order");
        assert_eq!(told.messages[2].1, expected);
        assert_eq!(told.close, Some(Some(1000)));
    }
}

#[tokio::test(start_paused = true)]
async fn last_words_for_a_service_that_was_dropped() {
    for (subprotocol, after) in [(subprotocols::V4, secs(30)), (subprotocols::V5, secs(1))] {
        let outcomes = Arc::default();
        let noted = Arc::clone(&outcomes);
        let service = once(move |set: ChannelSet| async move {
            register(set.session(), Words::Some, noted);
            let _held = set;
            std::future::pending().await
        });
        let mut client = open(service, subprotocol).await;
        let start = Instant::now();
        client.close(Some(1000)).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, after);
        assert_eq!(
            (told.text(3).as_str(), told.close),
            ("told", Some(Some(1000)))
        );
        assert_eq!(
            *outcomes.lock().unwrap(),
            ["Ended(the peer closed with code 1000)"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_last_words_after_a_fault_of_the_peer_or_a_loss() {
    for what in [Act::ReservedBit, Act::TooLarge, Act::NotUtf8, Act::Drop] {
        let outcomes = Arc::default();
        let noted = Arc::clone(&outcomes);
        let (note, dropped) = drop_note();
        let layer = layer().limits(Limits::default().max_frame(LARGEST));
        let service = once_in(layer, move |mut set: ChannelSet| async move {
            let _note = note;
            register(set.session(), Words::Some, noted);
            let mut stdout = set.take_writer(1).unwrap();
            set.session().ended().await;
            let _ = stdout.write_all(b"late").await;
            Ok(())
        });
        let client = open(service, subprotocols::V5).await;
        if let Some(mut client) = act(what, client).await {
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.messages, []);
            assert!(told.close.is_some());
        }
        within(LONG, dropped).await.unwrap();
        sleep(secs(5)).await;
        assert!(outcomes.lock().unwrap().is_empty(), "{what:?}");
    }
}

/// Its closure may hold the session, which holds it.
#[tokio::test(start_paused = true)]
async fn last_words_that_were_never_said_are_dropped_with_the_session() {
    for what in [Act::Drop, Act::ReservedBit, Act::Close(Some(1000))] {
        for late in [false, true] {
            let alive = Arc::new(());
            let held = Arc::clone(&alive);
            let (note, dropped) = drop_note();
            let service = once(move |set: ChannelSet| async move {
                let _note = note;
                let session = set.session().clone();
                let register = || {
                    let own = session.clone();
                    session.last_words(move |_| {
                        let _ = (&held, own.id());
                        None
                    });
                };
                if late {
                    session.ended().await;
                    register();
                } else {
                    register();
                    session.ended().await;
                }
                if what == Act::Close(Some(1000)) {
                    session.close(4000, "")?;
                    sleep(millis(10)).await;
                }
                Ok(())
            });
            let client = open(service, subprotocols::V5).await;
            let client = act(what, client).await;
            within(LONG, dropped).await.unwrap();
            sleep(secs(10)).await;
            drop(client);
            sleep(secs(100)).await;
            assert_eq!(
                Arc::strong_count(&alive),
                1,
                "{what:?}, registered late: {late}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_second_last_words_replace_the_first() {
    let service = once(|set: ChannelSet| async move {
        set.session()
            .last_words(|_| Some(LastWords::new(3, "first")));
        set.session()
            .last_words(|_| Some(LastWords::new(3, "second")));
        Ok(())
    });
    let told = within(LONG, open(service, subprotocols::V5).await.read_to_end()).await;
    assert_eq!(told.messages, [(3, b"second".to_vec())]);
}

/// A writer that a task took with it, and how long it goes on writing.
fn writing_task(how: How, writes: u64) -> impl FnOnce(ChannelSet) -> Finish + Send + 'static {
    move |mut set: ChannelSet| {
        let mut stdout = set.take_writer(1).unwrap();
        set.session()
            .last_words(|_| Some(LastWords::new(3, "status")));
        drop(set);
        tokio::spawn(async move {
            for _ in 0..writes {
                sleep(millis(300)).await;
                if stdout.write_all(b".").await.is_err() {
                    return;
                }
            }
        });
        Box::pin(async move {
            sleep(millis(1)).await;
            finish(how).await
        })
    }
}

type Finish = std::pin::Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

#[tokio::test(start_paused = true)]
async fn writers_of_other_tasks_keep_a_session_open_after_ok() {
    let mut client = open(once(writing_task(How::Ok, 100)), subprotocols::V5).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, secs(30));
    assert_eq!(told.channel(1).len(), 100);
    assert_eq!(told.messages.last(), Some(&(3, b"status".to_vec())));
    assert_eq!(told.close, Some(Some(1000)));
}

#[tokio::test(start_paused = true)]
async fn writers_of_other_tasks_have_the_grace_after_an_error() {
    for how in [How::Err, How::Panic] {
        let mut client = open(once(writing_task(how, 100)), subprotocols::V5).await;
        let start = Instant::now();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, millis(1001));
        assert_eq!(told.channel(1).len(), 3);
        assert_eq!(told.messages.last(), Some(&(3, b"status".to_vec())));
        assert_eq!(told.close, Some(Some(1000)));
        // With all of them gone there is nothing to wait for.
        let mut client = open(once(writing_task(how, 2)), subprotocols::V5).await;
        let start = Instant::now();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, millis(600));
        assert_eq!(told.channel(1).len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn writers_of_other_tasks_have_the_grace_after_an_error_behind_a_clean_close() {
    let service = once(|mut set: ChannelSet| async move {
        let stdout = set.take_writer(1).unwrap();
        let ended = set.session().ended();
        drop(set);
        tokio::spawn(async move {
            let _held = stdout;
            sleep(LONG).await;
        });
        ended.await;
        Err("failed on purpose".into())
    });
    let mut client = open(service, subprotocols::V4).await;
    let start = Instant::now();
    client.close(Some(1000)).await.unwrap();
    within(LONG, client.read_to_end()).await;
    assert_after(start, secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_shut_down_writer_keeps_nothing_open() {
    let service = once(|mut set: ChannelSet| async move {
        let mut stdout = set.take_writer(1).unwrap();
        drop(set);
        tokio::spawn(async move {
            stdout.write_all(b"all").await.unwrap();
            stdout.shutdown().await.unwrap();
            let error = stdout.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            sleep(LONG).await;
        });
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let start = Instant::now();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, Duration::ZERO);
    assert_eq!(
        (told.text(1).as_str(), told.close),
        ("all", Some(Some(1000)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_live_reader_or_session_keeps_nothing_open() {
    let (ends, end) = oneshot::channel();
    let service = once(|mut set: ChannelSet| async move {
        let mut stdin = set.take_reader(0).unwrap();
        let session = set.session().clone();
        tokio::spawn(async move {
            let (_, end) = read_out(&mut stdin).await;
            ends.send((end, session.ended().await)).unwrap();
        });
        Ok(())
    });
    let mut client = open(service, subprotocols::V4).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1000)));
    let (end, cause) = within(LONG, end).await.unwrap();
    let aborted = io::ErrorKind::ConnectionAborted;
    assert_eq!(end, End::Error(aborted, EndCause::Completed));
    assert_eq!(cause, EndCause::Completed);
}

#[tokio::test(start_paused = true)]
async fn dropping_every_handle_keeps_what_was_accepted_in_order() {
    for subprotocol in ALL {
        for capacity in [1, 100, 4096, 256 * 1024] {
            let service = once(|mut set: ChannelSet| async move {
                set.session()
                    .last_words(|_| Some(LastWords::new(3, "status")));
                let mut stdout = set.take_writer(1).unwrap();
                let mut stderr = set.take_writer(2).unwrap();
                drop(set);
                for n in 0..40_u8 {
                    stdout.write_all(&[n; 700]).await?;
                    stderr.send(vec![n; 300]).await?;
                }
                stdout.send(vec![b'x'; 40_000]).await?;
                Ok(())
            });
            let mut client = open_with(service, subprotocol, capacity).await;
            let told = within(LONG, client.read_to_end()).await;
            let mut expected = Vec::new();
            for n in 0..40_u8 {
                expected.push((1, vec![n; 700]));
                expected.push((2, vec![n; 300]));
            }
            expected.push((1, vec![b'x'; 40_000]));
            expected.push((3, b"status".to_vec()));
            assert!(
                told.messages == expected,
                "{subprotocol:?} over {capacity} bytes"
            );
            assert_eq!(told.close, Some(Some(1000)));
        }
    }
}

fn until_read() -> Hold {
    Hold::until_peer_reads(millis(20), millis(250))
}

/// Writes, and returns at once: all of it is held, the last words too.
async fn hold(mut set: ChannelSet) -> Result<(), BoxError> {
    set.session().hold_output(until_read());
    set.session()
        .last_words(|_| Some(LastWords::new(3, "status")));
    let mut stdout = set.take_writer(1).unwrap();
    stdout.write_all(b"out").await?;
    Ok(())
}

fn assert_held_output(told: &Told) {
    assert_eq!(
        told.messages,
        [(1, b"out".to_vec()), (3, b"status".to_vec())]
    );
    assert_eq!(told.close, Some(Some(1000)));
}

async fn expect_ping(client: &mut Raw<DuplexStream>) {
    let first = within(LONG, client.next()).await.unwrap();
    assert_eq!(first.opcode, PING, "{first:?} came before the Ping");
}

#[tokio::test(start_paused = true)]
async fn held_output_leaves_after_the_longest_time() {
    for subprotocol in ALL {
        let mut client = open(session(hold), subprotocol).await;
        let start = Instant::now();
        expect_ping(&mut client).await;
        assert_after(start, Duration::ZERO);
        let first = within(LONG, client.next()).await.unwrap();
        assert_after(start, millis(250));
        assert_eq!(client.split(&first.payload), (1, b"out".to_vec()));
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!(
            (told.text(3).as_str(), told.close),
            ("status", Some(Some(1000)))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn held_output_leaves_when_the_peer_is_seen_to_read() {
    for subprotocol in ALL {
        let mut client = open(session(hold), subprotocol).await;
        expect_ping(&mut client).await;
        sleep(millis(100)).await;
        let start = Instant::now();
        client.bytes(&frame(true, PONG, b"")).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, millis(20));
        assert_held_output(&told);
    }
}

#[tokio::test(start_paused = true)]
async fn held_output_leaves_with_the_first_data_of_the_peer() {
    for (subprotocol, closes) in [
        (subprotocols::V5, false),
        (subprotocols::V5, true),
        (subprotocols::V4_BASE64, false),
    ] {
        let mut client = open(session(hold), subprotocol).await;
        expect_ping(&mut client).await;
        sleep(millis(100)).await;
        let start = Instant::now();
        match closes {
            true => client.close_channel(0).await.unwrap(),
            false => client.send(0, b"x").await.unwrap(),
        }
        let told = within(LONG, client.read_to_end()).await;
        assert_after(start, Duration::ZERO);
        assert_held_output(&told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pong_late_in_the_hold_does_not_prolong_it() {
    let mut client = open(session(hold), subprotocols::V5).await;
    let start = Instant::now();
    expect_ping(&mut client).await;
    sleep(millis(240)).await;
    client.bytes(&frame(true, PONG, b"")).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, millis(250));
    assert_held_output(&told);
}

#[tokio::test(start_paused = true)]
async fn while_output_is_held_writes_fill_their_budget_and_flush_waits() {
    let _watchdog = Watchdog::bites_after(secs(50));
    let (notes, mut note) = mpsc::unbounded_channel();
    let service = once(move |mut set: ChannelSet| async move {
        set.session().hold_output(until_read());
        let mut stdout = set.take_writer(1).unwrap();
        let mut stderr = set.take_writer(2).unwrap();
        drop(set);
        let start = Instant::now();
        stderr.write_all(b"e").await?;
        // Two writes of 32 KiB are the budget of a channel, heads notwithstanding.
        let (mut accepted, buf) = (0, [b'o'; 32 * 1024]);
        while accepted < 64 * 1024 {
            accepted += stdout.write(&buf).await?;
        }
        notes.send(("filled", start.elapsed())).unwrap();
        let more = async {
            stdout.write_all(b"more").await.unwrap();
            notes.send(("more", start.elapsed())).unwrap();
        };
        let flush = async {
            stderr.flush().await.unwrap();
            notes.send(("flushed", start.elapsed())).unwrap();
        };
        tokio::join!(more, flush);
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.channel(1).len(), 64 * 1024 + 4);
    assert_eq!(note.recv().await.unwrap(), ("filled", Duration::ZERO));
    for _ in 0..2 {
        let (what, time) = note.recv().await.unwrap();
        assert!(
            time >= millis(250) && time < millis(260),
            "{what} after {time:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_peer_ends_the_hold() {
    let service = once(|mut set: ChannelSet| async move {
        set.session().hold_output(until_read());
        set.take_writer(1).unwrap().write_all(b"out").await?;
        std::future::pending().await
    });
    let mut client = open(service, subprotocols::V5).await;
    expect_ping(&mut client).await;
    let start = Instant::now();
    let mut client = act(Act::ReservedBit, client).await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_after(start, Duration::ZERO);
    assert_eq!((told.messages.len(), told.close), (0, Some(Some(1002))));
}

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

#[tokio::test(start_paused = true)]
async fn a_close_after_the_close_of_the_peer_is_the_only_one() {
    // Both sides close at once: one frame of ours, and what follows is ignored.
    let service = once(|set: ChannelSet| async move {
        set.session().ended().await;
        set.session().close(4000, "mine")?;
        Ok(())
    });
    let mut client = open(service, subprotocols::V5).await;
    client.close(Some(1000)).await.unwrap();
    client.bytes(&frame(true, CLOSE, &[])).await.unwrap();
    client.bytes(b"anything at all").await.unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert!(told.close.is_some());
}

#[tokio::test(start_paused = true)]
async fn base64_carries_the_ends_of_its_messages() {
    let (saw, seen) = oneshot::channel();
    let mut client = open(once(|set| look(set, saw)), subprotocols::V4_BASE64).await;
    client
        .bytes(&frame(true, BINARY, &base64(0, b"binary")))
        .await
        .unwrap();
    client
        .bytes(&frame(true, raw::TEXT, b"0YWJj\r\nZGVm"))
        .await
        .unwrap();
    // An incomplete quad at the end of a message.
    client
        .bytes(&frame(true, raw::TEXT, b"0YWJjZG"))
        .await
        .unwrap();
    let told = within(LONG, client.read_to_end()).await;
    assert_eq!(told.close, Some(Some(1007)));
    let (input, end) = within(LONG, seen).await.unwrap().input;
    assert_eq!(input, b"binaryabcdefabc");
    assert!(
        matches!(end, End::Error(io::ErrorKind::InvalidData, _)),
        "{end:?}"
    );
}

/// What the layer of exec and attach tells its clients, in the words of each
/// subprotocol.
#[cfg(feature = "remotecommand")]
mod status {
    use tower::{Layer, ServiceBuilder};
    use tower_wsstream::{Status, WsStreamLayer, remotecommand::*};

    use super::*;

    async fn exec<F, Fut>(subprotocol: &str, run: F) -> Raw<DuplexStream>
    where
        F: Fn(RemoteCommand) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<ExitStatus, BoxError>> + Send + 'static,
    {
        let inner = ServiceBuilder::new()
            .layer(RemoteCommandLayer::new())
            .service_fn(run);
        let service = WsStreamLayer::new(Protocols::default()).layer(inner);
        let (near, far) = tokio::io::duplex(256 * 1024);
        raw::serve(far, service);
        let path = "/exec?command=x&stdin=true&stdout=true&stderr=true";
        Raw::handshake_at(near, path, subprotocol).await.unwrap()
    }

    fn is_json(subprotocol: &str) -> bool {
        subprotocol.starts_with("v4.") || subprotocol.starts_with("v5.")
    }

    /// The last message, and whether it is the only one on its channel.
    fn told_status(told: &Told) -> Option<&[u8]> {
        let mut on_error = told.messages.iter().filter(|(channel, _)| *channel == 3);
        let status = on_error.next()?;
        assert_eq!(on_error.next(), None, "one Status");
        assert_eq!(told.messages.last(), Some(status), "the last message");
        Some(&status.1)
    }

    #[tokio::test(start_paused = true)]
    async fn each_outcome_is_told_behind_the_output() {
        const EXIT_3: &str = "command terminated with non-zero exit code: exit status 3";
        let every = [ALL.as_slice(), &[subprotocols::V2, subprotocols::V3]].concat();
        for subprotocol in every {
            for spawned_first_poll in [false, true] {
                let outcomes: [(fn() -> Result<ExitStatus, BoxError>, &str, Option<u8>); 6] = [
                    (|| Ok(ExitStatus::success()), "", Some(0)),
                    (|| Ok(ExitStatus::code(3)), EXIT_3, Some(3)),
                    (|| Ok(ExitStatus::signal(9)), "exit status 137", Some(137)),
                    (
                        || Err("no such container".into()),
                        "no such container",
                        None,
                    ),
                    (|| Err(Status::exit_code(3).into()), EXIT_3, Some(3)),
                    (
                        || panic!("on purpose"),
                        "the command's service failed",
                        None,
                    ),
                ];
                for (outcome, text, code) in outcomes {
                    let mut client = exec(subprotocol, move |mut command| async move {
                        if !spawned_first_poll {
                            sleep(millis(30)).await;
                        }
                        command.stdout.as_mut().unwrap().write_all(b"out").await?;
                        command.stderr.as_mut().unwrap().write_all(b"err").await?;
                        outcome()
                    })
                    .await;
                    let told = within(LONG, client.read_to_end()).await;
                    let context = format!("{text:?} on {subprotocol:?}");
                    assert_eq!(told.close, Some(Some(1000)), "{context}");
                    let output = [
                        (1, b"".to_vec()),
                        (1, b"out".to_vec()),
                        (2, b"err".to_vec()),
                    ];
                    assert_eq!(told.messages[..3], output, "{context}");
                    match told_status(&told) {
                        Some(status) if is_json(subprotocol) => {
                            let status = Status::from_json(status).unwrap();
                            assert_eq!(status.exit_code_value(), code, "{context}");
                            assert_eq!(status.is_success(), text.is_empty(), "{context}");
                            let message = status.message().unwrap_or_default();
                            assert!(message.contains(text), "{context}: {message}");
                        }
                        Some(status) => {
                            let message = str::from_utf8(status).unwrap();
                            assert!(
                                !text.is_empty() && message.contains(text),
                                "{context}: {message}"
                            );
                        }
                        None => assert!(text.is_empty() && !is_json(subprotocol), "{context}"),
                    }
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_that_outlives_its_session_is_told_of() {
        for (subprotocol, grace) in [
            (subprotocols::V5, secs(1)),
            (subprotocols::V4, secs(30)),
            (subprotocols::V4_BASE64, secs(30)),
        ] {
            let mut client = exec(subprotocol, |_command| std::future::pending()).await;
            let start = Instant::now();
            client.close(Some(1000)).await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            assert_after(start, grace);
            let status = Status::from_json(told_status(&told).unwrap()).unwrap();
            assert!(!status.is_success() && status.exit_code_value().is_none());
            assert_eq!(told.close, Some(Some(1000)));
        }
    }

    /// kube-rs ends its input with a Close, and reads on.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_works_on_after_its_input_ended_is_told_of_in_full() {
        for subprotocol in [subprotocols::V4, subprotocols::V4_BASE64] {
            let mut client = exec(subprotocol, |mut command| async move {
                let mut all = Vec::new();
                command.stdin.take().unwrap().read_to_end(&mut all).await?;
                sleep(secs(5)).await;
                command.stdout.take().unwrap().write_all(&all).await?;
                Ok(ExitStatus::success())
            })
            .await;
            client.send(0, b"work").await.unwrap();
            client.close(None).await.unwrap();
            let told = within(LONG, client.read_to_end()).await;
            assert_eq!(told.text(1), "work");
            assert!(
                Status::from_json(told_status(&told).unwrap())
                    .unwrap()
                    .is_success()
            );
        }
    }

    /// A success is not made up for a session that was cut off.
    #[tokio::test(start_paused = true)]
    async fn after_a_fault_of_the_peer_no_status_is_sent() {
        let client = exec(subprotocols::V5, |mut command| async move {
            let mut all = Vec::new();
            let cut = command.stdin.take().unwrap().read_to_end(&mut all).await;
            assert_eq!(cut.unwrap_err().kind(), io::ErrorKind::InvalidData);
            Ok(ExitStatus::success())
        })
        .await;
        let mut client = act(Act::ReservedBit, client).await.unwrap();
        let told = within(LONG, client.read_to_end()).await;
        assert_eq!((told_status(&told), told.close), (None, Some(Some(1002))));
    }
}
