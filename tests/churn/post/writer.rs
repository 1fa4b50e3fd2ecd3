//! The writing half of a client over SPDY.

use tokio::io::AsyncWrite;

use super::{STDIN, STREAMS, stream_of};
use crate::{
    facts::{Done, Fault},
    frames::{data, fin, go_away, headers, stored, syn},
    halves::{Cut, Line, Writing},
    plan::Act,
};

pub(super) struct Writer<'a, W> {
    line: Line<'a, W>,
    /// A GOAWAY or a breach of the protocol was sent: no data may follow.
    silent: bool,
}

impl<'a, W: AsyncWrite + Unpin> Writing<'a> for Writer<'a, W> {
    type Io = W;

    fn line(&mut self) -> &mut Line<'a, W> {
        &mut self.line
    }

    /// Leaves, because a GOAWAY has no other answer.
    async fn answer(&mut self, _: Option<u16>) {
        self.line.fin().await;
    }

    async fn act(&mut self, act: Act) -> Result<(), Cut> {
        self.grant().await?;
        match act {
            Act::Sleep(time) => self.wait(time).await?,
            Act::Cut => return Err(Cut),
            Act::Fin => self.line.fin().await,
            Act::Close(_) => {
                if !self.line.gone && !self.silent {
                    self.line.note(Done::Close(None));
                }
                self.silent = true;
                self.line.put(&go_away(), usize::MAX).await;
            }
            _ if self.silent => {}
            Act::Ping(_) => self.line.ping().await,
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
                if self.line.facts.borrow().sent[usize::from(STDIN)].closed {
                    return Ok(());
                }
                let torn = data(stream_of(STDIN), &self.line.begin(STDIN, len));
                self.line.tear(torn, len + of).await;
            }
            Act::CloseChannel(STDIN) => {
                self.line.facts.borrow_mut().sent[usize::from(STDIN)].closed = true;
                self.line.put(&fin(stream_of(STDIN)), usize::MAX).await;
            }
            Act::Violate(_) => {
                self.line
                    .facts
                    .borrow_mut()
                    .note(Done::Violation(Fault::Protocol));
                self.silent = true;
                // The number of a stream that there was.
                let block = stored(&headers(&[("streamtype", "stdin")]), false);
                self.line.put(&syn(1, &block), usize::MAX).await;
            }
            Act::Open { .. }
            | Act::Reset(_)
            | Act::Send { .. }
            | Act::Begin { .. }
            | Act::Tear { .. }
            | Act::CloseChannel(_)
            | Act::Stray { .. }
            | Act::Pong(_) => {}
        }
        Ok(())
    }
}

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(super) fn new(line: Line<'a, W>) -> Self {
        Self {
            line,
            silent: false,
        }
    }

    /// Opens the streams and follows the plan. Returns when the connection is to be cut.
    pub(super) async fn run(mut self) {
        for (at, (channel, kind)) in STREAMS.iter().enumerate() {
            let block = stored(&headers(&[("streamtype", kind)]), at == 0);
            self.line
                .put(&syn(stream_of(*channel), &block), usize::MAX)
                .await;
        }
        self.follow().await;
    }

    async fn send(&mut self, len: usize, frames: usize, piece: usize) {
        // A stream that has ended takes no data.
        if self.line.facts.borrow().sent[usize::from(STDIN)].closed {
            return;
        }
        let bytes = self.line.begin(STDIN, len);
        for part in bytes.chunks(len.div_ceil(frames.max(1)).max(1)) {
            self.line.put(&data(stream_of(STDIN), part), piece).await;
        }
        if !self.line.gone {
            self.line.facts.borrow_mut().sent[usize::from(STDIN)].whole += len as u64;
        }
    }
}
