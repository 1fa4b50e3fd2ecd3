use std::{
    fmt, io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::unwind::quietly;

/// The name of the source in the log, if its drop panics.
const SOURCE: &str = "the source of a body";

/// The largest number of bytes of one read: one message of the default size.
const READ: usize = 32 * 1024;

pin_project! {
    /// An `AsyncRead` as a response body, such as a file, a pipe, or the output of a process.
    ///
    /// Inside of a [`WsReaderLayer`](super::WsReaderLayer), each read becomes one message, or more if
    /// messages are smaller than 32 KiB. A plain HTTP client gets an ordinary body. An error of the
    /// source becomes an error of the body, after the data in front of it. Dropping the body drops
    /// the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{convert::Infallible, io::Cursor};
    ///
    /// use http::{Request, Response};
    /// use tower::ServiceBuilder;
    /// use tower_wsstream::reader::{WsReader, WsReaderLayer};
    ///
    /// type Body = WsReader<Cursor<&'static str>>;
    ///
    /// async fn log(_: Request<()>) -> Result<Response<Body>, Infallible> {
    ///     Ok(Response::new(WsReader::new(Cursor::new("a line\n"))))
    /// }
    ///
    /// let service = ServiceBuilder::new().layer(WsReaderLayer::new()).service_fn(log);
    /// # let _ = service;
    /// ```
    pub struct WsReader<R> {
        #[pin]
        source: Option<R>,
        buffer: BytesMut,
    }
}

impl<R: AsyncRead> WsReader<R> {
    /// Creates a body from a source.
    pub fn new(source: R) -> Self {
        Self {
            source: Some(source),
            buffer: BytesMut::new(),
        }
    }
}

impl<R: AsyncRead> Body for WsReader<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let mut this = self.project();
        let Some(mut source) = this.source.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        // `reserve` finds a new buffer for each read while data of earlier reads is still held,
        // because data is handed out without a copy.
        this.buffer.reserve(READ);
        let read = ready!(pin!(source.read_buf(this.buffer)).poll(cx));
        match read {
            Ok(0) => {
                quietly(SOURCE, || this.source.set(None));
                Poll::Ready(None)
            }
            Ok(_) => Poll::Ready(Some(Ok(Frame::data(this.buffer.split().freeze())))),
            Err(error) => {
                quietly(SOURCE, || this.source.set(None));
                Poll::Ready(Some(Err(error)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<R> fmt::Debug for WsReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsReader").finish_non_exhaustive()
    }
}
