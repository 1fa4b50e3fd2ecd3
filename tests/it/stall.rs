//! A channel that nobody reads: a trickle goes into the stall reserve, so that
//! an unmodified client lives on, and no byte is lost.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf},
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, EndCause, SessionConfig, Sessions, WsStreamLayer,
    policy::Limits, subprotocols,
};

use crate::support::{
    self, BINARY, BITE, End, Frame, LONG, PING, PONG, TEXT, Watchdog, base64, frame, on, once_in,
    open_with, protocols, read_out, within,
};

/// What is lent at once, and how often.
const CHUNK: usize = 16 * 1024;
const BEAT: Duration = Duration::from_millis(500);
/// Small, and never a multiple of anything that matters.
const WINDOW: usize = 4 * CHUNK;
/// What memory between the two ends holds.
const BETWEEN: usize = 1000;

/// Time enough to look after what happens at a beat.
const AFTER: Duration = Duration::from_millis(100);

fn chunks(n: usize) -> WsStreamLayer {
    layer(n * CHUNK)
}

fn layer(reserve: usize) -> WsStreamLayer {
    let limits = Limits::default().receive_window(WINDOW);
    support::layer().limits(limits.stall_reserve(reserve))
}

/// The payload's byte at a place: no two pieces of it look alike.
fn byte(at: usize) -> u8 {
    (at.wrapping_mul(31) ^ (at >> 8).wrapping_mul(7) ^ (at >> 16)) as u8
}

fn payload(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(byte).collect()
}

/// How much of a payload lies in one message.
#[derive(Clone, Copy, Debug)]
enum Messages {
    One,
    Of(usize),
}

/// What a client writes for so many bytes on channel 0.
fn wire(offer: &str, messages: Messages, total: usize) -> Vec<u8> {
    let len = match messages {
        Messages::One => total,
        Messages::Of(len) => len,
    };
    let starts = (0..total).step_by(len);
    starts
        .flat_map(|from| {
            let payload = payload(from, len.min(total - from));
            match offer.contains("base64") {
                true => frame(true, TEXT, &base64(0, &payload)),
                false => frame(true, BINARY, &on(0, &payload)),
            }
        })
        .collect()
}

/// A session whose reader is in the test's hands, and what is sent to it.
struct Stalled {
    stdin: Option<ChannelReader>,
    resize: Option<ChannelReader>,
    /// Bytes that the client got rid of.
    taken: Arc<AtomicUsize>,
    sending: JoinHandle<WriteHalf<DuplexStream>>,
    frames: mpsc::UnboundedReceiver<(Frame, Instant)>,
    reading: JoinHandle<()>,
    ended: oneshot::Receiver<(EndCause, Instant)>,
    start: Instant,
}

impl Stalled {
    async fn new(layer: WsStreamLayer, offer: &str, wire: Vec<u8>) -> Self {
        let (give, given) = oneshot::channel();
        let (tell, ended) = oneshot::channel();
        let service = once_in(layer, |mut set: ChannelSet| async move {
            let readers = [set.take_reader(0), set.take_reader(4)];
            assert!(give.send(readers).is_ok());
            let _open = set.take_writer(1);
            let cause = set.session().ended().await;
            let _ = tell.send((cause, Instant::now()));
            Ok::<_, BoxError>(())
        });
        let client = open_with(service, offer, BETWEEN).await;
        let [stdin, resize] = given.await.unwrap();
        let (mut read, mut write) = client.into_halves();
        let (seen, frames) = mpsc::unbounded_channel();
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        Self {
            stdin,
            resize,
            taken,
            sending: tokio::spawn(async move {
                let mut at = 0;
                while at < wire.len() {
                    match write.write(&wire[at..]).await {
                        Ok(n) => at += n,
                        Err(_) => break,
                    }
                    count.store(at, Ordering::Relaxed);
                }
                write
            }),
            frames,
            reading: tokio::spawn(async move {
                while let Some(frame) = read.next().await {
                    let _ = seen.send((frame, Instant::now()));
                }
            }),
            ended,
            start: Instant::now(),
        }
    }

    /// Waits until so many beats after the pause began, and then for a moment.
    async fn beats(&self, n: u32) {
        sleep_until(self.start + n * BEAT + AFTER).await;
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Everything that comes is the payload from `from` on.
    async fn expect(&mut self, from: usize, len: usize) {
        let stdin = self.stdin.as_mut().unwrap();
        let mut all = vec![0; len];
        within(LONG, stdin.read_exact(&mut all)).await.unwrap();
        assert_payload(&all, from);
    }

    fn is_alive(&mut self) -> bool {
        self.ended.try_recv().is_err()
    }

    /// The client is gone, without a word.
    async fn vanish(
        self,
    ) -> (
        Option<ChannelReader>,
        oneshot::Receiver<(EndCause, Instant)>,
    ) {
        self.sending.abort();
        self.reading.abort();
        let _ = self.sending.await;
        let _ = self.reading.await;
        (self.stdin, self.ended)
    }
}

/// So many bytes were taken; what lies between the ends goes in one piece.
#[track_caller]
fn assert_taken(taken: usize, expected: usize, what: impl std::fmt::Debug) {
    let off = taken.abs_diff(expected);
    assert!(off <= BETWEEN, "{taken}, not {expected}: {what:?}");
}

#[track_caller]
fn assert_payload(bytes: &[u8], from: usize) {
    let wrong = (bytes.iter().enumerate()).find(|(at, found)| **found != byte(from + at));
    assert_eq!(wrong, None, "from {from}");
}

// How much, and how fast.

/// One message, so that every byte is payload, and the sums are exact.
#[tokio::test(start_paused = true)]
async fn a_chunk_is_taken_in_each_half_second_until_the_reserve_is_used_up() {
    let _watchdog = Watchdog::bites_after(BITE);
    // What is less than a chunk is lent to nobody.
    for (reserve, lent) in [
        (0, 0),
        (CHUNK - 1, 0),
        (CHUNK, 1),
        (2 * CHUNK - 1, 1),
        (10 * CHUNK, 10),
    ] {
        let wire = wire(subprotocols::V5, Messages::One, WINDOW + 40 * CHUNK);
        let mut stalled = Stalled::new(layer(reserve), subprotocols::V5, wire).await;
        stalled.beats(0).await;
        let full = stalled.taken();
        let most = WINDOW + CHUNK + BETWEEN + 20;
        assert!((WINDOW..=most).contains(&full), "{full} at first");
        for beat in 1..30 {
            stalled.beats(beat).await;
            let expected = full + CHUNK * lent.min(beat as usize);
            assert_taken(stalled.taken(), expected, (reserve, beat));
        }
        // And on, with Pongs.
        stalled.beats(2000).await;
        assert_taken(stalled.taken(), full + lent * CHUNK, reserve);
        assert!(stalled.is_alive());
        let mut pongs = 0;
        while let Ok((frame, at)) = stalled.frames.try_recv() {
            assert_eq!((frame.opcode, frame.payload.len()), (PONG, 0));
            pongs += 1;
            let late = (at - stalled.start).checked_sub(pongs * BEAT).unwrap();
            // Each may lose a tick of the clock.
            assert!(late < 4 * BEAT, "Pong {pongs} is late by {late:?}");
        }
        assert!(pongs >= 1996, "{pongs} Pongs");
        stalled.expect(0, WINDOW + 40 * CHUNK).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_reserve_lasts_for_eight_minutes() {
    let _watchdog = Watchdog::bites_after(BITE);
    const WINDOW: usize = 256 * 1024;
    const RESERVE: usize = 16 << 20;
    let layer = WsStreamLayer::new(protocols()).config(SessionConfig::default().keep_alive(None));
    let mut wire = wire(subprotocols::V5, Messages::One, 8);
    // The same for a message without end.
    wire.truncate(1);
    wire.extend([0xff, 0, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0]);
    wire.resize(RESERVE + 4 * WINDOW, 0);
    let stalled = Stalled::new(layer, subprotocols::V5, wire).await;
    stalled.beats(0).await;
    let full = stalled.taken();
    stalled.beats(600).await;
    let grown = stalled.taken() - full;
    assert!((598 * CHUNK..601 * CHUNK).contains(&grown), "{grown}");
    stalled.beats(1000).await;
    let grown = stalled.taken() - full;
    assert!((997 * CHUNK..1001 * CHUNK).contains(&grown), "{grown}");
    stalled.beats(1100).await;
    assert_taken(stalled.taken(), full + RESERVE, "all of it");
    stalled.beats(3000).await;
    assert_taken(stalled.taken(), full + RESERVE, "and no more");
}

/// Whatever the size of its messages: what a client got rid of is the window,
/// the reserve, and one read.
#[tokio::test(start_paused = true)]
async fn what_a_session_holds_is_bounded_by_window_and_reserve() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 8 * CHUNK;
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for (messages, len) in [
            (Messages::Of(1), 1),
            (Messages::Of(1000), 1000),
            (Messages::Of(32 * 1024), 32 * 1024),
            (Messages::One, total),
        ] {
            let bytes = wire(offer, messages, total);
            // Of the wire, for each byte of payload.
            let cost = bytes.len() as f64 / total as f64;
            let mut stalled = Stalled::new(chunks(5), offer, bytes).await;
            stalled.beats(40).await;
            let taken = stalled.taken();
            let least = (WINDOW + 5 * CHUNK - 8).min(total);
            let read = (CHUNK + BETWEEN) as f64 / cost + 64.0;
            let held = taken as f64 / cost;
            assert!(
                held >= least as f64 - 64.0 && held <= (WINDOW + 5 * CHUNK) as f64 + read,
                "{offer}: {held} bytes in messages of {len}"
            );
            assert!(stalled.is_alive());
            stalled.expect(0, total).await;
        }
    }
}

// What comes of it.

#[tokio::test(start_paused = true)]
async fn every_byte_arrives_in_order_once_the_reader_reads() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 7 * CHUNK + 1234;
    for offer in [
        subprotocols::V5,
        subprotocols::V4,
        subprotocols::V4_BASE64,
        subprotocols::BASE64_CHANNEL,
    ] {
        for messages in [Messages::One, Messages::Of(61), Messages::Of(5003)] {
            for beats in [0, 2, 7] {
                let mut wire = wire(offer, messages, total);
                match offer {
                    subprotocols::V5 => wire.extend(frame(true, BINARY, &[255, 0])),
                    _ => wire.extend(frame(true, 8, &1000_u16.to_be_bytes())),
                }
                let mut stalled = Stalled::new(chunks(5), offer, wire).await;
                stalled.beats(beats).await;
                let mut stdin = stalled.stdin.take().unwrap();
                let (bytes, end) = within(BEAT, read_out(&mut stdin)).await;
                assert_eq!(
                    (bytes.len(), end),
                    (total, End::Eof),
                    "{offer} {messages:?}"
                );
                assert_payload(&bytes, 0);
            }
        }
    }
}

/// A reader that takes a little has made no room: first the loan goes back.
#[tokio::test(start_paused = true)]
async fn a_reader_comes_down_to_the_window_before_there_is_room_again() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 60 * CHUNK;
    let wire = wire(subprotocols::V5, Messages::One, total);
    let mut stalled = Stalled::new(chunks(8), subprotocols::V5, wire).await;
    stalled.beats(0).await;
    let full = stalled.taken();
    stalled.beats(20).await;
    assert_taken(stalled.taken(), full + 8 * CHUNK, "all is lent");
    stalled.expect(0, 3 * CHUNK).await;
    sleep(AFTER).await;
    assert_taken(stalled.taken(), full + 8 * CHUNK, "no room");
    // What came back is lent again, as slowly as before.
    sleep(3 * BEAT).await;
    assert_taken(stalled.taken(), full + 11 * CHUNK, "lent anew");
    sleep(10 * BEAT).await;
    assert_taken(stalled.taken(), full + 11 * CHUNK, "all is lent again");
    stalled.expect(3 * CHUNK, 8 * CHUNK + 1).await;
    sleep(AFTER).await;
    assert_taken(stalled.taken(), full + 11 * CHUNK, "down to the window");
    let rest = total - 11 * CHUNK - 1;
    stalled.expect(11 * CHUNK + 1, rest).await;
}

/// The trickle carries what is behind the data: 100 KiB are seven chunks.
#[tokio::test(start_paused = true)]
async fn a_resize_and_a_ping_behind_stalled_input_are_seen() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for messages in [Messages::Of(999), Messages::Of(32_768), Messages::One] {
            for (beyond, soonest, latest) in [
                (100 * 1024, 5 * BEAT, 8 * BEAT),
                (CHUNK, Duration::ZERO, 2 * BEAT),
                (100, Duration::ZERO, 2 * BEAT),
            ] {
                let mut wire = wire(offer, messages, WINDOW + beyond);
                let resize = br#"{"Width":80,"Height":24}"#;
                wire.extend(match offer {
                    subprotocols::V5 => frame(true, BINARY, &on(4, resize)),
                    _ => frame(true, TEXT, &base64(4, resize)),
                });
                wire.extend(frame(true, PING, b"alive?"));
                let mut stalled = Stalled::new(chunks(20), offer, wire).await;
                let mut size = [0; 24];
                let reader = stalled.resize.as_mut().unwrap();
                within(LONG, reader.read_exact(&mut size)).await.unwrap();
                assert_eq!(&size, resize);
                let at = stalled.start.elapsed();
                assert!(
                    at >= soonest && at <= latest,
                    "{offer} {messages:?}: {beyond} bytes passed after {at:?}"
                );
                let answered = async {
                    while let Some((frame, _)) = stalled.frames.recv().await {
                        if &frame.payload[..] == b"alive?" {
                            return;
                        }
                    }
                };
                within(AFTER, answered).await;
                stalled.expect(0, WINDOW + beyond).await;
            }
        }
    }
}

/// Nothing is wrong with a window that is full to the last byte.
#[tokio::test(start_paused = true)]
async fn what_is_directly_behind_a_full_window_is_seen_at_once() {
    let _watchdog = Watchdog::bites_after(BITE);
    for reserve in [0, 20] {
        let mut wire = wire(subprotocols::V5, Messages::Of(1024), WINDOW);
        wire.extend(frame(true, BINARY, &on(4, b"x")));
        let mut stalled = Stalled::new(chunks(reserve), subprotocols::V5, wire).await;
        let reader = stalled.resize.as_mut().unwrap();
        assert_eq!(within(AFTER, reader.read_u8()).await.unwrap(), b'x');
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_behind_stalled_input_is_seen() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = WINDOW + 3 * CHUNK;
    for (offer, code) in [
        (subprotocols::V4, Some(1000)),
        (subprotocols::V4, Some(4000)),
        (subprotocols::V4_BASE64, None),
        (subprotocols::V5, Some(1000)),
    ] {
        let mut wire = wire(offer, Messages::Of(1000), total);
        if offer == subprotocols::V5 {
            wire.extend(frame(true, BINARY, &[255, 0]));
        }
        let close = code.map(u16::to_be_bytes);
        wire.extend(frame(true, 8, close.as_ref().map_or(&[][..], |code| code)));
        let mut stalled = Stalled::new(chunks(5), offer, wire).await;
        let start = stalled.start;
        let (cause, at) = within(LONG, &mut stalled.ended).await.unwrap();
        assert!(matches!(cause, EndCause::PeerClosed { code: c, .. } if c == code));
        let at = at - start;
        assert!(at >= 2 * BEAT && at <= 4 * BEAT, "{offer} after {at:?}");
        let mut stdin = stalled.stdin.take().unwrap();
        let (bytes, end) = within(LONG, read_out(&mut stdin)).await;
        assert_eq!(bytes.len(), total);
        assert_payload(&bytes, 0);
        let expected = match code {
            Some(4000) => End::Error(io::ErrorKind::ConnectionAborted, cause),
            _ => End::Eof,
        };
        assert_eq!(end, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_arrives_before_the_loss_of_the_connection() {
    let _watchdog = Watchdog::bites_after(BITE);
    for offer in [subprotocols::V5, subprotocols::V4_BASE64] {
        for messages in [Messages::One, Messages::Of(1000)] {
            for beats in [0, 4, 12] {
                let total = WINDOW + 12 * CHUNK;
                let wire = wire(offer, messages, total);
                let cost = wire.len() as f64 / total as f64;
                let stalled = Stalled::new(chunks(6), offer, wire).await;
                stalled.beats(beats).await;
                let taken = stalled.taken();
                let (stdin, ended) = stalled.vanish().await;
                let (cause, _) = within(4 * BEAT, ended).await.unwrap();
                assert!(
                    matches!(cause, EndCause::ConnectionLost { .. }),
                    "{cause:?}"
                );
                let (bytes, end) = within(LONG, read_out(&mut stdin.unwrap())).await;
                let least = (taken - BETWEEN) as f64 / cost - 40.0;
                assert!(
                    bytes.len() as f64 >= least,
                    "{offer} {messages:?} at {beats}: {} of {least}",
                    bytes.len()
                );
                assert_payload(&bytes, 0);
                assert_eq!(end, End::Error(io::ErrorKind::ConnectionReset, cause));
            }
        }
    }
}

/// What trickles in is data as long as it does.
#[tokio::test(start_paused = true)]
async fn a_stalled_session_is_idle_once_nothing_is_taken() {
    let _watchdog = Watchdog::bites_after(BITE);
    let idle = Duration::from_secs(2);
    for messages in [Messages::Of(1000), Messages::One] {
        let wire = wire(subprotocols::V5, messages, WINDOW + 40 * CHUNK);
        let layer = chunks(20).idle_timeout(idle);
        let mut stalled = Stalled::new(layer, subprotocols::V5, wire).await;
        let (cause, at) = within(LONG, &mut stalled.ended).await.unwrap();
        assert_eq!(cause, EndCause::IdleTimeout);
        let (at, last) = (at - stalled.start, 20 * BEAT);
        assert!(
            at >= last + idle && at <= last + idle + AFTER,
            "{messages:?}: after {at:?}"
        );
        let (bytes, end) = within(LONG, read_out(stalled.stdin.as_mut().unwrap())).await;
        assert!(bytes.len() >= WINDOW + 20 * CHUNK);
        assert_payload(&bytes, 0);
        assert_eq!(end, End::Error(io::ErrorKind::TimedOut, cause));
    }
}

// One reserve for all sessions.

/// A session of the layer that sends without end, and what it got rid of when
/// its window was full.
async fn another(layer: &WsStreamLayer, total: usize) -> (Stalled, usize) {
    let wire = wire(subprotocols::V5, Messages::One, total);
    let stalled = Stalled::new(layer.clone(), subprotocols::V5, wire).await;
    stalled.beats(0).await;
    let full = stalled.taken();
    (stalled, full)
}

#[tokio::test(start_paused = true)]
async fn the_reserve_of_all_sessions_goes_to_who_comes_first() {
    let _watchdog = Watchdog::bites_after(BITE);
    let layer = chunks(4).sessions(Sessions::with_stall_reserve(6 * CHUNK + 100));
    let (first, one) = another(&layer, 1 << 20).await;
    first.beats(10).await;
    assert_taken(first.taken(), one + 4 * CHUNK, "its own share");
    let (second, two) = another(&layer, 1 << 20).await;
    let (third, three) = another(&layer, 1 << 20).await;
    third.beats(10).await;
    let both = second.taken() - two + third.taken() - three;
    assert_taken(both, 2 * CHUNK, "what is left");

    // A layer with another reserve has nothing to do with it.
    let (other, four) = another(&chunks(4), 1 << 20).await;
    other.beats(10).await;
    assert_taken(other.taken(), four + 4 * CHUNK, "another reserve");
}

#[derive(Clone, Copy, Debug)]
enum GivesBack {
    Reads,
    DropsReader,
    /// Its client vanishes, and the reader is dropped.
    Ends,
    /// The same, and somebody still holds the reader, who then reads.
    EndsThenReads,
    /// The same, and drops it.
    EndsThenDrops,
}

#[tokio::test(start_paused = true)]
async fn a_session_gives_back_what_it_was_lent() {
    let _watchdog = Watchdog::bites_after(BITE);
    for how in [
        GivesBack::Reads,
        GivesBack::DropsReader,
        GivesBack::Ends,
        GivesBack::EndsThenReads,
        GivesBack::EndsThenDrops,
    ] {
        let layer = chunks(4).sessions(Sessions::with_stall_reserve(4 * CHUNK));
        let total = WINDOW + 4 * CHUNK + 100;
        let (mut first, _) = another(&layer, total).await;
        first.beats(10).await;
        let (second, full) = another(&layer, 1 << 20).await;
        second.beats(10).await;
        assert_taken(second.taken(), full, ("nothing is left", how));
        let mut kept = None;
        match how {
            GivesBack::Reads => {
                first.expect(0, total).await;
                kept = first.stdin.take();
            }
            GivesBack::DropsReader => drop(first.stdin.take()),
            GivesBack::Ends => {
                first.stdin = None;
                let (_, ended) = first.vanish().await;
                within(LONG, ended).await.unwrap();
            }
            GivesBack::EndsThenReads | GivesBack::EndsThenDrops => {
                let (stdin, ended) = first.vanish().await;
                within(LONG, ended).await.unwrap();
                sleep(10 * BEAT).await;
                assert_taken(second.taken(), full, ("what lies there is lent", how));
                let mut stdin = stdin.unwrap();
                if let GivesBack::EndsThenReads = how {
                    let (bytes, _) = read_out(&mut stdin).await;
                    assert_payload(&bytes, 0);
                    kept = Some(stdin);
                }
            }
        }
        sleep(10 * BEAT).await;
        assert_taken(second.taken(), full + 4 * CHUNK, how);
        drop(kept);
    }
}

/// What is given back is given back once: after all that, no more can be lent
/// than before.
#[tokio::test(start_paused = true)]
async fn nothing_is_given_back_twice() {
    let _watchdog = Watchdog::bites_after(BITE);
    let layer = chunks(4).sessions(Sessions::with_stall_reserve(4 * CHUNK));
    for _ in 0..3 {
        let (mut first, _) = another(&layer, 1 << 20).await;
        first.beats(3).await;
        first.expect(0, CHUNK + 7).await;
        sleep(2 * BEAT).await;
        first.expect(CHUNK + 7, WINDOW).await;
        sleep(3 * BEAT).await;
        let (stdin, ended) = first.vanish().await;
        within(LONG, ended).await.unwrap();
        drop(stdin);
        sleep(AFTER).await;
    }
    let (one, full_one) = another(&layer, 1 << 20).await;
    let (other, full_other) = another(&layer, 1 << 20).await;
    other.beats(20).await;
    let lent = one.taken() - full_one + other.taken() - full_other;
    assert_taken(lent, 4 * CHUNK, "the total");
}

/// The client of a session that had been stalled is none the worse for it.
#[tokio::test(start_paused = true)]
async fn a_session_may_stall_again_and_again() {
    let _watchdog = Watchdog::bites_after(BITE);
    let total = 2 << 20;
    let wire = wire(subprotocols::V5, Messages::Of(4001), total);
    let mut stalled = Stalled::new(chunks(3), subprotocols::V5, wire).await;
    let mut at = 0;
    for (n, len) in [1, 100_000, 16 * 1024, 3, 200_000, 150_000]
        .into_iter()
        .cycle()
        .enumerate()
    {
        sleep(BEAT * (n % 4) as u32).await;
        let len = len.min(total - at);
        stalled.expect(at, len).await;
        at += len;
        if at == total {
            break;
        }
    }
    assert!(stalled.is_alive());
}

/// Two channels that both stall share the reserve of their session.
#[tokio::test(start_paused = true)]
async fn channels_of_a_session_share_its_reserve() {
    let _watchdog = Watchdog::bites_after(BITE);
    // Channel 4 is full already, and channel 0 then takes all there is.
    let mut bytes = frame(true, BINARY, &on(4, &payload(0, WINDOW)));
    bytes.extend(wire(subprotocols::V5, Messages::One, WINDOW + 5 * CHUNK));
    bytes.extend(frame(true, BINARY, &on(4, b"behind")));
    let mut stalled = Stalled::new(chunks(5), subprotocols::V5, bytes.clone()).await;
    stalled.beats(20).await;
    // Stuck at channel 4 now, until its own reader reads.
    let resize = stalled.resize.as_mut().unwrap();
    let mut all = vec![0; WINDOW + 6];
    within(LONG, resize.read_exact(&mut all)).await.unwrap();
    assert!(all.ends_with(b"behind"));
    assert_eq!(stalled.taken(), bytes.len());
    stalled.expect(0, WINDOW + 5 * CHUNK).await;
}
