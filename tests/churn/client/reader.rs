//! The reading half of a client.

use bytes::{Buf, BytesMut};
use tokio::{io::AsyncRead, time::Instant};

use super::writer::pong;
use crate::{
    facts::Shared,
    halves::{Wish, Wishes, read},
    pattern::{self, From},
    plan::{CHANNELS, Farewell, Plan},
};

pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
const PONG: u8 = 10;

/// A frame from the server.
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: BytesMut,
}

/// Takes a complete frame out of the buffer.
pub(crate) fn parse(buf: &mut BytesMut, facts: &Shared) -> Option<Frame> {
    let head = buf.get(..2)?;
    let (first, len) = (head[0], head[1]);
    if first & 0x70 != 0 || len & 0x80 != 0 {
        let wrong = format!("a head of {first:x} {len:x}");
        facts.borrow_mut().wrong.push(wrong);
    }
    let (head, len) = match len & 0x7f {
        126 => (4, u64::from(buf.get(2..4)?.get_u16())),
        127 => (10, buf.get(2..10)?.get_u64()),
        len => (2, u64::from(len)),
    };
    let len = len as usize;
    if buf.len() < head + len {
        return None;
    }
    buf.advance(head);
    Some(Frame {
        fin: first & 0x80 != 0,
        opcode: first & 0x0f,
        payload: buf.split_to(len),
    })
}

pub(super) struct Reader<'a> {
    plan: &'a Plan,
    facts: &'a Shared,
    wishes: &'a Wishes,
    base64: bool,
    /// The channel and the payload of a message whose end is to come.
    message: Option<(u8, Vec<u8>)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(plan: &'a Plan, facts: &'a Shared, wishes: &'a Wishes) -> Self {
        Self {
            plan,
            facts,
            wishes,
            base64: plan.setup.subprotocol.contains("base64"),
            message: None,
        }
    }

    /// Reads to the end of the connection. `early` are bytes that have been read.
    pub(super) async fn run(mut self, io: impl AsyncRead + Unpin, early: BytesMut) {
        let (plan, facts) = (self.plan, self.facts);
        read(plan, facts, io, early, |buf| {
            while let Some(frame) = parse(buf, facts) {
                self.take(frame);
            }
        })
        .await;
    }

    fn take(&mut self, frame: Frame) {
        if self.facts.borrow().close.is_some() {
            self.wrong("a frame behind the Close".into());
        }
        let control = frame.opcode >= 8;
        if control && (!frame.fin || frame.payload.len() > 125) {
            self.wrong(format!("a control frame of {} bytes", frame.payload.len()));
        }
        match frame.opcode {
            0..=2 => self.data(&frame),
            CLOSE => self.closed(&frame.payload),
            PING if self.plan.setup.answers_pings => {
                self.wishes.push(Wish::Frame(pong(&frame.payload)));
            }
            PING => {}
            PONG => {
                let payload = frame.payload.to_vec();
                self.facts.borrow_mut().pongs.push(payload);
            }
            opcode => self.wrong(format!("an opcode of {opcode}")),
        }
    }

    fn data(&mut self, frame: &Frame) {
        let expected = match (self.message.is_some(), self.base64) {
            (true, _) => 0,
            (false, true) => 1,
            (false, false) => 2,
        };
        if frame.opcode != expected {
            self.wrong(format!("{} where {expected} is expected", frame.opcode));
            return;
        }
        let (channel, payload) = match &self.message {
            Some((channel, _)) => (*channel, &frame.payload[..]),
            None => match frame.payload.split_first() {
                Some((first, rest)) if self.base64 => (first.wrapping_sub(b'0'), rest),
                Some((first, rest)) => (*first, rest),
                None => return self.wrong("a message without a channel".into()),
            },
        };
        if usize::from(channel) >= CHANNELS {
            return self.wrong(format!("a message for channel {channel}"));
        }
        let Some(payload) = self.decode(payload) else {
            return self.wrong("no base64".into());
        };
        let message = self.message.get_or_insert_with(|| (channel, Vec::new()));
        message.1.extend_from_slice(&payload);
        if frame.fin
            && let Some((channel, payload)) = self.message.take()
        {
            self.message(channel, payload);
        }
    }

    /// Each frame of base64 has its own padding.
    fn decode(&self, payload: &[u8]) -> Option<Vec<u8>> {
        use base64::Engine;
        match self.base64 {
            true => base64::engine::general_purpose::STANDARD
                .decode(payload)
                .ok(),
            false => Some(payload.to_vec()),
        }
    }

    fn message(&self, channel: u8, payload: Vec<u8>) {
        let mut facts = self.facts.borrow_mut();
        let facts = &mut *facts;
        let at = &mut facts.received[usize::from(channel)];
        if facts.odd.is_some() {
            facts
                .wrong
                .push(format!("a message on {channel} behind the last words"));
        }
        if pattern::is_at(From::Service, channel, *at, &payload) {
            *at += payload.len() as u64;
            facts.messages.push((channel, payload.len()));
            facts.came_at.push(Instant::now());
        } else {
            facts.odd = Some((channel, payload));
        }
    }

    /// Handles the server's Close.
    fn closed(&mut self, payload: &[u8]) {
        let code = payload.get(..2).map(|mut code| code.get_u16());
        // After a breach of the protocol, the Close takes the place of the rest of a message.
        let fault = matches!(code, Some(1002 | 1007 | 1009));
        if self.message.is_some() && !fault {
            self.wrong("a Close inside a message".into());
        }
        self.facts.borrow_mut().close = Some(code);
        match self.plan.setup.farewell {
            Farewell::Answer => self.wishes.push(Wish::Close(code)),
            Farewell::Silence(_) => {}
            Farewell::Fin => self.wishes.push(Wish::Fin),
            Farewell::Cut => self.wishes.push(Wish::Cut),
        }
    }

    fn wrong(&self, what: String) {
        self.facts.borrow_mut().wrong.push(what);
    }
}
