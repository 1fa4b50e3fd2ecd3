use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{ChannelReader, ChannelWriter};

/// Both sides of a channel in one type, like an element of the slice that Go's
/// `wsstream.Conn.Open` returns.
///
/// A side that the channel's type does not have behaves as in Go: a read returns EOF at once, and a
/// write is accepted but sends nothing. Such a read is the only one that returns EOF without the
/// peer having ended the channel.
///
/// # Examples
///
/// A socket behind a channel for both directions:
///
/// ```
/// use tokio::{io::copy_bidirectional, net::TcpStream};
/// use tower_wsstream::{BoxError, Channel, ChannelSet};
///
/// async fn proxy(mut channels: ChannelSet) -> Result<(), BoxError> {
///     let mut channel: Channel = channels.take(0).ok_or("no channel 0")?;
///     println!("channel {} goes to the database", channel.id());
///     let mut target = TcpStream::connect("127.0.0.1:5432").await?;
///     copy_bidirectional(&mut channel, &mut target).await?;
///     Ok(())
/// }
/// # let _ = proxy;
/// ```
#[derive(Debug)]
pub struct Channel {
    id: u8,
    reader: Option<ChannelReader>,
    writer: Option<ChannelWriter>,
}

impl Channel {
    pub(super) fn new(
        id: u8,
        reader: Option<ChannelReader>,
        writer: Option<ChannelWriter>,
    ) -> Self {
        Self { id, reader, writer }
    }

    /// Returns the number of the channel.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// Splits the channel into the sides that its type has.
    pub fn into_split(self) -> (Option<ChannelReader>, Option<ChannelWriter>) {
        (self.reader, self.writer)
    }
}

impl AsyncRead for Channel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.reader {
            Some(reader) => Pin::new(reader).poll_read(cx, buf),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncBufRead for Channel {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        match &mut self.get_mut().reader {
            Some(reader) => Pin::new(reader).poll_fill_buf(cx),
            None => Poll::Ready(Ok(&[])),
        }
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        if let Some(reader) = &mut self.reader {
            Pin::new(reader).consume(amount);
        }
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_write(cx, buf),
            None => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}
