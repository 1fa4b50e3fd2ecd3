//! The resize channel, read or not.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{io::AsyncBufRead, sync::watch};

use super::resize::{ResizeDecoder, TerminalSize};
use crate::ChannelReader;

/// The sizes of the client's terminal, as they change.
///
/// Only the latest counts: a size that nobody took before the next one came is
/// gone. The first is kept until it is taken.
#[derive(Debug)]
pub struct TerminalSizes {
    latest: watch::Receiver<Option<TerminalSize>>,
}

impl TerminalSizes {
    /// Waits for a size that was not seen yet; `None` when no more will come.
    ///
    /// # Cancel safety
    /// Cancel safe: a size is seen only by a call that returned it.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            self.latest.changed().await.ok()?;
            if let Some(size) = *self.latest.borrow_and_update() {
                return Some(size);
            }
        }
    }
}

/// Drains the resize channel all the time: sizes that nobody takes must not
/// pause the session.
#[derive(Debug)]
pub(super) struct Resizes {
    /// Both are gone once there is nothing more to come, bad JSON included.
    source: Option<(ChannelReader, watch::Sender<Option<TerminalSize>>)>,
    decoder: ResizeDecoder,
}

pub(super) fn resizes(reader: Option<ChannelReader>) -> (Resizes, Option<TerminalSizes>) {
    let (source, sizes) = match reader {
        None => (None, None),
        Some(reader) => {
            let (sender, latest) = watch::channel(None);
            (Some((reader, sender)), Some(TerminalSizes { latest }))
        }
    };
    let resizes = Resizes {
        source,
        decoder: ResizeDecoder::default(),
    };
    (resizes, sizes)
}

impl Resizes {
    /// Takes what has come; leaves the waker for more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Some((reader, sender)) = &mut self.source {
            let more = match Pin::new(&mut *reader).poll_fill_buf(cx) {
                Poll::Pending => return,
                Poll::Ready(Err(_)) | Poll::Ready(Ok([])) => false,
                Poll::Ready(Ok(bytes)) => {
                    let n = bytes.len();
                    let good = self.decoder.push(bytes).is_ok();
                    Pin::new(&mut *reader).consume(n);
                    good
                }
            };
            if let Some(size) = self.decoder.take() {
                sender.send_replace(Some(size));
            }
            if !more {
                // A dropped reader discards what else may come.
                self.source = None;
            }
        }
    }
}
