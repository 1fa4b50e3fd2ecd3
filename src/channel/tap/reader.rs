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
    records::{Next, Records},
};
use crate::error::EndCause;

/// Receives the records of one session in order, with [`next`](Self::next) or as a [`Stream`].
///
/// Any task can read it. If it is not read, the session stalls or records are lost, depending on
/// the [`Overflow`](super::Overflow). Dropping it ends the recording, and the session continues.
#[must_use = "dropping it ends the recording"]
pub struct TapReader {
    records: Arc<Records>,
    stage: Stage,
}

enum Stage {
    Open,
    /// No handle is left that could add a record, and the session has not ended yet.
    Ending {
        cause: Pin<Box<dyn Future<Output = EndCause> + Send + Sync>>,
        lost: Lost,
    },
    Over,
}

impl TapReader {
    pub(super) fn new(records: Arc<Records>) -> Self {
        Self {
            records,
            stage: Stage::Open,
        }
    }

    /// Returns the next record, or `None` after [`Record::End`] or if the tap was dropped without
    /// a session.
    ///
    /// # Cancel safety
    /// This method is cancel safe: no record is lost if the future is dropped.
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
