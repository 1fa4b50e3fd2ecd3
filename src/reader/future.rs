use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, Version};
use http_body::Body;
use pin_project_lite::pin_project;

use super::messages::Messages;
use crate::{
    BoxError, Rejection,
    body::ResponseBody,
    handshake::detect::Upgrade,
    opening::{Accepting, Agreement, SERVICE},
    unwind::{drop_quietly, quietly},
};

/// A valid handshake that waits for the service's response.
pub(super) struct Upgrading {
    pub(super) agreement: Agreement,
    pub(super) ping: bool,
    pub(super) message: usize,
}

pin_project! {
    /// The response future of a [`WsReaderService`](super::WsReaderService).
    ///
    /// Nothing is spawned before the service has responded. Dropping the future drops the service's
    /// future, and leaves nothing behind.
    #[must_use = "futures do nothing unless polled"]
    pub struct WsReaderFuture<F, B> {
        version: Version,
        #[pin]
        kind: Kind<F, B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, B> {
        /// Waits for the service's response. `upgrading` is set if the request asks for an upgrade.
        Calling { #[pin] future: F, upgrading: Option<Box<Upgrading>> },
        Refused { rejection: Option<Rejection> },
        Accepting { accepting: Box<Accepting<Messages<B>>> },
    }
}

impl<F, B> WsReaderFuture<F, B> {
    pub(super) fn plain(future: F) -> Self {
        Self {
            version: Version::HTTP_11,
            kind: Kind::Calling {
                future,
                upgrading: None,
            },
        }
    }

    pub(super) fn refused(upgrade: Upgrade, rejection: Rejection) -> Self {
        Self {
            version: upgrade.version(),
            kind: Kind::Refused {
                rejection: Some(rejection),
            },
        }
    }

    pub(super) fn upgrading(upgrade: Upgrade, future: F, upgrading: Upgrading) -> Self {
        Self {
            version: upgrade.version(),
            kind: Kind::Calling {
                future,
                upgrading: Some(Box::new(upgrading)),
            },
        }
    }
}

impl Upgrading {
    /// Begins a session that sends this body.
    fn accept<B>(self, body: B) -> Accepting<Messages<B>> {
        let messages = Messages::new(body, self.ping, self.message);
        Accepting::agreed(messages, self.agreement)
    }
}

impl<F, B, E> Future for WsReaderFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let answer = loop {
            match this.kind.as_mut().project() {
                KindProj::Calling { future, upgrading } => {
                    let polled = match upgrading {
                        None => future.poll(cx),
                        Some(_) => match Rejection::on_panic(SERVICE, || future.poll(cx)) {
                            Ok(polled) => polled,
                            Err(rejection) => {
                                let done = Kind::Refused { rejection: None };
                                quietly(SERVICE, || this.kind.set(done));
                                break Err(rejection);
                            }
                        },
                    };
                    let response = ready!(polled)?;
                    match upgrading.take() {
                        Some(upgrading) if response.status().is_success() => {
                            let (head, body) = response.into_parts();
                            drop_quietly(head, "the head of an answer");
                            let accepting = Box::new(upgrading.accept(body));
                            quietly(SERVICE, || this.kind.set(Kind::Accepting { accepting }));
                        }
                        _ => return Poll::Ready(Ok(response.map(ResponseBody::inner))),
                    }
                }
                KindProj::Refused { rejection } => match rejection.take() {
                    Some(rejection) => break Err(rejection),
                    None => panic!("polled after it was ready"),
                },
                KindProj::Accepting { accepting } => break ready!(accepting.poll(cx)),
            }
        };
        Poll::Ready(Ok(
            answer.unwrap_or_else(|rejection| rejection.into_answer(*this.version))
        ))
    }
}

impl<F, B> fmt::Debug for WsReaderFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsReaderFuture").finish_non_exhaustive()
    }
}
