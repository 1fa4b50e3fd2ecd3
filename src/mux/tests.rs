//! Random messages through a decoder, against a model that has a vector of bytes for each channel.
//!
//! The tests model a small driver, with a small window and readers that take chunks at any time.
//! The driver feeds as much as there is room for, and continues after a pause only when it is
//! woken. A reader that has found nothing takes again only when it is woken.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use ::base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{collection::vec, option, prelude::*, sample::Index};
use tokio_test::task::{Spawn, spawn};

use super::Mux;
use crate::{
    error::EndCause,
    frame::{Decoder, Role},
    protocol::Format,
    wire::{Chunk, End, StallReserve, Take, TotalReserve, Turn, Wire, WireConfig},
};

/// The largest receive window. It is two chunks of a pipe, so that most streams pause.
const WINDOW: usize = 32 * 1024;
const CHUNK: usize = 16 * 1024;
/// The stall reserve of all channels together.
const RESERVE: usize = 2 * CHUNK;

/// The readable channels among 0 to 4. Channel 1 is writable, and channel 3 is neither.
const READABLE: [u8; 3] = [0, 2, 4];
const CHANNELS: usize = 5;
const CLOSE: u8 = 255;

/// One message from the peer.
#[derive(Clone, Debug)]
struct Message {
    channel: u8,
    payload: Vec<u8>,
    text: bool,
    /// The places where fragments end.
    cuts: Vec<Index>,
    /// There is a Ping between the fragments.
    ping: bool,
    /// The place of a line break in the base64 text. The line break has no meaning.
    line_break: Option<Index>,
}

#[derive(Clone, Debug)]
enum Said {
    Message(Message),
    /// A message without channel and payload.
    Empty,
    /// A CLOSE, which is `[255, channel]`.
    Close(u8),
}

/// An event in the life of the session.
#[derive(Clone, Debug)]
enum Act {
    Feed(usize),
    /// A reader takes the next chunk and holds it.
    Take(usize),
    /// The reader has read the chunk, or keeps its bytes for good.
    Release(usize, bool),
    Drop(usize),
    /// The driver extends the window of the channel for which reading is paused.
    Extend,
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![4 => 0..130_usize, 2 => 0..3000_usize, 2 => 0..40_000_usize];
    (len, any::<u8>()).prop_map(|(len, first)| {
        // Every byte depends on its place, so that a lost or duplicated byte is noticed.
        (0..len)
            .map(|at| first.wrapping_add((at % 251) as u8))
            .collect()
    })
}

fn message() -> impl Strategy<Value = Message> {
    let channel = prop_oneof![8 => 0..5_u8, 1 => 5..=255_u8];
    let cuts = prop_oneof![2 => Just(Vec::new()), 1 => vec(any::<Index>(), 0..5)];
    let line_break = option::of(any::<Index>());
    let rest = (cuts, any::<bool>(), line_break);
    (channel, payload(), any::<bool>(), rest).prop_map(
        |(channel, payload, text, (cuts, ping, line_break))| Message {
            channel,
            payload,
            text,
            cuts,
            ping,
            line_break,
        },
    )
}

fn said() -> impl Strategy<Value = Vec<Said>> {
    let one = prop_oneof![
        12 => message().prop_map(Said::Message),
        1 => Just(Said::Empty),
        1 => (0..CHANNELS as u8).prop_map(Said::Close),
    ];
    vec(one, 0..20)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let reader = 0..READABLE.len();
    let one = prop_oneof![
        6 => prop_oneof![1..20_usize, 1..5000_usize, 1..70_000_usize].prop_map(Act::Feed),
        4 => reader.clone().prop_map(Act::Take),
        4 => (reader.clone(), any::<bool>()).prop_map(|(at, keep)| Act::Release(at, keep)),
        1 => reader.prop_map(Act::Drop),
        1 => Just(Act::Extend),
    ];
    vec(one, 0..120)
}

/// Returns a receive window. The smallest is a byte, which is rounded up to a chunk.
fn window() -> impl Strategy<Value = usize> {
    prop_oneof![1 => Just(1), 1 => Just(CHUNK), 2 => Just(WINDOW)]
}

/// The bytes of a connection, and the meaning of each.
#[derive(Default)]
struct Script {
    bytes: Vec<u8>,
    /// The channel that each byte belongs to, if the byte is payload.
    owner: Vec<Option<u8>>,
    /// The spans of the messages.
    spans: Vec<Span>,
    closes: Vec<(usize, u8)>,
    /// The offsets where the heads of messages end.
    heads: Vec<usize>,
}

/// The span of a message, from where its channel is known to where it is over.
struct Span {
    known: usize,
    over: usize,
    channel: u8,
    payload: Vec<u8>,
    /// The offsets of the payload's bytes, or base64 characters, in the script.
    at: Vec<usize>,
}

impl Span {
    /// Returns how many bytes of the payload have arrived when `fed` bytes were fed.
    fn there(&self, fed: usize, format: Format) -> usize {
        let there = self.at.partition_point(|at| *at < fed);
        match format {
            Format::Base64 => (there / 4 * 3).min(self.payload.len()),
            _ => there,
        }
    }
}

impl Script {
    fn frame(
        &mut self,
        fin: bool,
        opcode: u8,
        payload: &[u8],
        owner: impl Fn(usize) -> Option<u8>,
    ) {
        const KEY: [u8; 4] = [0x9a, 0x00, 0x41, 0xff];
        self.bytes.push(u8::from(fin) << 7 | opcode);
        match payload.len() {
            len @ 0..=125 => self.bytes.push(0x80 | len as u8),
            len @ 126..=0xffff => {
                self.bytes.push(0x80 | 126);
                self.bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                self.bytes.push(0x80 | 127);
                self.bytes.extend((len as u64).to_be_bytes());
            }
        }
        self.bytes.extend(KEY);
        if matches!(opcode, 1 | 2) {
            self.heads.push(self.bytes.len());
        }
        self.owner.resize(self.bytes.len(), None);
        let masked = payload.iter().zip(KEY.iter().cycle());
        self.bytes.extend(masked.map(|(byte, key)| byte ^ key));
        self.owner.extend((0..payload.len()).map(owner));
    }

    fn message(&mut self, message: Message, format: Format, half_close: bool) {
        let Message {
            channel,
            mut payload,
            mut text,
            cuts,
            ping,
            line_break,
        } = message;
        if half_close && channel == CLOSE {
            return;
        }
        let mut body = match format {
            Format::Base64 => {
                let encoded = STANDARD.encode(&payload).into_bytes();
                [&[b'0'.wrapping_add(channel)], encoded.as_slice()].concat()
            }
            _ => {
                if text {
                    payload.iter_mut().for_each(|byte| *byte &= 0x7f);
                }
                [&[channel], payload.as_slice()].concat()
            }
        };
        text &= body[0] < 0x80;
        if let (Format::Base64, Some(at)) = (format, line_break) {
            body.insert(1 + at.index(body.len()), b'\n');
        }
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        ends.push(body.len());
        ends.sort_unstable();
        let (mut start, mut at, mut known) = (0, Vec::new(), None);
        for (nth, end) in ends.iter().copied().enumerate() {
            let fin = nth + 1 == ends.len();
            let opcode = match (nth, text) {
                (0, true) => 1,
                (0, false) => 2,
                _ => 0,
            };
            let whose = READABLE.contains(&channel).then_some(channel);
            self.frame(fin, opcode, &body[start..end], |nth| {
                if start + nth == 0 { None } else { whose }
            });
            let first = self.bytes.len() - (end - start);
            for (place, byte) in body.iter().enumerate().take(end).skip(start) {
                let offset = first + place - start;
                if place == 0 {
                    known = Some(offset);
                } else if *byte != b'\n' || format != Format::Base64 {
                    at.push(offset);
                }
            }
            start = end;
            if ping && !fin {
                self.frame(true, 9, b"are you there", |_| None);
            }
        }
        if let Some(known) = known {
            self.spans.push(Span {
                known,
                over: self.bytes.len(),
                channel,
                payload,
                at,
            });
        }
    }

    fn new(said: Vec<Said>, format: Format, half_close: bool) -> Self {
        let mut script = Self::default();
        for said in said {
            match said {
                Said::Message(message) => script.message(message, format, half_close),
                Said::Empty => script.frame(true, 2, b"", |_| None),
                Said::Close(channel) if half_close => {
                    script.frame(true, 2, &[CLOSE, channel], |_| None);
                    script.closes.push((script.bytes.len(), channel));
                }
                Said::Close(_) => {}
            }
        }
        script
    }

    /// Returns the offset where a channel was ended, if that was within the first `fed` bytes.
    fn closed(&self, channel: u8, fed: usize) -> Option<usize> {
        let mut closes = self.closes.iter();
        let first = closes.find(|(_, closed)| *closed == channel)?.0;
        (first <= fed).then_some(first)
    }

    /// Returns all bytes that a channel has received when `fed` bytes were fed.
    fn model(&self, channel: u8, fed: usize, format: Format) -> Vec<u8> {
        let pieces = self.pieces(channel, fed, format);
        pieces.flatten().copied().collect()
    }

    /// Returns the number of bytes that a channel has received when `fed` bytes were fed.
    fn came(&self, channel: u8, fed: usize, format: Format) -> usize {
        self.pieces(channel, fed, format).map(<[u8]>::len).sum()
    }

    fn pieces(&self, channel: u8, fed: usize, format: Format) -> impl Iterator<Item = &[u8]> {
        let until = self.closed(channel, fed).unwrap_or(usize::MAX);
        let spans = self
            .spans
            .iter()
            .filter(move |span| span.channel == channel);
        spans
            .filter(move |span| span.known < until)
            .map(move |span| &span.payload[..span.there(fed, format)])
    }

    /// Returns the channel of the message inside which the feeding stopped.
    fn inside(&self, fed: usize) -> Option<u8> {
        let mut spans = self.spans.iter();
        let span = spans.find(|span| span.known < fed && fed < span.over)?;
        Some(span.channel)
    }
}

/// A model of a reader, and the task that it runs in.
struct Reader {
    got: Vec<u8>,
    held: Option<Chunk>,
    dropped: bool,
    end: Option<End>,
    task: Spawn<()>,
    /// The last poll was pending, so that only a wake-up makes the next one.
    waits: bool,
}

impl Reader {
    fn new() -> Self {
        Self {
            got: Vec::new(),
            held: None,
            dropped: false,
            end: None,
            task: spawn(()),
            waits: false,
        }
    }
}

struct Play {
    wire: Arc<Wire>,
    mux: Mux,
    decoder: Decoder,
    script: Script,
    format: Format,
    /// The receive window in whole chunks.
    window: usize,
    fed: usize,
    /// The number of bytes that have arrived. Those after `fed` wait for room.
    came: usize,
    paused: bool,
    /// The sum of all extensions of windows.
    extended: usize,
    readers: [Reader; READABLE.len()],
}

impl Play {
    fn new(script: Script, format: Format, half_close: bool, window: usize) -> Self {
        let config = WireConfig {
            format,
            channels: CHANNELS,
            receive_window: window,
            send_budget: 1,
            high_water: 1,
            stamps: false,
        };
        let reserve = StallReserve::new(RESERVE, &TotalReserve::new(8 * RESERVE));
        let readable = |id| READABLE.contains(&(id as u8));
        let wire = Wire::new(Turn::new(), &config, reserve, readable, |id| id == 1);
        wire.turn.begin();
        Self {
            mux: Mux::new(Arc::clone(&wire), format, half_close),
            decoder: Decoder::new(Role::Server, 1 << 20, None),
            wire,
            script,
            format,
            window: window.next_multiple_of(CHUNK),
            fed: 0,
            came: 0,
            paused: false,
            extended: 0,
            readers: std::array::from_fn(|_| Reader::new()),
        }
    }

    fn room(&self, channel: u8) -> usize {
        self.wire.inbound.pipe(channel).unwrap().room()
    }

    fn feed(&mut self, more: usize) {
        self.came = (self.came + more).min(self.script.bytes.len());
        if self.paused && !self.wire.turn.begin() {
            return;
        }
        self.paused = false;
        while self.fed < self.came {
            let bytes = &self.script.bytes[self.fed..self.came];
            let fed = self.decoder.decode(bytes, &mut self.mux);
            self.fed += fed.expect("nothing here breaks a rule");
            self.mux.commit();
            if self.fed < self.came && self.mux.poll_room().is_pending() {
                self.paused = true;
                break;
            }
        }
        if self.paused {
            // Only the channel of the next payload byte may be the reason.
            let owner = self.script.owner[self.fed].expect("a payload byte waits");
            let wanted = if self.format == Format::Base64 { 3 } else { 1 };
            assert!(self.room(owner) < wanted, "paused with room");
            let _ = self.wire.turn.begin();
        }
    }

    fn take(&mut self, at: usize) {
        let reader = &mut self.readers[at];
        if reader.held.is_some() || reader.dropped || reader.end.is_some() {
            return;
        }
        if reader.waits && !reader.task.is_woken() {
            return;
        }
        let pipe = self.wire.inbound.pipe(READABLE[at]).unwrap();
        let taken = reader.task.enter(|cx, _| pipe.poll_take(cx));
        reader.waits = taken.is_pending();
        match taken {
            Poll::Ready(Take::Chunk(chunk)) => {
                reader.got.extend_from_slice(chunk.bytes());
                reader.held = Some(chunk);
            }
            Poll::Ready(Take::End(end)) => reader.end = Some(end),
            Poll::Pending => {}
        }
    }

    fn release(&mut self, at: usize, keep: bool) {
        if let Some(chunk) = self.readers[at].held.take() {
            self.wire
                .inbound
                .release(READABLE[at], (!keep).then_some(chunk));
        }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Feed(more) => self.feed(more),
            Act::Take(at) => self.take(at),
            Act::Release(at, keep) => self.release(at, keep),
            Act::Drop(at) => {
                self.release(at, false);
                self.readers[at].dropped = true;
                self.wire.inbound.discard(READABLE[at]);
            }
            Act::Extend => {
                if self.paused && self.mux.extend() {
                    self.extended += CHUNK;
                    self.wire.turn.wake_driver();
                }
            }
        }
        self.check();
    }

    /// Checks the invariants.
    fn check(&self) {
        for (at, reader) in self.readers.iter().enumerate() {
            let channel = READABLE[at];
            let came = self.script.came(channel, self.fed, self.format);
            assert!(reader.got.len() <= came, "channel {channel}");
            let deaf = reader.dropped || self.script.closed(channel, self.fed).is_some();
            if deaf {
                continue;
            }
            let waiting = came - reader.got.len();
            let room = self.room(channel);
            assert!(
                room + waiting <= self.window + self.extended.min(RESERVE),
                "channel {channel}: {waiting} bytes, and room for {room}"
            );
        }
    }

    /// Reads everything, until nothing more can arrive.
    fn read_all(&mut self) {
        loop {
            self.feed(0);
            let fed = self.fed;
            for at in 0..self.readers.len() {
                self.release(at, false);
                self.take(at);
                while self.readers[at].held.is_some() {
                    self.release(at, false);
                    self.take(at);
                }
            }
            self.check();
            self.feed(0);
            if self.fed == fed {
                return;
            }
        }
    }
}

fn play(
    script: Script,
    format: Format,
    half_close: bool,
    window: usize,
    acts: &[Act],
    all: bool,
    code: Option<u16>,
) {
    let mut play = Play::new(script, format, half_close, window);
    for act in acts {
        play.act(act);
    }
    if all {
        play.came = play.script.bytes.len();
    }
    play.read_all();
    assert_eq!(play.fed, play.came, "a wake-up for room was lost");
    let said = play
        .script
        .heads
        .first()
        .is_some_and(|end| *end <= play.fed);
    assert_eq!(play.mux.heard.data, said);

    for (at, channel) in READABLE.into_iter().enumerate() {
        let reader = &play.readers[at];
        let came = play.script.model(channel, play.fed, format);
        if reader.dropped {
            assert!(came.starts_with(&reader.got), "channel {channel}");
        } else {
            assert!(reader.got == came, "channel {channel}");
            let closed = play.script.closed(channel, play.fed).is_some();
            assert_eq!(reader.end, closed.then_some(End::Eof), "channel {channel}");
        }
    }
    // The peer's Close ends the other channels.
    let cause = EndCause::PeerClosed {
        code,
        reason: "bye".into(),
    };
    play.mux.end_by_close(&cause);
    let inside = play.script.inside(play.fed);
    for (at, channel) in READABLE.into_iter().enumerate() {
        play.take(at);
        let reader = &play.readers[at];
        if reader.dropped {
            continue;
        }
        let closed = play.script.closed(channel, play.fed).is_some();
        let well = matches!(code, None | Some(1000)) && !half_close && inside != Some(channel);
        let end = if closed || well {
            End::Eof
        } else {
            End::Error(cause.clone())
        };
        assert_eq!(reader.end, Some(end.clone()), "channel {channel}");
        // An end stays what it was.
        let pipe = play.wire.inbound.pipe(channel).unwrap();
        let again = pipe.poll_take(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(again, Poll::Ready(Take::End(same)) if same == end));
    }
}

proptest! {
    #[test]
    fn every_channel_gets_its_bytes_in_order(
        said in said(),
        acts in acts(),
        half_close in any::<bool>(),
        window in window(),
        all in any::<bool>(),
        code in prop_oneof![Just(None), Just(Some(1000)), Just(Some(1001))],
    ) {
        let script = Script::new(said, Format::Binary, half_close);
        play(script, Format::Binary, half_close, window, &acts, all, code);
    }

    #[test]
    fn every_channel_gets_its_bytes_in_order_in_base64(
        said in said(),
        acts in acts(),
        window in window(),
        all in any::<bool>(),
        code in prop_oneof![Just(None), Just(Some(1000)), Just(Some(1001))],
    ) {
        let script = Script::new(said, Format::Base64, false);
        play(script, Format::Base64, false, window, &acts, all, code);
    }
}

/// Feeds whole messages of these opcodes and payloads to a mux with one channel.
fn feed_bare(format: Format, messages: &[(u8, &[u8])]) -> (Arc<Wire>, Mux, Result<(), EndCause>) {
    let config = WireConfig {
        format,
        channels: 1,
        receive_window: WINDOW,
        send_budget: 1,
        high_water: 1,
        stamps: false,
    };
    let reserve = StallReserve::new(0, &TotalReserve::new(0));
    let wire = Wire::new(Turn::new(), &config, reserve, |_| true, |_| false);
    let mut mux = Mux::new(Arc::clone(&wire), format, false);
    let mut script = Script::default();
    for (opcode, payload) in messages {
        script.frame(true, *opcode, payload, |_| None);
    }
    let mut decoder = Decoder::new(Role::Server, u64::MAX, None);
    let fed = decoder.decode(&script.bytes, &mut mux);
    mux.commit();
    (wire, mux, fed.map(drop))
}

fn take_all(wire: &Wire) -> Vec<u8> {
    let pipe = wire.inbound.pipe(0).unwrap();
    let mut got = Vec::new();
    while let Poll::Ready(Take::Chunk(chunk)) =
        pipe.poll_take(&mut Context::from_waker(Waker::noop()))
    {
        got.extend_from_slice(chunk.bytes());
        let _ = pipe.release(Some(chunk));
    }
    got
}

#[test]
fn messages_without_a_channel_are_those_of_channel_0() {
    for (format, messages) in [
        (
            Format::BareBinary,
            [(2, &b"\x01a"[..]), (1, b""), (1, b"b")],
        ),
        (
            Format::BareBase64,
            [(1, &b"AWE="[..]), (1, b""), (2, b"Yg==")],
        ),
    ] {
        let (wire, mux, fed) = feed_bare(format, &messages);
        assert_eq!(fed, Ok(()));
        assert_eq!(take_all(&wire), b"\x01ab", "{format:?}");
        let (received, _) = wire.traffic()[0];
        assert_eq!((received.messages, received.bytes), (3, 3), "{format:?}");
        assert_eq!(mux.ignored, 0);
    }
}

#[test]
fn base64_without_a_channel_ends_with_its_message() {
    let (_, _, fed) = feed_bare(Format::BareBase64, &[(1, b"AWE"), (1, b"=")]);
    assert!(matches!(fed, Err(EndCause::InvalidText { .. })), "{fed:?}");
}
