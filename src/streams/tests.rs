//! A client's frames through a peer and a real wire, up to the bytes that are sent.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, advance},
};

use super::{NewPair, NewPairs, Peer, Roles, handoff};
use crate::{
    ChannelReader, ChannelWriter,
    error::EndCause,
    protocol::Format,
    spdy::{self, ResetStatus, fixture, write_headers},
    wire::{Condition, End, StallReserve, TotalReserve, Transport, Turn, Wire, WireConfig},
};

const WINDOW: usize = 64 * 1024;

/// A transport that remembers what it is given.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<u8>>>);

impl AsyncRead for Sent {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Sent {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A session without a driver. Its client is the test.
pub(crate) struct Session {
    pub(crate) wire: Arc<Wire>,
    pub(crate) peer: Peer,
    sent: Sent,
    begun: bool,
    /// The numbers of PINGs that the client answers later, if it does not at once.
    unanswered: Option<Vec<u32>>,
}

impl Session {
    fn new(channels: usize, roles: impl FnOnce(&Arc<Wire>) -> Roles) -> Self {
        let config = WireConfig {
            format: Format::Spdy,
            channels,
            receive_window: WINDOW,
            send_budget: 1 << 16,
            high_water: 1 << 18,
            stamps: false,
        };
        let reserve = StallReserve::new(1 << 20, &TotalReserve::new(1 << 20));
        let readable = |channel| matches!(channel, 0 | 4);
        let writable = |channel| matches!(channel, 1..=3);
        let wire = Wire::new(Turn::new(), &config, reserve, readable, writable);
        let sent = Sent::default();
        let Transport { write, .. } = Transport::whole(sent.clone());
        wire.outbound.install(write);
        wire.turn.begin();
        Self {
            peer: Peer::new(Arc::clone(&wire), roles(&wire)),
            wire,
            sent,
            begun: false,
            unanswered: None,
        }
    }

    /// Returns a session of connections.
    pub(crate) fn ports() -> (Self, NewPairs) {
        let mut pairs = None;
        let session = Self::new(0, |wire| {
            let (handoff, new) = handoff(wire);
            pairs = Some(new);
            Roles::ports(handoff)
        });
        (session, pairs.unwrap())
    }

    /// Returns a session of a command without a terminal.
    fn command() -> Self {
        Self::new(5, |_| {
            Roles::command([true, true, true, true, false].into_iter())
        })
    }

    fn feed(&mut self, frames: &[u8]) {
        assert_eq!(self.peer.decode(frames), Ok(frames.len()));
    }

    /// Opens a stream with these headers, in a stored block.
    fn syn(&mut self, stream: u32, fields: &[(&str, &str)]) {
        let first = !std::mem::replace(&mut self.begun, true);
        self.feed(&syn(stream, fields, first));
    }

    pub(crate) fn open(&mut self, stream: u32, kind: &str, request: &str) {
        self.syn(
            stream,
            &[("streamtype", kind), ("port", "80"), ("requestid", request)],
        );
    }

    pub(crate) fn data(&mut self, stream: u32, data: &[u8]) {
        self.feed(&data_frame(stream, false, data));
    }

    pub(crate) fn fin(&mut self, stream: u32) {
        self.feed(&data_frame(stream, true, b""));
    }

    pub(super) fn rst(&mut self, stream: u32) {
        let mut frame = Vec::new();
        spdy::rst_stream(&mut frame, stream, ResetStatus::Cancel);
        self.feed(&frame);
    }

    /// Ends the round, and returns the frames that have been sent. PINGs of this end are answered,
    /// and not among them.
    pub(crate) fn round(&mut self) -> Vec<String> {
        self.peer.end_round();
        self.wire.outbound.begin_turn(true);
        self.wire.outbound.end_turn(&mut Vec::new());
        let sent = std::mem::take(&mut *self.sent.0.lock().unwrap());
        let mut lines = lines(&sent);
        let own_ping = |line: &String| {
            let id: u32 = line.strip_prefix("ping ")?.parse().ok()?;
            id.is_multiple_of(2).then_some(id)
        };
        let pings: Vec<u32> = lines.iter().filter_map(own_ping).collect();
        lines.retain(|line| own_ping(line).is_none());
        if let Some(unanswered) = &mut self.unanswered {
            unanswered.extend(pings);
            return lines;
        }
        for id in pings {
            self.feed(&control(6, &id.to_be_bytes()));
        }
        lines
    }

    /// Opens a connection, and takes it.
    pub(super) fn connect(&mut self, pairs: &mut NewPairs, error: u32) -> NewPair {
        let request = error.to_string();
        self.open(error, "error", &request);
        self.open(error + 2, "data", &request);
        assert_eq!(self.round(), [format!("reply {error}")]);
        next(pairs).expect("a pair is complete")
    }

    /// Advances the time to the next deadline, and handles it.
    async fn expire(&mut self) -> Option<EndCause> {
        let at = self.peer.next_due().expect("a deadline is set");
        advance(at - Instant::now()).await;
        self.peer.expire(Instant::now())
    }
}

fn syn(stream: u32, fields: &[(&str, &str)], first: bool) -> Vec<u8> {
    let block = write_headers(fields);
    let length = block.len() as u16;
    let mut body = stream.to_be_bytes().to_vec();
    body.extend([0; 6]);
    body.extend(if first { &[0x78, 0x01][..] } else { &[] });
    body.push(0);
    body.extend(length.to_le_bytes());
    body.extend((!length).to_le_bytes());
    body.extend(block);
    body.extend([0, 0, 0, 0xff, 0xff]);
    control(1, &body)
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

fn data_frame(stream: u32, fin: bool, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    spdy::data_head(&mut frame, stream, fin, data.len());
    frame.extend(data);
    frame
}

/// Returns one line for each frame.
fn lines(mut bytes: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let first = u32::from_be_bytes(bytes[..4].try_into().unwrap());
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
        let (flags, length) = (length >> 24, (length & 0xff_ffff) as usize);
        let body = &bytes[8..8 + length];
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        lines.push(match (first, flags) {
            (0x8003_0002, 0) => format!("reply {}", number(0)),
            (0x8003_0003, 0) => format!("rst {} {}", number(0), number(4)),
            (0x8003_0006, 0) => format!("ping {}", number(0)),
            (0x8003_0007, 0) => format!("goaway {} {}", number(0), number(4)),
            (stream, 1) if stream < 1 << 31 && length == 0 => format!("fin {stream}"),
            (stream, 0) if stream < 1 << 31 && length > 0 => {
                format!("data {stream} {}", String::from_utf8_lossy(body))
            }
            other => panic!("an unexpected frame: {other:x?}"),
        });
        bytes = &bytes[8 + length..];
    }
    lines
}

pub(super) fn next(pairs: &mut NewPairs) -> Option<NewPair> {
    match pairs.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(next) => next,
        Poll::Pending => None,
    }
}

pub(super) fn is_over(pairs: &mut NewPairs) -> bool {
    let next = pairs.poll_next(&mut Context::from_waker(Waker::noop()));
    matches!(next, Poll::Ready(None))
}

/// Reads what has arrived, or returns the error.
async fn read(reader: &mut ChannelReader) -> io::Result<String> {
    let mut buffer = [0; 64];
    let n = tokio::time::timeout(Duration::ZERO, reader.read(&mut buffer)).await??;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

pub(super) async fn write(writer: &mut ChannelWriter, data: &str) -> io::Result<()> {
    tokio::time::timeout(Duration::ZERO, writer.write_all(data.as_bytes())).await?
}

#[tokio::test(start_paused = true)]
async fn the_recorded_session() {
    for cut in [1, 3, 8, 1000] {
        let (mut session, mut pairs) = Session::ports();
        let mut sent = Vec::new();
        let mut held = Vec::new();
        for piece in fixture::up().chunks(cut) {
            session.feed(piece);
            while let Some(mut pair) = next(&mut pairs) {
                assert_eq!(pair.port, 9000);
                pair.answer.reply();
                held.push(pair);
            }
            sent.extend(session.round());
        }
        let expected = ["reply 1", "reply 3", "reply 5", "reply 7", "ping 1"];
        let mut sorted = sent.clone();
        sorted.sort();
        assert_eq!(sent.len(), expected.len(), "{cut}");
        assert!(
            expected
                .iter()
                .all(|line| sorted.contains(&String::from(*line)))
        );
        let mut got = Vec::new();
        for pair in &mut held {
            pair.reader.read_to_end(&mut got).await.unwrap();
        }
        assert!(
            got.starts_with(b"GET /hi HTTP/1.1\r\n") && got.ends_with(b"GET /slow HTTP/1.1\r\n")
        );
        let heard = session.peer.take_heard();
        assert!(heard.data && matches!(heard.close, Some(EndCause::PeerClosed { code: None, .. })));
        assert!(is_over(&mut pairs));
        held.into_iter().for_each(|pair| pair.answer.finish());
        assert_eq!(session.round(), ["fin 1", "fin 3", "fin 5", "fin 7"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_from_its_reply_to_its_end() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    session.fin(1);
    assert_eq!((pair.port, pair.index), (80, 0));
    assert!(session.round().is_empty(), "the service has not decided");
    assert!(!pair.answer.is_touched());
    assert!(read(&mut pair.reader).await.is_err(), "it is pending");
    pair.answer.reply();
    pair.answer.reply();
    write(&mut pair.data, "hello").await.unwrap();
    assert_eq!(session.round(), ["reply 3", "data 3 hello"]);
    session.data(3, b"request");
    assert_eq!(read(&mut pair.reader).await.unwrap(), "request");
    session.fin(3);
    assert_eq!(read(&mut pair.reader).await.unwrap(), "");
    write(&mut pair.data, "late").await.unwrap();
    pair.answer.finish();
    drop((pair.data, pair.reader, pair.errors));
    assert_eq!(session.round(), ["data 3 late", "fin 1", "fin 3"]);
    assert_eq!(session.peer.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_has_touched_the_connection() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    let poll = Pin::new(&mut pair.reader).poll_read(
        &mut Context::from_waker(Waker::noop()),
        &mut ReadBuf::new(&mut [0; 1]),
    );
    assert!(poll.is_pending() && pair.answer.is_touched());
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_takes_the_place_of_the_reply() {
    let (mut session, mut pairs) = Session::ports();
    for (error, dropped) in [(1, false), (5, true)] {
        let pair = session.connect(&mut pairs, error);
        session.fin(error);
        if dropped {
            drop(pair);
        } else {
            drop((pair.reader, pair.data));
            pair.answer.refuse();
        }
        let data = error + 2;
        let expected = [format!("rst {data} 3"), format!("fin {error}")];
        assert_eq!(session.round(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_behind_the_reply_is_a_reset() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    assert_eq!(session.round(), ["reply 3"]);
    drop((pair.reader, pair.data));
    pair.answer.refuse();
    assert_eq!(session.round(), ["rst 3 5", "fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_text_goes_in_front_of_the_reset() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    pair.errors.send("the target is gone").await.unwrap();
    pair.answer.reset();
    let expected = ["reply 3", "data 1 the target is gone", "fin 1", "rst 3 5"];
    assert_eq!(session.round(), expected);
    // Nothing can be written from here on.
    assert!(write(&mut pair.data, "x").await.is_err());
    assert!(write(&mut pair.errors, "x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_both_directions_and_keeps_what_was_read() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, b"half");
    session.rst(3);
    assert_eq!(read(&mut pair.reader).await.unwrap(), "half");
    let error = read(&mut pair.reader).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = write(&mut pair.data, "x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    session.round();
    pair.answer.finish();
    assert_eq!(session.round(), ["fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn error_stream_ends_with_its_data_stream() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.fin(1);
    session.fin(3);
    drop(pair.data);
    assert_eq!(session.round(), ["reply 3", "fin 3"]);
    // The service runs on, and kubectl waits for the end of the error stream.
    let before = Instant::now();
    assert_eq!(session.expire().await, None);
    assert_eq!(before.elapsed(), Duration::from_millis(50));
    assert_eq!(session.round(), ["fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_behind_unread_data_is_opened_when_that_was_read() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.round();
    session.unanswered = Some(Vec::new());
    while write(&mut pair.data, "x").now_or_never().is_some() {
        session.round();
    }
    // Of the same queue as stream 3, of another one, and of the same again.
    session.open(13, "error", "13");
    session.open(15, "error", "15");
    session.open(23, "error", "23");
    assert_eq!(session.round(), ["reply 15"]);
    advance(Duration::from_secs(20)).await;
    session.open(33, "error", "33");
    session.open(43, "error", "43");
    session.rst(43);
    assert!(session.round().is_empty());
    // The client has given up those that are older than 25 s.
    advance(Duration::from_secs(10)).await;
    for id in session.unanswered.take().unwrap() {
        session.feed(&control(6, &id.to_be_bytes()));
    }
    assert_eq!(session.round(), ["reply 33"]);
}

#[tokio::test(start_paused = true)]
async fn a_pods_eof_is_passed_on_at_once() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, b"request");
    advance(Duration::from_millis(50)).await;
    pair.data.shutdown().await.unwrap_or_default();
    session.round();
    drop(pair.data);
    assert!(session.round().is_empty());
    assert_eq!(read(&mut pair.reader).await.unwrap(), "request");
}

#[tokio::test(start_paused = true)]
async fn an_upload_in_flight_delays_the_fin() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, b"some");
    drop(pair.data);
    assert_eq!(session.round(), ["reply 3"]);
    advance(Duration::from_millis(40)).await;
    // The rest of a frame counts like its beginning.
    session.feed(&data_frame(3, false, &[b'.'; 10])[..12]);
    assert_eq!(session.expire().await, None);
    assert!(session.round().is_empty(), "the upload goes on");
    session.feed(&[b'.'; 6]);
    assert_eq!(session.expire().await, None);
    assert_eq!(session.round(), ["fin 3", "fin 1"]);
    assert_eq!(read(&mut pair.reader).await.unwrap(), "some..........");
    // Without a reader, there is nothing to wait for.
    let mut pair = session.connect(&mut pairs, 5);
    pair.answer.reply();
    session.data(7, b"some");
    drop((pair.data, pair.reader));
    assert_eq!(session.round(), ["reply 7", "fin 7", "fin 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_answered_is_given_up() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    let before = Instant::now();
    assert_eq!(session.expire().await, None);
    assert_eq!(before.elapsed(), Duration::from_secs(25));
    assert_eq!(session.round(), ["reply 3", "rst 3 5"]);
    pair.answer.reply();
    assert!(write(&mut pair.data, "hello").await.is_err());
    let error = read(&mut pair.reader).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(session.round(), ["fin 1"]);
}

/// A Go client that has given up a stream hangs on a reset of it without a reply, and on data.
#[tokio::test(start_paused = true)]
async fn no_reset_in_place_of_a_late_reply() {
    let (mut session, mut pairs) = Session::ports();
    let pair = session.connect(&mut pairs, 1);
    advance(Duration::from_secs(25)).await;
    drop(pair);
    assert_eq!(session.round(), ["reply 3", "rst 3 5", "fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn no_data_behind_a_late_reply() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    advance(Duration::from_secs(25)).await;
    pair.answer.reply();
    assert!(write(&mut pair.data, "hello").await.is_err());
    assert_eq!(session.round(), ["fin 1", "reply 3", "rst 3 5"]);
}

#[tokio::test(start_paused = true)]
async fn half_a_pair_is_given_up_after_ten_seconds_without_a_text() {
    let (mut session, mut pairs) = Session::ports();
    session.open(1, "error", "7");
    session.open(3, "data", "8");
    assert_eq!(session.round(), ["reply 1", "reply 3"]);
    let before = Instant::now();
    assert_eq!(session.expire().await, None);
    assert_eq!(before.elapsed(), Duration::from_secs(10));
    assert_eq!(session.round(), ["rst 1 5", "rst 3 5"]);
    assert!(next(&mut pairs).is_none());
    // Their channels are free again.
    assert_eq!(session.connect(&mut pairs, 5).index, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_of_a_kind_is_told() {
    let (mut session, mut pairs) = Session::ports();
    session.open(1, "error", "7");
    session.open(3, "error", "7");
    let text = "data 1 error processing stream for request 7: error stream already assigned";
    assert_eq!(session.round(), ["reply 1", text, "fin 1", "rst 3 5"]);
    session.open(5, "data", "8");
    session.open(7, "data", "8");
    assert_eq!(session.round(), ["reply 5", "rst 5 5", "rst 7 5"]);
    assert!(next(&mut pairs).is_none());
    assert_eq!(session.peer.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pair_in_the_other_order() {
    let (mut session, mut pairs) = Session::ports();
    session.open(1, "data", "7");
    session.data(1, b"early");
    session.open(3, "error", "7");
    assert_eq!(session.round(), ["reply 1", "reply 3"]);
    let mut pair = next(&mut pairs).unwrap();
    assert_eq!(read(&mut pair.reader).await.unwrap(), "early");
    pair.answer.reply();
    assert!(session.round().is_empty(), "it was answered");
    pair.answer.refuse();
    assert_eq!(session.round(), ["rst 1 5", "fin 3"]);
}

#[tokio::test(start_paused = true)]
async fn streams_of_no_use_are_reset() {
    let (mut session, _pairs) = Session::ports();
    session.syn(1, &[("streamtype", "data"), ("port", "0")]);
    session.syn(3, &[("streamtype", "stdin"), ("port", "80")]);
    let mut unidirectional = syn(5, &[("streamtype", "data"), ("port", "80")], false);
    unidirectional[4] = 2;
    session.feed(&unidirectional);
    assert_eq!(session.round(), ["rst 1 5", "rst 3 5", "rst 5 1"]);
}

/// A channel stands for another stream only once all handles of the stream before are dropped.
#[tokio::test(start_paused = true)]
async fn a_slot_is_used_again_once_its_handles_are_dropped() {
    let (mut session, mut pairs) = Session::ports();
    let mut first = session.connect(&mut pairs, 1);
    first.answer.reply();
    session.fin(1);
    session.fin(3);
    first.answer.finish();
    session.round();
    assert_eq!(session.connect(&mut pairs, 5).index, 1, "handles exist");
    session.fin(5);
    session.round();
    drop(first.reader);
    drop(first.data);
    session.round();
    assert_eq!(session.connect(&mut pairs, 9).index, 1, "a handle exists");
    session.fin(9);
    session.round();
    drop(first.errors);
    session.round();
    let mut again = session.connect(&mut pairs, 13);
    assert_eq!(again.index, 0);
    again.answer.reply();
    session.data(15, b"fresh");
    assert_eq!(read(&mut again.reader).await.unwrap(), "fresh");
    write(&mut again.data, "out").await.unwrap();
    assert_eq!(session.round(), ["reply 15", "data 15 out"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_many_is_refused_alone() {
    let (mut session, mut pairs) = Session::ports();
    let mut held = Vec::new();
    for n in 0..super::MAX_PAIRS as u32 {
        held.push(session.connect(&mut pairs, 4 * n + 1));
    }
    session.open(1001, "error", "more");
    assert_eq!(session.round(), ["rst 1001 3"]);
    held.pop();
    session.round();
    session.rst(4 * 126 + 1);
    session.open(1003, "error", "more");
    assert_eq!(session.round(), ["reply 1003"]);
}

#[tokio::test(start_paused = true)]
async fn pairs_that_the_service_does_not_take_are_refused() {
    let (mut session, pairs) = Session::ports();
    session.open(1, "error", "0");
    session.open(3, "data", "0");
    assert_eq!(session.round(), ["reply 1"]);
    drop(pairs);
    assert_eq!(session.round(), ["rst 3 3", "fin 1"]);
    session.open(5, "error", "1");
    session.open(7, "data", "1");
    assert_eq!(session.round(), ["reply 5", "rst 7 3", "fin 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_new_streams_and_ends_the_service() {
    let (mut session, mut pairs) = Session::ports();
    let pair = session.connect(&mut pairs, 1);
    session.peer.end_all(&End::Error(EndCause::Drained));
    assert!(is_over(&mut pairs));
    session.open(5, "error", "1");
    assert_eq!(session.round(), ["rst 5 3"]);
    pair.answer.finish();
    assert_eq!(session.round(), ["fin 1", "reply 3", "fin 3"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_number_of_all_ends_the_service() {
    let (mut session, mut pairs) = Session::ports();
    session.open(0x7fff_fffd, "error", "0");
    assert!(next(&mut pairs).is_none() && !is_over(&mut pairs));
    session.open(0x7fff_ffff, "data", "0");
    assert!(next(&mut pairs).is_some() && is_over(&mut pairs));
}

#[tokio::test(start_paused = true)]
async fn full_readers_pause_at_their_data_alone() {
    let (mut session, mut pairs) = Session::ports();
    let mut stalled = session.connect(&mut pairs, 1);
    let mut other = session.connect(&mut pairs, 5);
    stalled.answer.reply();
    other.answer.reply();
    session.data(3, &vec![7; WINDOW]);
    session.data(7, b"still heard");
    assert_eq!(read(&mut other.reader).await.unwrap(), "still heard");
    let frame = data_frame(3, true, b"more");
    assert_eq!(session.peer.decode(&frame), Ok(8), "the head needs no room");
    assert!(session.peer.poll_room().is_pending());
    assert!(!session.peer.waits_for_output());
    assert!(session.peer.extend(), "a loan from the reserve");
    assert!(session.peer.poll_room().is_ready());
    assert_eq!(session.peer.decode(&frame[8..]), Ok(4));
    let mut got = Vec::new();
    stalled.reader.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), WINDOW + 4);
}

#[tokio::test(start_paused = true)]
async fn data_for_a_dropped_reader_is_discarded() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    drop(pair.reader);
    for _ in 0..10 {
        session.data(3, &vec![7; WINDOW]);
    }
    assert_eq!(session.round(), ["reply 3"]);
}

#[tokio::test(start_paused = true)]
async fn pings_are_echoed_in_order() {
    let (mut session, _pairs) = Session::ports();
    for id in [1_u32, 3, 4, 5] {
        session.feed(&control(6, &id.to_be_bytes()));
    }
    assert_eq!(session.round(), ["ping 1", "ping 3", "ping 5"]);
    assert_eq!(session.peer.take_heard().pong, None, "not one of ours");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_fails_at_the_end_of_its_connection() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.unanswered = Some(Vec::new());
    let mut data = pair.data;
    let writer = tokio::spawn(async move {
        loop {
            if let Err(error) = data.write_all(b"x").await {
                return error.kind();
            }
        }
    });
    tokio::task::yield_now().await;
    assert!(!writer.is_finished());
    pair.answer.finish();
    session.round();
    assert_eq!(writer.await.unwrap(), std::io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn a_postponed_stream_takes_its_place_among_later_ones() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.round();
    session.unanswered = Some(Vec::new());
    while write(&mut pair.data, "x").now_or_never().is_some() {
        session.round();
    }
    session.open(13, "error", "13");
    session.open(15, "error", "15");
    session.open(23, "error", "23");
    assert_eq!(session.round(), ["reply 15"]);
    // What comes for a stream that was not opened is not kept.
    session.data(23, b"early");
    assert_eq!(session.round(), ["rst 23 3"]);
    advance(Duration::from_secs(11)).await;
    let mut sent = Vec::new();
    for id in session.unanswered.take().unwrap() {
        session.feed(&control(6, &id.to_be_bytes()));
        sent.extend(session.round());
    }
    assert_eq!(sent, ["reply 13"]);
    // Each is found under its own number.
    session.open(25, "data", "13");
    assert_eq!(next(&mut pairs).unwrap().port, 80);
    session.rst(13);
    session.rst(25);
    assert!(session.round().iter().all(|frame| !frame.contains("reply")));
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_our_ping_confirms_what_was_sent_before() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    write(&mut pair.data, "hello").await.unwrap();
    session.wire.outbound.ping();
    session.peer.take_heard();
    // Its PING is answered here.
    assert_eq!(session.round(), ["reply 3", "data 3 hello"]);
    let heard = session.peer.take_heard();
    assert!(!heard.data, "an answer keeps no session from being idle");
    assert_eq!(heard.pong, Some(session.wire.outbound.sent() - 12));
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_leave_pause_reading() {
    let (mut session, _pairs) = Session::ports();
    session.unanswered = Some(Vec::new());
    let pings: Vec<u8> = (0..2_000_u32)
        .flat_map(|n| control(6, &(2 * n + 1).to_be_bytes()))
        .collect();
    let taken = session.peer.decode(&pings).unwrap();
    assert!(taken < pings.len());
    assert!(session.peer.poll_room().is_pending() && session.peer.waits_for_output());
    assert!(!session.peer.extend(), "the reserve is for readers");
    // As the driver does when reading pauses, because it sees no answers then.
    session.wire.outbound.pause_pacing(true);
    assert_eq!(session.round().len() * 12, taken);
    assert!(session.peer.poll_room().is_ready());
    session.feed(&pings[taken..]);
    assert_eq!(session.round().len() * 12, pings.len() - taken);
}

/// Feeds frames until the peer is told off, and returns their number.
fn flood(session: &mut Session, mut frame: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for n in 0..100_000 {
        let frame = frame(n);
        match session.peer.decode(&frame) {
            Ok(taken) => assert_eq!(taken, frame.len()),
            Err(EndCause::ProtocolError { .. }) => return n,
            Err(other) => panic!("{other:?}"),
        }
        session.round();
    }
    panic!("the flood was never stopped");
}

#[tokio::test(start_paused = true)]
async fn floods_of_frames_that_move_nothing_are_stopped() {
    let floods: [&dyn Fn(u32) -> Vec<u8>; 7] = [
        &|n| control(6, &(2 * n + 1).to_be_bytes()),
        &|_| control(4, &[0; 4]),
        &|_| control(9, &[0; 8]),
        &|_| data_frame(9, false, b"x"),
        &|_| data_frame(9, false, b""),
        &|_| data_frame(9, true, b""),
        &|n| {
            let head = if n == 0 { "7801" } else { "" };
            let block = fixture::bytes(&format!("{head}000400fbff00000000000000ffff"));
            control(8, &[&[0, 0, 0, 1], &*block].concat())
        },
    ];
    for frame in floods {
        let (mut session, _pairs) = Session::ports();
        assert_eq!(flood(&mut session, frame), 10_000);
    }
}

/// `kubectl exec -i` goes on sending its stdin when the command has closed it, and does so even
/// behind the FIN with which it answers ours.
#[tokio::test(start_paused = true)]
async fn input_that_flows_on_is_no_flood() {
    let mut session = Session::command();
    let stdin = ChannelReader::new(Arc::clone(&session.wire), 0);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        session.syn(stream, &[("streamtype", kind)]);
    }
    drop(stdin);
    session.round();
    let before = session.peer.ignored();
    session.fin(3);
    for _ in 0..20_000 {
        session.data(3, b"input");
    }
    assert_eq!(session.peer.ignored() - before, 20_000);
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_are_stopped() {
    let (mut session, mut pairs) = Session::ports();
    let mut refused = 0;
    let stopped = flood(&mut session, |n| {
        let id = 4 * n + 1;
        let request = n.to_string();
        let fields = |kind| {
            [
                ("streamtype", kind),
                ("port", "80"),
                ("requestid", &*request),
            ]
        };
        let mut frames = syn(id, &fields("error"), n == 0);
        frames.extend(syn(id + 2, &fields("data"), false));
        for stream in [id, id + 2] {
            spdy::rst_stream(&mut frames, stream, ResetStatus::Cancel);
        }
        // The service takes them, and lets go at once.
        while next(&mut pairs).is_some() {
            refused += 1;
        }
        frames
    });
    assert_eq!(stopped, 500);
    assert!(refused >= 499);
}

/// kubectl resets a stream that this end has ended before: it is how it closes a connection.
#[tokio::test(start_paused = true)]
async fn a_reset_behind_our_end_is_no_flood() {
    let (mut session, mut pairs) = Session::ports();
    for n in 0..3_000 {
        let mut pair = session.connect(&mut pairs, 4 * n + 1);
        session.fin(4 * n + 1);
        pair.answer.reply();
        pair.answer.finish();
        drop((pair.reader, pair.data, pair.errors));
        session.round();
        session.rst(4 * n + 3);
    }
}

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_command() {
    let mut session = Session::command();
    session.wire.outbound.wait_for(Condition::Streams);
    let [mut out, mut err] = [1, 2].map(|id| ChannelWriter::new(Arc::clone(&session.wire), id));
    let mut stdin = ChannelReader::new(Arc::clone(&session.wire), 0);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        assert!(!session.peer.is_complete());
        session.syn(stream, &[("streamtype", kind)]);
        assert_eq!(session.round(), [format!("reply {stream}")]);
    }
    assert!(session.peer.is_complete());
    assert_eq!(session.peer.next_due(), None);
    session.wire.outbound.accept(Condition::Streams);
    session.syn(9, &[("streamtype", "other")]);
    session.syn(11, &[("streamtype", "stdin")]);
    assert_eq!(session.round(), ["reply 9", "rst 11 5"]);
    session.data(9, b"ignored");
    session.data(5, b"ignored");
    assert_eq!(session.peer.ignored(), 2);
    session.data(3, b"input");
    session.fin(3);
    assert_eq!(read(&mut stdin).await.unwrap(), "input");
    assert_eq!(read(&mut stdin).await.unwrap(), "");
    write(&mut out, "out").await.unwrap();
    write(&mut err, "err").await.unwrap();
    drop((out, err));
    // The error stream ends last, whatever happens to its writer.
    drop(ChannelWriter::new(Arc::clone(&session.wire), 3));
    let expected = ["data 5 out", "data 7 err", "fin 5", "fin 7"];
    assert_eq!(session.round(), expected);
    drop(stdin);
    assert_eq!(session.round(), ["fin 3"]);
    session
        .wire
        .outbound
        .last_words(&EndCause::Completed, 3, "status".into());
    session.peer.end_streams(false);
    assert_eq!(session.round(), ["data 1 status", "fin 9", "fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn streams_that_never_come_are_told() {
    let mut session = Session::command();
    session.syn(1, &[("streamtype", "error")]);
    let before = Instant::now();
    assert_eq!(session.expire().await, Some(EndCause::StreamsMissing));
    assert_eq!(before.elapsed(), Duration::from_secs(30));
    assert_eq!(session.peer.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_session_resets_its_streams() {
    let (mut session, mut pairs) = Session::ports();
    let mut answered = session.connect(&mut pairs, 1);
    answered.answer.reply();
    let _new = session.connect_more(&mut pairs, 5);
    session.peer.end_streams(true);
    let expected = ["rst 7 6", "rst 5 6", "rst 3 6", "rst 1 6"];
    assert_eq!(session.round(), expected);
}

impl Session {
    /// Opens a connection while others have something to say.
    fn connect_more(&mut self, pairs: &mut NewPairs, error: u32) -> NewPair {
        self.round();
        self.connect(pairs, error)
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_in_order_ends_every_stream() {
    let (mut session, mut pairs) = Session::ports();
    let mut answered = session.connect(&mut pairs, 1);
    answered.answer.reply();
    let _new = session.connect_more(&mut pairs, 5);
    session.peer.end_all(&End::Error(EndCause::Drained));
    assert!(read(&mut answered.reader).await.is_err());
    session.peer.end_streams(false);
    assert_eq!(session.round(), ["rst 7 3", "fin 5", "fin 3", "fin 1"]);
    // Data that still comes is discarded, and a breach of the protocol is one.
    session.data(3, &vec![0; 2 * WINDOW]);
    assert!(session.peer.decode(&[0x80, 2, 0, 0, 0, 0, 0, 0]).is_err());
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_connection_the_rest_is_taken_without_room() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, &vec![7; WINDOW]);
    session.peer.take_regardless();
    session.data(3, b"rest");
    session.peer.end_all(&End::Error(EndCause::Aborted));
    let mut got = Vec::new();
    assert!(pair.reader.read_to_end(&mut got).await.is_err());
    assert_eq!(got.len(), WINDOW + 4);
}
