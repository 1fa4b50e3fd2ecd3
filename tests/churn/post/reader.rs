//! The reading half of a client over SPDY.

use bytes::{Buf, Bytes, BytesMut};
use tokio::{io::AsyncRead, time::Instant};

use super::{channel_of, ports};
use crate::{
    client::{BINARY, CLOSE, Frame, PING, parse, pong},
    facts::{Facts, Shared},
    frames::ping,
    halves::{Wish, Wishes, read},
    pattern::{self, From},
    plan::{Farewell, Kind, Plan},
    service::LAST,
};

pub(super) struct Reader<'a> {
    plan: &'a Plan,
    facts: &'a Shared,
    wishes: &'a Wishes,
}

/// A stream of the client.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    /// Its data is that of a channel or of a connection.
    Data(u8),
    /// It tells the errors of a connection.
    Error(u8),
}

impl<'a> Reader<'a> {
    pub(super) fn new(plan: &'a Plan, facts: &'a Shared, wishes: &'a Wishes) -> Self {
        Self {
            plan,
            facts,
            wishes,
        }
    }

    /// Reads to the end of the connection. `early` are bytes that have been read.
    pub(super) async fn run(self, io: impl AsyncRead + Unpin, early: BytesMut) {
        let (plan, facts) = (self.plan, self.facts);
        let mut inner = BytesMut::new();
        read(plan, facts, io, early, |buf| {
            if !plan.setup.is_tunnel() {
                while let Some(()) = self.take(buf) {}
                return;
            }
            while let Some(frame) = parse(buf, facts) {
                self.unwrap(&frame, &mut inner);
            }
        })
        .await;
    }

    /// Handles a frame of the WebSocket around SPDY.
    fn unwrap(&self, frame: &Frame, inner: &mut BytesMut) {
        if self.facts.borrow().close.is_some() {
            self.wrong("a frame behind the Close".into());
        }
        match frame.opcode {
            0 | BINARY => {
                inner.extend_from_slice(&frame.payload);
                while let Some(()) = self.take(inner) {}
            }
            CLOSE => {
                let code = frame.payload.get(..2).map(|mut code| code.get_u16());
                // After a breach of the protocol, the Close takes the place of the rest of a frame.
                if !inner.is_empty() && !matches!(code, Some(1002 | 1007 | 1009)) {
                    self.wrong("a Close inside a frame".into());
                }
                self.closed(code);
            }
            PING if self.plan.setup.answers_pings => {
                self.wishes.push(Wish::Outer(pong(&frame.payload)));
            }
            _ => {}
        }
    }

    /// Takes a complete frame out of the buffer, and handles it.
    fn take(&self, buf: &mut BytesMut) -> Option<()> {
        let mut head = buf.get(..8)?;
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, len) = (second >> 24, (second & 0xff_ffff) as usize);
        if buf.len() < 8 + len {
            return None;
        }
        buf.advance(8);
        let mut body = buf.split_to(len).freeze();
        let is_fin_of_a_writer = flags == 1 && len == 0;
        if self.facts.borrow().is_going_away {
            self.wrong(format!("a frame {first:x} behind the GOAWAY"));
        }
        match (first, len) {
            (0x8003_0002, 4..) => self.replied(body.get_u32()),
            (0x8003_0003, 8) => self.reset(body.get_u32(), body.get_u32()),
            (0x8003_0006, 4) => {
                let id = body.get_u32();
                if id % 2 == 1 {
                    let pong = id.to_be_bytes().to_vec();
                    self.facts.borrow_mut().pongs.push(pong);
                } else if self.plan.setup.answers_pings {
                    self.wishes.push(Wish::Frame(ping(id)));
                }
            }
            (0x8003_0007, 8) => {
                let _last = body.get_u32();
                self.facts.borrow_mut().is_going_away = true;
                if !self.plan.setup.is_tunnel() {
                    self.closed(Some(body.get_u32() as u16));
                }
            }
            (stream @ 1..=0x7fff_ffff, _) if flags == 0 || is_fin_of_a_writer => {
                let of = self.stream(stream, &self.facts.borrow());
                match of {
                    Some(Stream::Data(channel)) => self.data(channel, body, flags == 1),
                    Some(Stream::Error(connection)) => self.error(connection, &body, flags == 1),
                    None => self.wrong(format!("data of stream {stream}")),
                }
            }
            other => self.wrong(format!("a frame that is never sent: {other:x?}")),
        }
        Some(())
    }

    fn data(&self, channel: u8, payload: Bytes, fin: bool) {
        let mut facts = self.facts.borrow_mut();
        let facts = &mut *facts;
        let channel_at = usize::from(channel);
        if facts.fins[channel_at] {
            facts
                .wrong
                .push(format!("data behind the end of {channel}"));
        }
        facts.fins[channel_at] |= fin;
        facts.data[channel_at].data(fin);
        if payload.is_empty() {
            return;
        }
        if facts.odd.is_some() {
            facts
                .wrong
                .push(format!("data on {channel} behind the last words"));
        }
        let at = &mut facts.received[channel_at];
        let mut output = &payload[..];
        if !pattern::is_at(From::Service, channel, *at, output) {
            // The last words may stand in the same frame.
            output = output.strip_suffix(LAST).unwrap_or_default();
            let last = payload.slice(output.len()..).to_vec();
            facts.odd = Some((channel, last));
        }
        if !pattern::is_at(From::Service, channel, *at, output) {
            facts.wrong.push(format!("other bytes on {channel}"));
        }
        *at += output.len() as u64;
        if !output.is_empty() {
            facts.messages.push((channel, output.len()));
            facts.came_at.push(Instant::now());
        }
    }

    fn stream(&self, stream: u32, facts: &Facts) -> Option<Stream> {
        match self.plan.setup.kind {
            Kind::Ports => ports::stream(stream, facts),
            Kind::Channels | Kind::Command => channel_of(stream).map(Stream::Data),
        }
    }

    fn replied(&self, stream: u32) {
        let mut facts = self.facts.borrow_mut();
        match self.stream(stream, &facts) {
            Some(Stream::Data(channel)) => facts.data[usize::from(channel)].reply(),
            Some(Stream::Error(channel)) => facts.errors[usize::from(channel)].reply(),
            None => facts.wrong.push(format!("a reply to {stream}")),
        }
    }

    fn reset(&self, stream: u32, status: u32) {
        let mut facts = self.facts.borrow_mut();
        match self.stream(stream, &facts) {
            Some(Stream::Data(channel)) => facts.data[usize::from(channel)].reset(status),
            Some(Stream::Error(channel)) => facts.errors[usize::from(channel)].reset(status),
            None if stream < 0x7fff_fff0 => facts.wrong.push(format!("a reset of {stream}")),
            // It shows whether the client is still there.
            None => {}
        }
    }

    fn error(&self, connection: u8, text: &[u8], fin: bool) {
        let mut facts = self.facts.borrow_mut();
        facts.errors[usize::from(connection)].data(fin);
        facts.texts[usize::from(connection)].extend_from_slice(text);
    }

    /// Handles the server's GOAWAY, or the Close of a tunnel.
    fn closed(&self, code: Option<u16>) {
        self.facts.borrow_mut().close = Some(code);
        match self.plan.setup.farewell {
            Farewell::Answer if self.plan.setup.is_tunnel() => self.wishes.push(Wish::Close(code)),
            Farewell::Answer | Farewell::Fin => self.wishes.push(Wish::Fin),
            Farewell::Silence(_) => {}
            Farewell::Cut => self.wishes.push(Wish::Cut),
        }
    }

    fn wrong(&self, what: String) {
        self.facts.borrow_mut().wrong.push(what);
    }
}
