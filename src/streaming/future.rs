use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{body::ResponseBody, channel::ChannelSet, error::BoxError, ws_stream::WsStreamFuture};

pin_project! {
    /// The response future of [`Streaming`](super::Streaming).
    ///
    /// Nothing is spawned before it completes. Dropping it earlier drops the inner service's future,
    /// and leaves nothing behind.
    #[must_use = "futures do nothing unless polled"]
    pub struct StreamingFuture<F, S> {
        #[pin]
        answer: WsStreamFuture<F, S>,
    }
}

impl<F, S> StreamingFuture<F, S> {
    pub(super) fn new(answer: WsStreamFuture<F, S>) -> Self {
        Self { answer }
    }
}

impl<F, S, B, E> Future for StreamingFuture<F, S>
where
    F: Future<Output = Result<Response<B>, E>>,
    S: Service<ChannelSet, Response = ()>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().answer.poll(cx)
    }
}

impl<F, S> fmt::Debug for StreamingFuture<F, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamingFuture").finish_non_exhaustive()
    }
}
