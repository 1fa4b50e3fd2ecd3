use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncRead, ReadBuf};

use super::{
    ChannelStream,
    tap::{Direction, Records, Tapped},
};
use crate::wire::{CHUNK, Chunk, Take, Wire};

/// The most bytes that are copied when they are handed out as [`Bytes`]. A slice of the chunk would
/// keep all of its 16 KiB alive, and the peer decides how small its messages are.
const SMALL: usize = 1024;

/// The inbound side of a channel, which reads the data that the peer sends.
///
/// # Flow
///
/// Bytes arrive in the order in which the peer sent them, without the boundaries of its messages.
/// Unread data is bounded by the receive window
/// ([`Limits::receive_window`](crate::policy::Limits::receive_window)). When the window is full and
/// the peer sends more on this channel, the session stops reading. A reader that is kept but not
/// read therefore stalls its session sooner or later. Drop it instead: data for a channel whose
/// reader was dropped is discarded.
///
/// `fill_buf` ([`AsyncBufRead`]) does not copy, [`into_stream`](Self::into_stream) copies only
/// pieces of up to 1 KiB, and `read` ([`AsyncRead`]) copies once.
///
/// # The end
///
/// A read returns 0 bytes only when the peer has ended the channel: with a CLOSE message if the
/// subprotocol has half-close (`v5.channel.k8s.io`), or else with a Close frame that has code 1000
/// or no code. Every other end is an error, which comes after all bytes that arrived before the
/// end, and carries the [`EndCause`](crate::EndCause):
///
/// | reason for the end | [`io::ErrorKind`] |
/// |---|---|
/// | the connection was lost | `ConnectionReset` |
/// | a Close frame, but this channel was not ended | `ConnectionAborted` |
/// | the session ended here | `ConnectionAborted` |
/// | the peer broke the protocol | `InvalidData` |
/// | a time limit expired | `TimedOut` |
///
/// # Cancel safety
///
/// All reads are cancel safe: no bytes are lost if the future is dropped.
///
/// # Examples
///
/// An upload that is complete, or not stored at all: an error is not the end of the input.
///
/// ```
/// use tokio::io::AsyncReadExt;
/// use tower_wsstream::{ChannelReader, EndCause};
///
/// async fn upload(mut input: ChannelReader) -> std::io::Result<Vec<u8>> {
///     let mut file = Vec::new();
///     if let Err(error) = input.read_to_end(&mut file).await {
///         let cause = EndCause::from_error(&error).map(EndCause::name);
///         eprintln!("channel {} was cut off: {cause:?}", input.id());
///         return Err(error);
///     }
///     Ok(file)
/// }
/// # let _ = upload;
/// ```
///
/// As a stream, without a copy of large data:
///
/// ```
/// use futures_util::TryStreamExt;
/// use tower_wsstream::ChannelReader;
///
/// async fn count(input: ChannelReader) -> std::io::Result<usize> {
///     let chunks = input.into_stream();
///     chunks.try_fold(0, async |sum, chunk| Ok(sum + chunk.len())).await
/// }
/// # let _ = count;
/// ```
pub struct ChannelReader {
    wire: Arc<Wire>,
    channel: u8,
    chunk: Option<Chunk>,
    at: usize,
    tap: Option<Box<Tapped>>,
}

impl ChannelReader {
    pub(crate) fn new(wire: Arc<Wire>, channel: u8) -> Self {
        Self {
            wire,
            channel,
            chunk: None,
            at: 0,
            tap: None,
        }
    }

    pub(super) fn tap(&mut self, records: &Arc<Records>) {
        Tapped::add(&mut self.tap, records, self.channel, Direction::Inbound);
    }

    /// Returns the number of the channel.
    pub fn id(&self) -> u8 {
        self.channel
    }

    /// Converts the reader into a stream of [`Bytes`], which yields data as it arrives.
    ///
    /// Bytes that the stream has handed out no longer count towards the receive window.
    pub fn into_stream(self) -> ChannelStream {
        ChannelStream::new(self)
    }

    fn unread(&self) -> &[u8] {
        match &self.chunk {
            Some(chunk) => &chunk.bytes()[self.at..],
            None => &[],
        }
    }

    /// Waits for a chunk with unread bytes, and stores it in `self.chunk`. Returns `false` at the
    /// end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.chunk.is_some() {
            return Poll::Ready(Ok(true));
        }
        let Some(pipe) = self.wire.inbound.pipe(self.channel) else {
            return Poll::Ready(Ok(false));
        };
        match ready!(pipe.poll_take(cx)) {
            Take::Chunk(chunk) => {
                self.chunk = Some(chunk);
                self.at = 0;
                Poll::Ready(Ok(true))
            }
            Take::End(end) => {
                // The end is final, so there is nothing more to record.
                self.tap = None;
                Poll::Ready(end.result().map(|()| false))
            }
        }
    }

    /// Waits for a chunk with unread bytes, and for room to record them. The chunk stays in
    /// `self.chunk` meanwhile.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let readable = ready!(self.poll_chunk(cx))?;
        if let Some(tap) = &self.tap {
            ready!(tap.poll_room(cx));
        }
        Poll::Ready(Ok(readable))
    }

    fn release(&mut self, chunk: Option<Chunk>) {
        self.at = 0;
        self.wire.inbound.release(self.channel, chunk);
    }

    pub(super) fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !ready!(self.poll_readable(cx))? {
            return Poll::Ready(Ok(None));
        }
        let at = self.at;
        let Some(chunk) = self.chunk.take() else {
            return Poll::Ready(Ok(None));
        };
        let unread = &chunk.bytes()[at..];
        if unread.len() <= SMALL {
            let bytes = Bytes::copy_from_slice(unread);
            self.release(Some(chunk));
            if let Some(tap) = &self.tap {
                tap.share(bytes.clone(), bytes.len());
            }
            return Poll::Ready(Ok(Some(bytes)));
        }
        self.release(None);
        let bytes = chunk.into_bytes().slice(at..);
        if let Some(tap) = &self.tap {
            // Even a record of a few bytes keeps the whole chunk alive.
            tap.share(bytes.clone(), CHUNK);
        }
        Poll::Ready(Ok(Some(bytes)))
    }
}

impl AsyncBufRead for ChannelReader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_readable(cx))?;
        Poll::Ready(Ok(this.unread()))
    }

    fn consume(self: Pin<&mut Self>, amount: usize) {
        let this = self.get_mut();
        let unread = this.unread().len();
        assert!(amount <= unread, "consumed more than `fill_buf` returned");
        if let Some(tap) = &this.tap {
            tap.copy(&this.unread()[..amount]);
        }
        this.at += amount;
        if amount == unread
            && let Some(chunk) = this.chunk.take()
        {
            this.release(Some(chunk));
        }
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unread = ready!(self.as_mut().poll_fill_buf(cx))?;
        let n = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..n]);
        self.consume(n);
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        if let Some(chunk) = self.chunk.take() {
            self.release(Some(chunk));
        }
        self.wire.inbound.discard(self.channel);
    }
}

impl fmt::Debug for ChannelReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelReader")
            .field("id", &self.channel)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        task::{Context, Poll, Waker},
    };

    use super::*;
    use crate::{
        frame::Masked,
        protocol::Format,
        wire::{StallReserve, TotalReserve, Traffic, Turn, WireConfig, fill},
    };

    #[test]
    fn few_bytes_that_are_kept_keep_no_chunk() {
        let config = WireConfig {
            format: Format::Binary,
            channels: 1,
            receive_window: 1 << 18,
            send_budget: 1,
            high_water: 1,
            stamps: false,
        };
        let reserve = StallReserve::new(0, &TotalReserve::new(0));
        let wire = Wire::new(Turn::new(), &config, reserve, |_| true, |_| false);
        let mut chunks = Vec::new();
        let pipe = wire.inbound.pipe(0).unwrap();
        pipe.check_out(&mut chunks).unwrap();
        fill(&mut chunks, Masked::plain(b"x"));
        let _ = pipe.commit(&mut chunks, Traffic::default());
        let mut reader = ChannelReader::new(Arc::clone(&wire), 0);
        let cx = &mut Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(Some(bytes))) = reader.poll_bytes(cx) else {
            panic!("there is a byte to read");
        };
        let held = bytes.try_into_mut().unwrap().capacity();
        assert!(held < 1024, "{held} bytes for one");
        assert_eq!(wire.inbound.pipe(0).unwrap().room(), 1 << 18);
    }
}
