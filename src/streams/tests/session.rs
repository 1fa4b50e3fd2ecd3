//! A session without a driver, whose client is the test.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, advance},
};

use crate::{
    ChannelReader, ChannelWriter,
    error::EndCause,
    protocol::Format,
    spdy::{self, ResetStatus, write_headers},
    streams::{NewPair, NewPairs, Roles, StreamMux, handoff},
    wire::{StallReserve, TotalReserve, Transport, Turn, Wire, WireConfig, fixture::SharedLine},
};

pub(super) const WINDOW: usize = 64 * 1024;

/// The stall reserve of the session. That of all sessions is so large that all of it is lent at once.
pub(super) const RESERVE: usize = 1 << 20;

/// A session without a driver. Its client is the test.
pub(crate) struct Session {
    pub(crate) wire: Arc<Wire>,
    pub(crate) mux: StreamMux,
    sent: SharedLine,
    begun: bool,
    /// The numbers of PINGs that the client answers later, if it does not at once.
    pub(super) unanswered: Option<Vec<u32>>,
}

impl Session {
    fn new(
        channels: usize,
        reserve: StallReserve,
        roles: impl FnOnce(&Arc<Wire>) -> Roles,
    ) -> Self {
        let config = WireConfig {
            format: Format::Spdy,
            channels,
            receive_window: WINDOW,
            send_budget: 1 << 16,
            high_water: 1 << 18,
            stamps: false,
        };
        let readable = |channel| matches!(channel, 0 | 4);
        let writable = |channel| matches!(channel, 1..=3);
        let wire = Wire::new(Turn::new(), &config, reserve, readable, writable);
        let sent = SharedLine::default();
        sent.with(|line| line.room = usize::MAX);
        let Transport { write, .. } = Transport::whole(sent.clone());
        wire.outbound.install(write);
        wire.turn.begin();
        Self {
            mux: StreamMux::new(Arc::clone(&wire), roles(&wire)),
            wire,
            sent,
            begun: false,
            unanswered: None,
        }
    }

    /// Returns a session of connections.
    pub(crate) fn ports() -> (Self, NewPairs) {
        Self::ports_with(default_reserve(), None)
    }

    /// Returns a session of connections that takes what it borrows from `reserve`, and resets a
    /// connection that holds it up for as long as `stall`.
    pub(super) fn ports_with(reserve: StallReserve, stall: Option<Duration>) -> (Self, NewPairs) {
        let mut pairs = None;
        let session = Self::new(0, reserve, |wire| {
            let (handoff, new) = handoff(wire);
            pairs = Some(new);
            Roles::ports(handoff).reset_stalled(stall)
        });
        (session, pairs.unwrap())
    }

    /// Returns a session of a command without a terminal.
    pub(super) fn command() -> Self {
        Self::new(5, default_reserve(), |_| {
            Roles::command([true, true, true, true, false].into_iter())
        })
    }

    pub(super) fn feed(&mut self, frames: &[u8]) {
        assert_eq!(self.feed_some(frames), frames.len());
    }

    /// Feeds as many bytes as there is room for, as the driver does. Returns their number.
    pub(super) fn feed_some(&mut self, frames: &[u8]) -> usize {
        let mut fed = 0;
        loop {
            fed += self.mux.decode(&frames[fed..]).unwrap();
            if fed == frames.len() || self.mux.poll_room().is_pending() {
                return fed;
            }
        }
    }

    /// Returns whether the driver was woken since the last call.
    pub(super) fn is_driver_due(&self) -> bool {
        self.wire.turn.begin()
    }

    /// Opens a stream with these headers, in a stored block.
    pub(super) fn syn(&mut self, stream: u32, fields: &[(&str, &str)]) {
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

    pub(in crate::streams) fn rst(&mut self, stream: u32) {
        let mut frame = Vec::new();
        spdy::rst_stream(&mut frame, stream, ResetStatus::Cancel);
        self.feed(&frame);
    }

    /// Ends the round, and returns the frames that have been sent. PINGs of this end are answered,
    /// and not among them.
    pub(crate) fn round(&mut self) -> Vec<String> {
        let mut lines = self.frames();
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

    /// Ends the round, and returns all frames that have been sent.
    pub(super) fn frames(&mut self) -> Vec<String> {
        self.mux.end_round();
        self.wire.outbound.begin_turn(true);
        self.wire.outbound.end_turn(&mut Vec::new());
        let sent = self.sent.with(|line| std::mem::take(&mut line.out));
        lines(&sent)
    }

    /// Opens a connection, and takes it.
    pub(in crate::streams) fn connect(&mut self, pairs: &mut NewPairs, error: u32) -> NewPair {
        let request = error.to_string();
        self.open(error, "error", &request);
        self.open(error + 2, "data", &request);
        assert_eq!(self.round(), [format!("reply {error}")]);
        next(pairs).expect("a pair is complete")
    }

    /// Opens a connection while others have something to say.
    pub(super) fn connect_more(&mut self, pairs: &mut NewPairs, error: u32) -> NewPair {
        self.round();
        self.connect(pairs, error)
    }

    /// Advances the time to the next deadline, and handles it.
    pub(super) async fn expire(&mut self) -> Option<EndCause> {
        let at = self.mux.next_due().expect("a deadline is set");
        advance(at - Instant::now()).await;
        self.mux.expire(Instant::now())
    }
}

pub(super) fn default_reserve() -> StallReserve {
    StallReserve::new(RESERVE, &TotalReserve::new(16 * RESERVE))
}

pub(in crate::streams) fn syn(stream: u32, fields: &[(&str, &str)], first: bool) -> Vec<u8> {
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

pub(in crate::streams) fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((body.len() as u32).to_be_bytes());
    frame.extend(body);
    frame
}

pub(in crate::streams) fn data_frame(stream: u32, fin: bool, data: &[u8]) -> Vec<u8> {
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

pub(in crate::streams) fn next(pairs: &mut NewPairs) -> Option<NewPair> {
    match pairs.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(next) => next,
        Poll::Pending => None,
    }
}

pub(in crate::streams) fn is_over(pairs: &mut NewPairs) -> bool {
    let next = pairs.poll_next(&mut Context::from_waker(Waker::noop()));
    matches!(next, Poll::Ready(None))
}

/// Reads what has arrived, or returns the error.
pub(super) async fn read(reader: &mut ChannelReader) -> io::Result<String> {
    let mut buffer = [0; 64];
    let n = tokio::time::timeout(Duration::ZERO, reader.read(&mut buffer)).await??;
    Ok(String::from_utf8_lossy(&buffer[..n]).into_owned())
}

pub(in crate::streams) async fn write(writer: &mut ChannelWriter, data: &str) -> io::Result<()> {
    tokio::time::timeout(Duration::ZERO, writer.write_all(data.as_bytes())).await?
}
