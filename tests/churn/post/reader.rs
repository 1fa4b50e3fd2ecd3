//! The reading half of a client over SPDY.

use bytes::{Buf, Bytes, BytesMut};
use tokio::{io::AsyncRead, time::Instant};

use super::channel_of;
use crate::{
    facts::Shared,
    frames::ping,
    halves::{Wish, Wishes, read},
    pattern::{self, From},
    plan::{Farewell, Plan},
    service::LAST,
};

pub(super) struct Reader<'a> {
    plan: &'a Plan,
    facts: &'a Shared,
    wishes: &'a Wishes,
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
        read(plan, facts, io, early, |buf| {
            while let Some(()) = self.take(buf) {}
        })
        .await;
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
        if self.facts.borrow().close.is_some() {
            self.wrong(format!("a frame {first:x} behind the GOAWAY"));
        }
        match (first, len) {
            (0x8003_0002, 4..) | (0x8003_0003, 8) => {}
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
                self.closed(body.get_u32());
            }
            (stream @ 1..=0x7fff_ffff, _) if flags == 0 || is_fin_of_a_writer => {
                match channel_of(stream) {
                    Some(channel) => self.data(channel, body, flags == 1),
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

    /// Handles the server's GOAWAY.
    fn closed(&self, status: u32) {
        self.facts.borrow_mut().close = Some(Some(status as u16));
        match self.plan.setup.farewell {
            Farewell::Answer | Farewell::Fin => self.wishes.push(Wish::Fin),
            Farewell::Silence(_) => {}
            Farewell::Cut => self.wishes.push(Wish::Cut),
        }
    }

    fn wrong(&self, what: String) {
        self.facts.borrow_mut().wrong.push(what);
    }
}
