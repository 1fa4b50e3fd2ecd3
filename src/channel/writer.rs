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

/// The outbound side of a channel, which sends to the peer.
///
/// # Flow
///
/// Each `write` becomes one message of at most 32 KiB, and each [`send`](Self::send) one message of
/// any size. Messages leave in the order in which they were written, across all channels of the
/// session. Small messages are collected and leave together: once they reach 48 KiB, at a flush,
/// and at the latest after the next run of the session's task, so a prompt appears without a flush.
///
/// Over SPDY, a channel is a stream of bytes, without messages. A `write` that the transport takes
/// without a copy may then accept more, up to 256 KiB with the default
/// [`Limits`](crate::policy::Limits), which costs a client less than eight of 32 KiB.
///
/// Data that was accepted but has not left is bounded per channel
/// ([`Limits::send_budget`](crate::policy::Limits::send_budget)) and per session. A write is
/// pending while there is no room. `flush` waits until everything that this channel has accepted
/// was handed to the transport.
///
/// # The end
///
/// `shutdown` ends the writer, and then waits like a flush. Dropping a writer ends it without the
/// wait, and data that it has accepted is still sent. The peer does not learn that a single writer
/// has ended, because servers do not send CLOSE. A session is over when its service has returned
/// and every writer was shut down or dropped. After the end of the session a write fails with
/// `BrokenPipe`, with the [`EndCause`](crate::EndCause) as its inner error.
///
/// # Cancel safety
///
/// A write that returned `Ready(n)` has accepted exactly `n` bytes, and one that was pending has
/// accepted none. A `send` that is dropped before it completes has sent nothing. A `write_all` that
/// is dropped may have sent a prefix.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use tokio::io::AsyncWriteExt;
/// use tower_wsstream::{ChannelWriter, EndCause};
///
/// async fn greet(mut out: ChannelWriter, picture: Bytes) -> std::io::Result<()> {
///     // Bytes of a stream: small writes leave together.
///     out.write_all(b"a picture follows\n").await?;
///     // One message, which is not copied.
///     out.send(picture).await?;
///     // All of it has been handed to the transport.
///     out.flush().await?;
///     if let Err(error) = out.write_all(b"\n").await {
///         // The session has ended meanwhile. A service usually passes this on with `?`.
///         println!("channel {}: {:?}", out.id(), EndCause::from_error(&error));
///     }
///     Ok(())
/// }
/// # let _ = greet;
/// ```
///
/// As a sink, of which each item is a message:
///
/// ```
/// use bytes::Bytes;
/// use futures_util::{Stream, StreamExt};
/// use tower_wsstream::ChannelWriter;
///
/// async fn forward(
///     events: impl Stream<Item = std::io::Result<Bytes>>,
///     out: ChannelWriter,
/// ) -> std::io::Result<()> {
///     events.forward(out.into_sink()).await
/// }
/// # let _ = async |out| forward(futures_util::stream::pending(), out).await;
/// ```
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

    /// Returns the number of the channel.
    pub fn id(&self) -> u8 {
        self.channel
    }

    /// Sends one message, which the peer receives as one message regardless of its size.
    ///
    /// It is accepted as soon as the channel has any room, so it may exceed the budget by its own
    /// length. A large message is not copied. A message of more than 32 KiB leaves in fragments, so
    /// that Pongs can go in between. An empty message is sent as well.
    ///
    /// # Errors
    /// `BrokenPipe` after the end of the session, or after `shutdown`.
    ///
    /// # Cancel safety
    /// This method is cancel safe: if the future is dropped before it completes, nothing was sent.
    pub async fn send(&mut self, message: impl Into<Bytes>) -> io::Result<()> {
        let message = message.into();
        std::future::poll_fn(|cx| self.poll_ready(cx)).await?;
        self.start_send(message)
    }

    /// Turns the writer into a sink that [sends](Self::send) each item as a message.
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

    /// Writes to a tapped channel, with one copy for the message and its record.
    ///
    /// It uses the path of `send`. A second caller of `Outbound::poll_write` would keep the
    /// compiler from inlining that function, which costs 36 instructions a message.
    #[cold]
    fn poll_write_tapped(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        let cut = &buf[..buf.len().min(WRITE_CUT)];
        if !cut.is_empty() {
            self.start_send(Bytes::copy_from_slice(cut))?;
        }
        Poll::Ready(Ok(cut.len()))
    }

    /// Waits until a write can be recorded, or for the end of the session.
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
        // Nothing is accepted from here on, so there is nothing more to record.
        self.tap = None;
        self.wire.outbound.poll_flush(cx, self.channel)
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.wire.outbound.drop_writer(self.channel);
    }
}

impl fmt::Debug for ChannelWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelWriter")
            .field("id", &self.channel)
            .finish_non_exhaustive()
    }
}
