//! The writing half of a client over SPDY.

use std::{pin::pin, time::Duration};

use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::sleep,
};

use super::{STDIN, STREAMS, stream_of};
use crate::{
    client::{Wish, Wishes},
    facts::{Done, Fault, Shared},
    frames::{data, fin, go_away, headers, ping, stored, syn},
    pattern::{self, From},
    plan::{Act, Millis, Plan},
};

pub(super) struct Writer<'a, W> {
    plan: &'a Plan,
    facts: &'a Shared,
    wishes: &'a Wishes,
    io: W,
    /// Nothing more can be sent.
    gone: bool,
    /// A GOAWAY or a breach of the protocol was sent: no data may follow.
    silent: bool,
    pings: u32,
}

/// The connection is to be cut.
struct Cut;

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(super) fn new(plan: &'a Plan, facts: &'a Shared, wishes: &'a Wishes, io: W) -> Self {
        Self {
            plan,
            facts,
            wishes,
            io,
            gone: false,
            silent: false,
            pings: 0,
        }
    }

    /// Opens the streams and follows the plan. Returns when the connection is to be cut.
    pub(super) async fn run(mut self) {
        for (at, (channel, kind)) in STREAMS.iter().enumerate() {
            let block = stored(&headers(&[("streamtype", kind)]), at == 0);
            self.put(&syn(stream_of(*channel), &block), usize::MAX)
                .await;
        }
        let Cut = self.follow().await;
        self.facts.borrow_mut().note(Done::Cut);
    }

    async fn follow(&mut self) -> Cut {
        for act in &self.plan.client {
            if let Err(cut) = self.act(*act).await {
                return cut;
            }
        }
        loop {
            if let Err(cut) = self.grant().await {
                return cut;
            }
            self.wishes.more.notified().await;
        }
    }

    /// Does what the reading half wants.
    async fn grant(&mut self) -> Result<(), Cut> {
        while let Some(wish) = self.wishes.pop() {
            match wish {
                Wish::Frame(frame) => self.put(&frame, usize::MAX).await,
                // There is no answer to a GOAWAY but to leave.
                Wish::Close(_) | Wish::Fin => self.fin().await,
                Wish::Cut => return Err(Cut),
            }
        }
        Ok(())
    }

    async fn act(&mut self, act: Act) -> Result<(), Cut> {
        self.grant().await?;
        match act {
            Act::Sleep(time) => self.wait(time).await?,
            Act::Cut => return Err(Cut),
            Act::Fin => self.fin().await,
            Act::Close(_) => {
                if !self.gone && !self.silent {
                    self.facts.borrow_mut().note(Done::Close(None));
                }
                self.silent = true;
                self.put(&go_away(), usize::MAX).await;
            }
            _ if self.silent => {}
            Act::Ping(_) => {
                self.pings += 1;
                let id = 2 * self.pings + 1;
                if !self.gone {
                    let payload = id.to_be_bytes().to_vec();
                    self.facts.borrow_mut().pings.push(payload);
                }
                self.put(&ping(id), usize::MAX).await;
            }
            Act::Send {
                channel: STDIN,
                len,
                frames,
                piece,
                ..
            } => self.send(len, frames, piece).await,
            Act::Begin {
                channel: STDIN,
                len,
            } => self.send(len, 1, usize::MAX).await,
            Act::Tear {
                channel: STDIN,
                len,
                of,
            } => {
                if self.facts.borrow().sent[usize::from(STDIN)].closed {
                    return Ok(());
                }
                let mut torn = data(stream_of(STDIN), &self.begin(len));
                let announced = ((len + of) as u32).to_be_bytes();
                torn[5..8].copy_from_slice(&announced[1..]);
                self.put(&torn, usize::MAX).await;
                self.gone = true;
            }
            Act::CloseChannel(STDIN) => {
                self.facts.borrow_mut().sent[usize::from(STDIN)].closed = true;
                self.put(&fin(stream_of(STDIN)), usize::MAX).await;
            }
            Act::Violate(_) => {
                self.facts
                    .borrow_mut()
                    .note(Done::Violation(Fault::Protocol));
                self.silent = true;
                // The number of a stream that there was.
                let block = stored(&headers(&[("streamtype", "stdin")]), false);
                self.put(&syn(1, &block), usize::MAX).await;
            }
            Act::Send { .. }
            | Act::Begin { .. }
            | Act::Tear { .. }
            | Act::CloseChannel(_)
            | Act::Stray { .. }
            | Act::Pong(_) => {}
        }
        Ok(())
    }

    async fn wait(&mut self, time: Millis) -> Result<(), Cut> {
        let mut over = pin!(sleep(Duration::from_millis(time)));
        loop {
            self.grant().await?;
            tokio::select! {
                biased;
                () = &mut over => return Ok(()),
                () = self.wishes.more.notified() => {}
            }
        }
    }

    /// Writes bytes in pieces.
    async fn put(&mut self, bytes: &[u8], piece: usize) {
        for piece in bytes.chunks(piece.max(1)) {
            if self.gone {
                return;
            }
            if self.io.write_all(piece).await.is_err() || self.io.flush().await.is_err() {
                self.gone = true;
            }
            if piece.len() < bytes.len() {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn fin(&mut self) {
        if !self.gone {
            self.facts.borrow_mut().note(Done::Fin);
            let _ = self.io.shutdown().await;
        }
        self.gone = true;
    }

    async fn send(&mut self, len: usize, frames: usize, piece: usize) {
        // A stream that has ended takes no data.
        if self.facts.borrow().sent[usize::from(STDIN)].closed {
            return;
        }
        let bytes = self.begin(len);
        for part in bytes.chunks(len.div_ceil(frames.max(1)).max(1)) {
            self.put(&data(stream_of(STDIN), part), piece).await;
        }
        if !self.gone {
            self.facts.borrow_mut().sent[usize::from(STDIN)].whole += len as u64;
        }
    }

    /// Notes that bytes are about to be sent, and returns them.
    fn begin(&self, len: usize) -> Vec<u8> {
        let mut facts = self.facts.borrow_mut();
        let sent = &mut facts.sent[usize::from(STDIN)];
        let bytes = pattern::bytes(From::Client, STDIN, sent.begun, len);
        sent.begun += len as u64;
        sent.all += len as u64;
        bytes
    }
}
