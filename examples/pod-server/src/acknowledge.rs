//! Flow control for clients that cannot stop reading, which are the pages of browsers.
//!
//! A browser reads a WebSocket as fast as the network brings it, and keeps what its page has not
//! handled yet in memory. So the connection never fills up, and a command that floods its terminal
//! is never held up. A page therefore asks for acknowledgements, with `acknowledge=true` in the
//! query of an exec or attach. Its subprotocols then have one more channel, [`CHANNEL`], on which it
//! says how many bytes of output it has shown since it last said so: four bytes, the most
//! significant first. Output beyond [`WINDOW`] waits for that, in the pipe or the terminal of the
//! command. A count of nothing, or of more than was sent, ends the session: otherwise a client could
//! send such counts without end, and nothing would hold them up.
//!
//! The window also bounds what is on its way when a user presses Ctrl-C. Backpressure of the
//! transport alone would leave some megabytes in the buffers of two kernels and a browser.
//!
//! Servers that do not know the parameter ignore it, and ignore the channel as well.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{extract::Request, http::request::Parts};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_wsstream::{
    ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, ProtocolSource, Rejection,
    Session, remotecommand,
};

use crate::end::End;

/// The channel of the acknowledgements, behind those of exec and attach.
pub(crate) const CHANNEL: u8 = remotecommand::channel::RESIZE + 1;

/// The bytes of output that may be unacknowledged. A page that shows 16 MiB in a second needs this
/// much if an acknowledgement takes 16 ms, which is a frame of its screen.
pub(crate) const WINDOW: usize = 256 * 1024;

/// The most acknowledgements that are taken in one turn of the session's task, so that a client
/// that counts single bytes does not keep the thread.
const TURN: usize = 1024;

/// The subprotocols of exec and attach, with the channel of the acknowledgements for clients that
/// ask for it.
pub(crate) struct Protocols;

impl ProtocolSource for Protocols {
    fn protocols(&self, head: &Parts) -> Result<ChannelProtocols, Rejection> {
        let table = remotecommand::Protocols::default().protocols(head)?;
        if !is_asked_for(head.uri.query()) {
            return Ok(table);
        }
        let mut longer = ChannelProtocols::builder();
        for (name, config) in table.iter() {
            let channels = [config.channels(), &[ChannelType::Read]].concat();
            let config = ChannelProtocolConfig::new(config.encoding(), channels)
                .half_close(config.supports_half_close())
                .close_ends_input(config.may_close_end_input());
            longer = longer.protocol(name.to_owned(), config);
        }
        Ok(longer.build().expect("the same names and six channels"))
    }
}

fn is_asked_for(query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.any(|pair| pair == "acknowledge=true")
}

/// Gives a request a [`Window`] if its client acknowledges. In front of the upgrade.
pub(crate) fn prepare(mut request: Request) -> Request {
    if is_asked_for(request.uri().query()) {
        request.extensions_mut().insert(Window::default());
    }
    request
}

/// Gives the window of a session its acknowledgements. Behind the upgrade.
pub(crate) fn connect(mut channels: ChannelSet) -> ChannelSet {
    if let Some(reader) = channels.take_reader(CHANNEL)
        && let Some(window) = channels.request().and_then(Window::of)
    {
        window.lock().acknowledgements = Some(Box::new(reader));
    }
    channels
}

/// The output of a session that its client has not acknowledged. Clones are the same window: all
/// outputs of a session share it.
#[derive(Clone, Default)]
pub(crate) struct Window(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    acknowledgements: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// The beginning of the next acknowledgement, and its length.
    begun: ([u8; 4], usize),
    outstanding: usize,
    /// Set once the client has sent a count that cannot be right.
    is_wrong: bool,
}

impl Window {
    pub(crate) fn of(head: &Parts) -> Option<&Self> {
        head.extensions.get()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes acknowledgements until one is wrong, also while there is no output that waits for
    /// them. Without this they would fill the reserve of the session.
    ///
    /// An end of the acknowledgements is not told here. It is a failure for output alone.
    pub(crate) async fn misused(&self) -> io::Error {
        poll_fn(|cx| {
            let mut state = self.lock();
            // Whatever is in the way of this, output is told of it.
            let _ = state.poll_acknowledgements(cx);
            match state.is_wrong {
                true => Poll::Ready(wrong()),
                false => Poll::Pending,
            }
        })
        .await
    }
}

impl State {
    /// Returns the room for output, once there is some.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(outcome) = self.poll_acknowledgements(cx) {
            outcome?;
        }
        match WINDOW - self.outstanding {
            0 => Poll::Pending,
            room => Poll::Ready(Ok(room)),
        }
    }

    /// Takes the acknowledgements that have arrived, or a turn of them. Ready when no more can
    /// come, which is an error.
    fn poll_acknowledgements(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        for _ in 0..TURN {
            if self.is_wrong {
                return Poll::Ready(Err(wrong()));
            }
            let count = ready!(self.poll_acknowledgement(cx))?;
            match self.outstanding.checked_sub(count) {
                Some(left) if count > 0 => self.outstanding = left,
                _ => self.is_wrong = true,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_acknowledgement(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(from) = &mut self.acknowledgements else {
            return Poll::Ready(Err(no_more()));
        };
        let (bytes, length) = &mut self.begun;
        while *length < bytes.len() {
            let mut rest = ReadBuf::new(&mut bytes[*length..]);
            ready!(Pin::new(&mut *from).poll_read(cx, &mut rest))?;
            match rest.filled().len() {
                0 => return Poll::Ready(Err(no_more())),
                read => *length += read,
            }
        }
        *length = 0;
        let count = u32::from_be_bytes(*bytes);
        Poll::Ready(Ok(usize::try_from(count).unwrap_or(usize::MAX)))
    }
}

fn wrong() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the client has acknowledged nothing, or more than it was sent",
    )
}

fn no_more() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the client has stopped acknowledging its output",
    )
}

/// Waits for the end of a session. A client that acknowledges what it cannot have been sent counts
/// as lost.
pub(crate) async fn ended(session: Session, window: Option<Window>) -> End {
    let Some(window) = window else {
        return session.ended().await.into();
    };
    tokio::select! {
        cause = session.ended() => cause.into(),
        error = window.misused() => End::Lost(error.into()),
    }
}

/// An output that waits for room in a window, if it has one.
///
/// All outputs with the same window belong to one task, which the next acknowledgement wakes.
pub(crate) struct Paced<W> {
    to: W,
    window: Option<Window>,
}

impl<W> Paced<W> {
    pub(crate) fn new(to: W, window: Option<Window>) -> Self {
        Self { to, window }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Paced<W> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self { to, window } = self.get_mut();
        let Some(window) = window else {
            return Pin::new(to).poll_write(cx, bytes);
        };
        let mut window = window.lock();
        let room = ready!(window.poll_room(cx))?;
        let bytes = &bytes[..bytes.len().min(room)];
        let written = ready!(Pin::new(to).poll_write(cx, bytes))?;
        window.outstanding += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().to).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().to).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "acknowledge_tests.rs"]
mod tests;
