use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{io::AsyncBufRead, sync::watch};

use super::resize::{ResizeDecoder, TerminalSize};
use crate::ChannelReader;

/// The sizes of the client's terminal, as they change.
///
/// Only the latest size is kept: a size that is not taken before the next one arrives is lost. The
/// sizes that arrive before the first call of [`next`](Self::next) are treated the same way.
///
/// # Examples
///
/// A terminal of the server follows that of the client while the command runs:
///
/// ```
/// use tower_wsstream::remotecommand::{TerminalSize, TerminalSizes};
/// # struct Terminal;
/// # impl Terminal { fn resize(&self, columns: u16, rows: u16) {} }
///
/// /// Never returns, so it can stand beside the command in a `select!`.
/// async fn follow(sizes: Option<TerminalSizes>, terminal: &Terminal) -> std::convert::Infallible {
///     if let Some(mut sizes) = sizes {
///         while let Some(TerminalSize { width, height }) = sizes.next().await {
///             terminal.resize(width, height);
///         }
///     }
///     std::future::pending().await
/// }
/// # let _ = follow;
/// ```
#[derive(Debug)]
pub struct TerminalSizes {
    latest: watch::Receiver<Option<TerminalSize>>,
}

impl TerminalSizes {
    /// Waits for a size that has not been returned yet. Returns `None` once there will be no more.
    ///
    /// # Cancel safety
    /// Cancel safe: only a call that returns a size takes it.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            self.latest.changed().await.ok()?;
            if let Some(size) = *self.latest.borrow_and_update() {
                return Some(size);
            }
        }
    }
}

/// The reading side of [`TerminalSizes`].
///
/// It always reads the channels of the sizes, so that sizes that are not taken do not pause the
/// session.
#[derive(Debug)]
pub(super) struct Resizes {
    /// The channels of the sizes. `None` after the end of a channel, or after invalid JSON.
    sources: [Option<Source>; 2],
    /// `None` once all sources are `None`.
    sender: Option<watch::Sender<Option<TerminalSize>>>,
}

#[derive(Debug)]
struct Source {
    reader: ChannelReader,
    decoder: ResizeDecoder,
}

/// Merges the sizes of these channels. Returns `None` for the stream if there are no channels.
pub(super) fn resizes(readers: [Option<ChannelReader>; 2]) -> (Resizes, Option<TerminalSizes>) {
    let sources = readers.map(|reader| {
        reader.map(|reader| Source {
            reader,
            decoder: ResizeDecoder::default(),
        })
    });
    let (sender, sizes) = if sources.iter().any(Option::is_some) {
        let (sender, latest) = watch::channel(None);
        (Some(sender), Some(TerminalSizes { latest }))
    } else {
        (None, None)
    };
    (Resizes { sources, sender }, sizes)
}

impl Resizes {
    /// Reads everything that has arrived, and registers the waker for more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let Some(sender) = &self.sender else { return };
        for slot in &mut self.sources {
            if let Some(source) = slot
                && source.poll(sender, cx).is_ready()
            {
                // Dropping the reader discards everything that follows.
                *slot = None;
            }
        }
        if self.sources.iter().all(Option::is_none) {
            self.sender = None;
        }
    }
}

impl Source {
    /// Reads sizes, and completes once there will be no more.
    fn poll(
        &mut self,
        sender: &watch::Sender<Option<TerminalSize>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            let more = match ready!(Pin::new(&mut self.reader).poll_fill_buf(cx)) {
                Err(_) | Ok([]) => false,
                Ok(bytes) => {
                    let n = bytes.len();
                    let good = self.decoder.push(bytes).is_ok();
                    Pin::new(&mut self.reader).consume(n);
                    good
                }
            };
            if let Some(size) = self.decoder.take() {
                sender.send_replace(Some(size));
            }
            if !more {
                return Poll::Ready(());
            }
        }
    }
}
