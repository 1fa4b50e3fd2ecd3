use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

#[cfg(feature = "spdy")]
use super::connection::Ask;
use crate::{ChannelReader, ChannelWriter, EndCause};

/// The data of a forwarded port in both directions, like a socket.
///
/// Reads are those of a [`ChannelReader`]. On channels, they return EOF once the client has closed
/// the session, because a client cannot end one port alone, and fail if the session has ended in any
/// other way. In a [tunnel](super#tunnels), they return EOF once the client has ended this
/// direction of its connection, and fail if it has reset the connection, or if the session ends.
///
/// Data that is not read fills the window of this port, and then pauses the whole session. In a
/// tunnel, it first fills the reserve of the session. A service that no longer reads but still writes should [split](Self::into_split) the stream and drop the
/// reader. For writes, see [`ForwardedWriter`].
///
/// After the stream is dropped, incoming data for the port is discarded, and accepted output is
/// still sent.
///
/// # Examples
///
/// A service that answers without a socket, and discards what the client still sends:
///
/// ```
/// use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
/// use tower_wsstream::{BoxError, portforward::{ForwardedPort, ForwardedWriter}};
///
/// async fn hello(port: ForwardedPort) -> Result<(), BoxError> {
///     let (reader, mut writer): (_, ForwardedWriter) = port.stream.into_split();
///     let mut line = String::new();
///     reader.take(1024).read_line(&mut line).await?;
///     writer.write_all(format!("you said {line}").as_bytes()).await?;
///     writer.shutdown().await?;
///     Ok(())
/// }
/// # let _ = hello;
/// ```
#[derive(Debug)]
pub struct ForwardedStream {
    reader: ChannelReader,
    writer: ForwardedWriter,
}

impl ForwardedStream {
    pub(super) fn new(reader: ChannelReader, writer: ForwardedWriter) -> Self {
        Self { reader, writer }
    }

    /// Splits the stream into its two directions. Drop each once you are done with it.
    pub fn into_split(self) -> (ChannelReader, ForwardedWriter) {
        (self.reader, self.writer)
    }
}

impl AsyncRead for ForwardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncBufRead for ForwardedStream {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        Pin::new(&mut self.get_mut().reader).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        Pin::new(&mut self.reader).consume(amount);
    }
}

impl AsyncWrite for ForwardedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}

/// The writer of a port: a [`ChannelWriter`] that first waits until the upgrade is accepted.
///
/// Writes, flushes and shutdowns wait until the upgrade is accepted and the first messages of the
/// port have been sent, so that a port can still refuse. From then on they are those of the channel's
/// writer, with its budget, cancel safety and errors. `shutdown` waits until accepted data has left.
/// On channels it sends nothing: the client learns of the end of a port when the session ends.
///
/// In a [tunnel](super#tunnels), a large `write` may accept up to 256 KiB at once with the default
/// limits. kubectl takes more in such pieces than in those of 32 KiB. The first use of the writer has the connection accepted, and the
/// client is told that this direction has ended after `shutdown`, or when the writer is dropped.
///
/// # Examples
///
/// ```
/// use tokio::io::AsyncWriteExt;
/// use tower_wsstream::{BoxError, portforward::{ForwardedPort, ForwardedWriter}};
///
/// async fn clock(port: ForwardedPort) -> Result<(), BoxError> {
///     let (reader, mut writer): (_, ForwardedWriter) = port.stream.into_split();
///     drop(reader);
///     writer.write_all(b"12:00\n").await?;
///     writer.shutdown().await?;
///     Ok(())
/// }
/// # let _ = clock;
/// ```
#[derive(Debug)]
pub struct ForwardedWriter {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The port's first messages have not been sent yet.
    Waiting(oneshot::Receiver<ChannelWriter>),
    /// The client's data stream has not been answered yet. The first use of the writer has it
    /// answered.
    #[cfg(feature = "spdy")]
    Unanswered(oneshot::Receiver<ChannelWriter>, Ask),
    Open(ChannelWriter),
    /// The upgrade was refused, so there is no session; or the connection has ended before it was
    /// answered.
    Refused,
}

impl ForwardedWriter {
    /// Creates a writer that waits for the writer of its channel.
    pub(super) fn waiting(hand: oneshot::Receiver<ChannelWriter>) -> Self {
        Self {
            state: State::Waiting(hand),
        }
    }

    /// Creates a writer that asks for the writer of its stream once it is used.
    #[cfg(feature = "spdy")]
    pub(super) fn unanswered(hand: oneshot::Receiver<ChannelWriter>, ask: Ask) -> Self {
        Self {
            state: State::Unanswered(hand, ask),
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut ChannelWriter>>> {
        let handed = match &mut self.state {
            State::Waiting(hand) => Some(ready!(Pin::new(hand).poll(cx))),
            #[cfg(feature = "spdy")]
            State::Unanswered(hand, ask) => {
                ask.ask();
                Some(ready!(Pin::new(hand).poll(cx)))
            }
            State::Open(_) | State::Refused => None,
        };
        if let Some(handed) = handed {
            self.state = handed.map_or(State::Refused, State::Open);
        }
        Poll::Ready(match &mut self.state {
            State::Open(writer) => Ok(Pin::new(writer)),
            _ => Err(io::Error::new(io::ErrorKind::BrokenPipe, EndCause::Aborted)),
        })
    }
}

impl AsyncWrite for ForwardedWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_shutdown(cx)
    }
}
