//! Response bodies: the crate's own, and that of an inner HTTP service.
//!
//! | type | role |
//! |---|---|
//! | [`ResponseBody`] | the body of all responses of this crate's layers |
//! | [`NoBody`] | the inner body if there is no inner HTTP service |
//!
//! # Examples
//!
//! A middleware that answers itself in the type of this crate's layers:
//!
//! ```
//! use http::{Response, StatusCode};
//! use tower_wsstream::{
//!     Rejection,
//!     body::{NoBody, ResponseBody},
//! };
//!
//! fn not_found() -> Response<ResponseBody<NoBody>> {
//!     Rejection::new(StatusCode::NOT_FOUND, "there is no such pod").into_response()
//! }
//! assert_eq!(not_found().status(), StatusCode::NOT_FOUND);
//! ```
//!
//! In axum, `Response::map` with `axum::body::Body::new` turns it into axum's own body.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response: empty, a refusal, or the body of an inner HTTP service.
    ///
    /// It reports its exact size, or that which the inner body reports. If an empty body did not
    /// report its size, a middleware that compresses would take it for a stream.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B> {
        Empty,
        Full { bytes: Option<Bytes> },
        Inner { #[pin] body: B },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) fn full(bytes: Bytes) -> Self {
        // An empty text becomes no frame, because a data frame should not be empty.
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self {
            kind: Kind::Full { bytes },
        }
    }

    pub(crate) fn inner(body: B) -> Self {
        Self {
            kind: Kind::Inner { body },
        }
    }
}

impl<B> Default for ResponseBody<B> {
    fn default() -> Self {
        Self { kind: Kind::Empty }
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    // Shows the kind of the body, but not its content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Empty => "Empty",
            Kind::Full { .. } => "Full",
            Kind::Inner { .. } => "Inner",
        };
        f.debug_tuple("ResponseBody")
            .field(&format_args!("{kind}"))
            .finish()
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Empty => Poll::Ready(None),
            KindProj::Full { bytes } => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            KindProj::Inner { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full { bytes } => bytes.is_none(),
            Kind::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Inner { body } => body.size_hint(),
        }
    }
}

/// The body of a fallback that only refuses, such as the default one.
///
/// This type has no values.
#[derive(Clone, Copy, Debug)]
pub enum NoBody {}

impl Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match *self.get_mut() {}
    }

    fn is_end_stream(&self) -> bool {
        match *self {}
    }

    fn size_hint(&self) -> SizeHint {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    async fn content<B>(body: ResponseBody<B>) -> Bytes
    where
        B: Body<Data = Bytes>,
        B::Error: fmt::Debug,
    {
        body.collect().await.unwrap().to_bytes()
    }

    #[tokio::test]
    async fn default_is_empty_and_says_so() {
        let body = ResponseBody::<NoBody>::default();
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert_eq!(content(body).await, "");
    }

    #[tokio::test]
    async fn full_is_one_frame_of_known_size() {
        let mut body = ResponseBody::<NoBody>::full(Bytes::from_static(b"why"));
        assert!(!body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(3));
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "why");
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[test]
    fn full_of_nothing_is_at_its_end() {
        assert!(ResponseBody::<NoBody>::full(Bytes::new()).is_end_stream());
    }

    #[tokio::test]
    async fn inner_speaks_for_itself() {
        let body = ResponseBody::inner(Full::new(Bytes::from_static(b"page")));
        assert_eq!(body.size_hint().exact(), Some(4));
        assert!(!body.is_end_stream());
        assert_eq!(content(body).await, "page");

        let unknown = StreamBody::new(futures_util::stream::iter([Ok::<_, Infallible>(
            Frame::data(Bytes::from_static(b"part")),
        )]));
        let body = ResponseBody::inner(unknown);
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(content(body).await, "part");
    }

    #[test]
    fn debug_shows_no_content() {
        let body = ResponseBody::<NoBody>::full(Bytes::from_static(b"secret"));
        assert_eq!(format!("{body:?}"), "ResponseBody(Full)");
    }
}
