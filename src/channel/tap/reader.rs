use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use super::{
    record::{End, Lost, Record},
    records::{Next, Overflow, Records},
};
use crate::{channel::ChannelSet, error::EndCause};

/// What a tap holds before its session waits for its reader, or loses records: as
/// much as a receive window, so that a reader that is away for a moment stalls nothing.
const CAPACITY: usize = 256 * 1024;

/// What a [`TapLayer`](super::TapLayer) puts on a session, to be recorded by the
/// [`TapReader`] that it was made with.
///
/// Dropped without having been put on a session, it ends its reader at once.
#[must_use = "a tap records nothing unless a `TapLayer` gets it"]
pub struct Tap {
    records: Arc<Records>,
}

impl Tap {
    /// A tap and its reader, with a queue of 256 KiB.
    pub fn new(overflow: Overflow) -> (Self, TapReader) {
        Self::with_capacity(overflow, CAPACITY)
    }

    /// The same with a queue of so many bytes, see the [module](super). It holds one
    /// record at least.
    pub fn with_capacity(overflow: Overflow, bytes: usize) -> (Self, TapReader) {
        let records = Arc::new(Records::new(overflow, bytes));
        let reader = TapReader {
            records: Arc::clone(&records),
            stage: Stage::Open,
        };
        (Self { records }, reader)
    }

    /// Puts the tap on what is left of a session's channels.
    pub(super) fn attach(self, channels: &mut ChannelSet) {
        channels.tap(&self.records);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.records.remove_source(None);
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap")
            .field("records", &self.records)
            .finish()
    }
}

/// The records of one session, in order: with [`next`](Self::next), or as a
/// [`Stream`].
///
/// It needs not be read in the session's task, and one that is not read stalls the
/// session or loses records, as its [`Overflow`] says. Dropping it ends the
/// recording, and lets the session go on.
#[must_use = "dropping it ends the recording"]
pub struct TapReader {
    records: Arc<Records>,
    stage: Stage,
}

enum Stage {
    Open,
    /// There is nobody left to record, and the session has not ended yet.
    Ending {
        cause: Pin<Box<dyn Future<Output = EndCause> + Send + Sync>>,
        lost: Lost,
    },
    Over,
}

impl TapReader {
    /// The next record; `None` behind [`Record::End`], and where the tap was dropped
    /// without a session.
    ///
    /// # Cancel safety
    /// Cancel safe: a record is gone only if it was returned.
    pub async fn next(&mut self) -> Option<Record> {
        poll_fn(|cx| self.poll_record(cx)).await
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        if let Stage::Open = self.stage {
            match ready!(self.records.poll_next(cx)) {
                Next::Payload(payload) => return Poll::Ready(Some(Record::Payload(payload))),
                Next::Over(None, _) => self.stage = Stage::Over,
                Next::Over(Some(session), lost) => {
                    let cause = Box::pin(session.ended());
                    self.stage = Stage::Ending { cause, lost };
                }
            }
        }
        let Stage::Ending { cause, lost } = &mut self.stage else {
            return Poll::Ready(None);
        };
        let cause = ready!(cause.as_mut().poll(cx));
        let end = End { cause, lost: *lost };
        self.stage = Stage::Over;
        Poll::Ready(Some(Record::End(end)))
    }
}

impl Stream for TapReader {
    type Item = Record;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Record>> {
        self.get_mut().poll_record(cx)
    }
}

impl Drop for TapReader {
    fn drop(&mut self) {
        self.records.close();
    }
}

impl fmt::Debug for TapReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapReader")
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}
