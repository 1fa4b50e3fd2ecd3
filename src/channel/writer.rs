use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::{
    ChannelSink,
    tap::{Direction, Records, Tapped},
};
use crate::wire::{WRITE_CUT, Wire};

/// The outbound side of a channel: what the peer receives on it.
///
/// # Flow
///
/// Each `write` becomes one message of at most 32 KiB, [`send`](Self::send)
/// always one message whatever its size. Messages leave in the order in which
/// they were written, across all channels of the session. Small ones leave
/// together: at 48 KiB, at a flush, and at the latest when the session's task
/// has run once, so no flush is needed for a prompt to appear.
///
/// What was accepted and has not left is bounded per channel
/// ([`Limits::send_budget`](crate::policy::Limits::send_budget)) and per session; a write waits
/// while there is no room. `flush` waits until everything that this channel
/// accepted was handed to the transport.
///
/// # The end
///
/// `shutdown` says that no more will come, and waits like a flush: a server's
/// session is over when its service has returned and every writer was shut
/// down or dropped. The peer is told nothing, since servers do not send CLOSE.
/// Dropping a writer is the same without the wait: what it has accepted is
/// sent. After the end of the session a write fails with `BrokenPipe`, the
/// [`EndCause`](crate::EndCause) as payload.
///
/// # Cancel safety
///
/// A write that returned `Ready(n)` has accepted exactly `n` bytes, and one
/// that was pending none. A dropped `send` has sent all or nothing; a dropped
/// `write_all` may have sent a prefix.
pub struct ChannelWriter {
    wire: Arc<Wire>,
    channel: u8,
    tap: Option<Box<Tapped>>,
}

impl ChannelWriter {
    pub(crate) fn new(wire: Arc<Wire>, channel: u8) -> Self {
        Self {
            wire,
            channel,
            tap: None,
        }
    }

    pub(super) fn tap(&mut self, records: &Arc<Records>) {
        Tapped::add(&mut self.tap, records, self.channel, Direction::Outbound);
    }

    /// The number of the channel.
    pub fn id(&self) -> u8 {
        self.channel
    }

    /// Sends one message, which the peer receives as one whatever its size.
    ///
    /// It is accepted as soon as the channel has any room, so it may pass the
    /// budget by its own length, and is not copied where it is large; above
    /// 32 KiB it leaves in fragments, so that Pongs fit between. An empty one is
    /// sent too, and carries nothing.
    ///
    /// # Errors
    /// `BrokenPipe` after the end of the session, or after `shutdown`.
    ///
    /// # Cancel safety
    /// Cancel safe: if the future is dropped before it is done, nothing was sent.
    pub async fn send(&mut self, message: impl Into<Bytes>) -> io::Result<()> {
        let message = message.into();
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(message)
    }

    /// Turns the writer into a sink of messages, each like [`send`](Self::send).
    pub fn into_sink(self) -> ChannelSink {
        ChannelSink::new(self)
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tap) = &self.tap {
            ready!(self.poll_recordable(tap, cx))?;
        }
        self.wire.outbound.poll_ready(cx, self.channel)
    }

    pub(super) fn start_send(&mut self, message: Bytes) -> io::Result<()> {
        let Some(tap) = &self.tap else {
            return self.wire.outbound.send(self.channel, message);
        };
        self.wire.outbound.send(self.channel, message.clone())?;
        let held = message.len();
        tap.share(message, held);
        Ok(())
    }

    /// A write whose one copy is for the record, too. It goes the way of `send`: a
    /// second caller of what writes without a tap would keep the compiler from
    /// inlining that, at 36 instructions a message.
    #[cold]
    fn poll_write_tapped(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let cut = &buf[..buf.len().min(WRITE_CUT)];
        if !cut.is_empty() {
            self.start_send(Bytes::copy_from_slice(cut))?;
        }
        Poll::Ready(Ok(cut.len()))
    }

    /// Waits until what is to be written can be recorded; the end of the session
    /// must still be noticed.
    #[cold]
    fn poll_recordable(&self, tap: &Tapped, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if tap.poll_room(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.wire.outbound.poll_refused(cx, self.channel).map(Err)
    }
}

impl AsyncWrite for ChannelWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.tap.is_some() {
            return self.get_mut().poll_write_tapped(cx, buf);
        }
        self.wire.outbound.poll_write(cx, self.channel, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.outbound.poll_flush(cx, self.channel)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.outbound.close_writer(self.channel);
        // No more is accepted, so there is nothing more to record.
        self.tap = None;
        self.wire.outbound.poll_flush(cx, self.channel)
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.wire.outbound.close_writer(self.channel);
    }
}

impl fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelWriter")
            .field("id", &self.channel)
            .finish_non_exhaustive()
    }
}
