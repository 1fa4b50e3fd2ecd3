use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response,
    header::{CONNECTION, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use http_body::Body;
use tower_service::Service;

use super::{WsReaderFuture, WsReaderLayer, future::Upgrading};
use crate::{
    BoxError, ProtocolSource, Rejection,
    body::ResponseBody,
    handshake::{
        detect::{self, Upgrade},
        source::ask,
    },
    opening::Proposal,
    unwind::drop_quietly,
};

/// The service of a [`WsReaderLayer`].
#[derive(Clone)]
pub struct WsReaderService<S> {
    inner: S,
    layer: WsReaderLayer,
}

impl<S> WsReaderService<S> {
    pub(super) fn new(inner: S, layer: WsReaderLayer) -> Self {
        Self { inner, layer }
    }

    /// Returns a reference to the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Changes apply to later requests.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Consumes the service, and returns the inner one.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, RB> Service<Request<B>> for WsReaderService<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body<Data = Bytes> + Send + 'static,
    RB::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<RB>>;
    type Error = S::Error;
    type Future = WsReaderFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(upgrade) = detect::detect(&request) else {
            return WsReaderFuture::plain(self.inner.call(request));
        };
        let (head, body) = request.into_parts();
        let WsReaderLayer {
            protocols,
            config,
            ping,
            message,
        } = &self.layer;
        let agreed = Proposal::judge(upgrade, Box::new(head), config).and_then(|proposal| {
            let table = ask(|| protocols.protocols(proposal.head()))?;
            proposal.select(&table)
        });
        let (agreement, head) = match agreed {
            Ok(agreed) => agreed,
            Err(rejection) => {
                drop_quietly(body, "the body of a request");
                return WsReaderFuture::refused(upgrade, rejection);
            }
        };
        let mut head = *head.into_inner();
        forget_handshake(upgrade, &mut head);
        let upgrading = Upgrading {
            agreement,
            ping: *ping,
            message: *message,
        };
        let request = Request::from_parts(head, body);
        let called =
            Rejection::on_panic("the call of the inner service", || self.inner.call(request));
        match called {
            Ok(future) => WsReaderFuture::upgrading(upgrade, future, upgrading),
            Err(rejection) => WsReaderFuture::refused(upgrade, rejection),
        }
    }
}

impl<S> fmt::Debug for WsReaderService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WsReaderService")
            .field("layer", &self.layer)
            .finish_non_exhaustive()
    }
}

/// Turns the head into that of an ordinary GET.
///
/// The offered subprotocols are removed too: they may contain credentials, which the service does
/// not need.
fn forget_handshake(upgrade: Upgrade, head: &mut http::request::Parts) {
    head.method = Method::GET;
    if upgrade == Upgrade::Http2 {
        #[cfg(feature = "http2")]
        head.extensions.remove::<hyper::ext::Protocol>();
    } else {
        head.headers.remove(CONNECTION);
        head.headers.remove(UPGRADE);
    }
    remove_websocket(&mut head.headers);
}

fn remove_websocket(headers: &mut HeaderMap) {
    use http::header::{SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
    for name in [
        SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY,
        SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION,
    ] {
        headers.remove(name);
    }
}
