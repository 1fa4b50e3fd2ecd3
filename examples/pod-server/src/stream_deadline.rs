//! A deadline for a stream of HTTP/2 whose client takes nothing.
//!
//! A client that answers Pings and opens no window escapes the kernel's deadline, because nothing
//! is written for it. hyper polls the body again only when its last frame has gone, so the body
//! cannot end itself. The task of the stream can: dropping its future resets the stream. The
//! other streams of the connection go on, and so do sessions on it.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep};

tokio::task_local! {
    /// When the stream of this task ends unless its body is polled before. A body over HTTP/1.1
    /// has no task of its own, and needs none, because the kernel sees its client.
    static UNTIL: Cell<Option<Instant>>;
}

/// Runs each stream of HTTP/2 until it ends, or its [`Timed`] body has waited for too long.
#[derive(Clone)]
pub(crate) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(UNTIL.scope(Cell::default(), run(stream)));
    }
}

async fn run(stream: impl Future<Output = ()>) {
    let mut stream = pin!(stream);
    let mut alarm = pin!(sleep(Duration::ZERO));
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(until) = UNTIL.with(Cell::get) else {
            return Poll::Pending;
        };
        alarm.as_mut().reset(until);
        alarm.as_mut().poll(cx)
    })
    .await;
}

pin_project_lite::pin_project! {
    /// A body that notes when it has to be polled next.
    pub(crate) struct Timed<B, H> {
        #[pin]
        body: B,
        limit: Option<Duration>,
        held: H,
    }
}

impl<B, H> Timed<B, H> {
    /// Wraps a body in the task of its stream. The time begins now. `held` is dropped with the
    /// body.
    pub(crate) fn new(body: B, limit: Option<Duration>, held: H) -> Self {
        poll_within(limit);
        Self { body, limit, held }
    }
}

impl<B: Body, H> Body for Timed<B, H> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        // While the body is pending, the client is not to blame.
        poll_within(if frame.is_ready() { *this.limit } else { None });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn poll_within(limit: Option<Duration>) {
    let _ = UNTIL.try_with(|until| until.set(limit.map(|limit| Instant::now() + limit)));
}

#[cfg(test)]
#[path = "stream_deadline_tests.rs"]
mod tests;
