//! The data of a port, as its service has it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use crate::{ChannelReader, ChannelWriter, EndCause};

/// The data of a forwarded port in both directions, like a socket.
///
/// Reads are those of a [`ChannelReader`]: at their end when the client has closed
/// the session, since it cannot end one port alone, and an error where the session
/// ended in any other way. What is not read in time fills the window of this port,
/// and in the end pauses the session: a service that reads no more, but still
/// writes, should [split](Self::into_split) the stream and drop its reader. For
/// writes see [`ForwardedWriter`].
///
/// Dropped, it discards what else may come for the port, and what it has accepted
/// is sent.
#[derive(Debug)]
pub struct ForwardedStream {
    reader: ChannelReader,
    writer: ForwardedWriter,
}

impl ForwardedStream {
    pub(super) fn new(reader: ChannelReader, writer: ForwardedWriter) -> Self {
        Self { reader, writer }
    }

    /// The two directions, each to be dropped when it is done.
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

/// What a port sends to its client: a [`ChannelWriter`], once there is something
/// to write to.
///
/// Until the upgrade is accepted and the port's first messages have gone ahead,
/// writes, flushes and shutdowns wait, so that a port can still be refused. From
/// then on it is the writer of the channel, with its budget, its cancel safety and
/// its errors. `shutdown` waits for what was accepted to leave, and the client is
/// told nothing: it learns of the end of a port with the end of the session.
#[derive(Debug)]
pub struct ForwardedWriter {
    state: State,
}

#[derive(Debug)]
enum State {
    /// The first messages have not gone yet.
    Waiting(oneshot::Receiver<ChannelWriter>),
    Open(ChannelWriter),
    /// There was no session.
    Refused,
}

impl ForwardedWriter {
    /// A writer that waits for the one of its channel.
    pub(super) fn waiting(hand: oneshot::Receiver<ChannelWriter>) -> Self {
        Self {
            state: State::Waiting(hand),
        }
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut ChannelWriter>>> {
        if let State::Waiting(hand) = &mut self.state {
            self.state = match ready!(Pin::new(hand).poll(cx)) {
                Ok(writer) => State::Open(writer),
                Err(_) => State::Refused,
            };
        }
        Poll::Ready(match &mut self.state {
            State::Open(writer) => Ok(Pin::new(writer)),
            State::Waiting(_) | State::Refused => {
                Err(io::Error::new(io::ErrorKind::BrokenPipe, EndCause::Aborted))
            }
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
