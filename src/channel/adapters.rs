//! `Stream` and `Sink` over the handles.
//!
//! They are types of their own because `.flush()` and `.take()` would be ambiguous on a handle that
//! implemented these traits as well.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::AsyncWrite as _;

use super::{ChannelReader, ChannelWriter};

/// A stream of the bytes of a channel as they arrived.
///
/// It is created by [`ChannelReader::into_stream`]. Items of more than 1 KiB are not copied. It
/// ends when the peer has ended the channel. If the channel ends in any other way, its last item is
/// an error.
///
/// # Examples
///
/// A magic number in the first chunk, and then the rest as bytes:
///
/// ```
/// use futures_util::StreamExt;
/// use tokio::io::AsyncReadExt;
/// use tower_wsstream::{BoxError, ChannelReader, channel::ChannelStream};
///
/// async fn import(input: ChannelReader) -> Result<Vec<u8>, BoxError> {
///     let mut chunks: ChannelStream = input.into_stream();
///     let first = chunks.next().await.ok_or("an empty upload")??;
///     if !first.starts_with(b"\x1f\x8b") {
///         return Err("not a gzip file".into());
///     }
///     let mut file = first.to_vec();
///     chunks.into_inner().read_to_end(&mut file).await?;
///     Ok(file)
/// }
/// # let _ = import;
/// ```
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct ChannelStream {
    reader: ChannelReader,
    ended: bool,
}

impl ChannelStream {
    pub(super) fn new(reader: ChannelReader) -> Self {
        Self {
            reader,
            ended: false,
        }
    }

    /// Returns the reader, which continues after the last item of the stream.
    ///
    /// Nothing is lost, because the stream has no buffer.
    pub fn into_inner(self) -> ChannelReader {
        self.reader
    }
}

impl Stream for ChannelStream {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = ready!(this.reader.poll_bytes(cx)).transpose();
        this.ended = !matches!(item, Some(Ok(_)));
        Poll::Ready(item)
    }
}

/// A sink that sends each item as one message of a channel.
///
/// It is created by [`ChannelWriter::into_sink`]. Closing it shuts the writer down.
///
/// # Examples
///
/// Two messages, and then bytes:
///
/// ```
/// use bytes::Bytes;
/// use futures_util::SinkExt;
/// use tokio::io::AsyncWriteExt;
/// use tower_wsstream::{ChannelWriter, channel::ChannelSink};
///
/// async fn send(out: ChannelWriter) -> std::io::Result<()> {
///     let mut messages: ChannelSink = out.into_sink();
///     messages.send(Bytes::from_static(b"one")).await?;
///     messages.send(Bytes::from_static(b"two")).await?;
///     messages.into_inner().write_all(b"three").await
/// }
/// # let _ = send;
/// ```
#[derive(Debug)]
#[must_use = "sinks do nothing unless polled"]
pub struct ChannelSink {
    writer: ChannelWriter,
}

impl ChannelSink {
    pub(super) fn new(writer: ChannelWriter) -> Self {
        Self { writer }
    }

    /// Returns the writer. Nothing is lost, because the sink passes its items on at once.
    pub fn into_inner(self) -> ChannelWriter {
        self.writer
    }
}

impl Sink<Bytes> for ChannelSink {
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer.poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Bytes) -> io::Result<()> {
        self.writer.start_send(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
