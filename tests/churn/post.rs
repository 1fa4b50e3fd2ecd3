//! The client of SPDY, which opens a stream for each channel of a command, or two for each connection.

mod ports;
mod reader;
mod writer;

use std::pin::pin;

use bytes::BytesMut;
use futures_util::future::select;
use tokio::io::{AsyncRead, AsyncWrite};

use self::{reader::Reader, writer::Writer};
use crate::{
    facts::Shared,
    frames::ping,
    halves::{Line, Wishes, Writing},
    pattern::{self, From},
    plan::{Kind, Plan},
};

/// The query of a command with all of these channels.
pub(crate) const QUERY: &str = "command=x&stdin=1&stdout=1&stderr=1";

/// The channels and the types of their streams, in the order in which they are opened.
const STREAMS: [(u8, &str); 4] = [(3, "error"), (0, "stdin"), (1, "stdout"), (2, "stderr")];

/// The only channel with input.
const STDIN: u8 = 0;

/// Returns the stream of a channel.
fn stream_of(channel: u8) -> u32 {
    let at = STREAMS.iter().position(|(id, _)| *id == channel);
    at.map_or(99, |at| 2 * at as u32 + 1)
}

/// Returns the channel of a stream.
fn channel_of(stream: u32) -> Option<u8> {
    let found = STREAMS.iter().find(|(id, _)| stream_of(*id) == stream);
    found.map(|(id, _)| *id)
}

impl<W: AsyncWrite + Unpin> Line<'_, W> {
    /// Sends the next PING of a client, whose numbers are odd.
    async fn ping(&mut self) {
        let id = 2 * self.facts.borrow().pings.len() as u32 + 3;
        if !self.gone {
            let payload = id.to_be_bytes().to_vec();
            self.facts.borrow_mut().pings.push(payload);
        }
        self.put(&ping(id), usize::MAX).await;
    }

    /// Notes that bytes are about to be sent, and returns them.
    fn begin(&self, channel: u8, len: usize) -> Vec<u8> {
        let mut facts = self.facts.borrow_mut();
        let sent = &mut facts.sent[usize::from(channel)];
        let bytes = pattern::bytes(From::Client, channel, sent.begun, len);
        sent.begun += len as u64;
        sent.all += len as u64;
        bytes
    }

    /// Sends a frame of data that announces this many bytes, and nothing behind it.
    async fn tear(&mut self, mut frame: Vec<u8>, announced: usize) {
        let announced = (announced as u32).to_be_bytes();
        frame[5..8].copy_from_slice(&announced[1..]);
        self.put(&frame, usize::MAX).await;
        self.gone = true;
    }
}

/// Runs a client whose handshake is over. `early` are bytes that came with the answer.
pub(crate) async fn run<T>(plan: &Plan, facts: &Shared, io: T, early: BytesMut)
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (read, write) = tokio::io::split(io);
    let wishes = Wishes::default();
    let reader = Reader::new(plan, facts, &wishes).run(read, early);
    let line = Line::new(plan, facts, &wishes, write);
    // The writer returns only when it cuts the connection, which drops both halves.
    match plan.setup.kind {
        Kind::Ports => {
            select(pin!(ports::Writer::new(line).follow()), pin!(reader)).await;
        }
        Kind::Channels | Kind::Command => {
            select(pin!(Writer::new(line).run()), pin!(reader)).await;
        }
    }
}
