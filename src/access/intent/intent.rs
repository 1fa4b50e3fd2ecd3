use http::{
    Method, Request,
    header::{CONNECTION, UPGRADE},
};

use crate::handshake::{
    detect::{asks_for_spdy, offers_stream_close, offers_tunnel},
    headers::members,
    is_websocket_request,
};

/// The kind of upgrade that a request asks for.
///
/// [`UpgradeIntentLayer`](super::UpgradeIntentLayer) inserts it into the extensions of a request,
/// for authorisation. A WebSocket begins with a GET, so authorisation by the method alone mistakes
/// an exec for a read, for which the verb `get` is enough.
///
/// An intent does not say whether the handshake is valid.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_wsstream::access::UpgradeIntent;
///
/// let request = Request::get("/api/v1/namespaces/default/pods/web/exec?command=sh&stdin=1")
///     .header("connection", "Upgrade")
///     .header("upgrade", "websocket")
///     .header("sec-websocket-protocol", "v5.channel.k8s.io")
///     .body(())?;
/// let intent = UpgradeIntent::from_request(&request);
/// assert!(intent.is_websocket() && intent.offers_stream_close());
/// assert!(!intent.is_spdy() && !intent.offers_tunnel());
///
/// let request = Request::get("/api/v1/namespaces/default/pods/web").body(())?;
/// assert!(!UpgradeIntent::from_request(&request).is_upgrade());
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct UpgradeIntent {
    upgrade: bool,
    websocket: bool,
    spdy: bool,
    stream_close: bool,
    tunnel: bool,
}

impl UpgradeIntent {
    /// Reads the intent of a request from its head.
    #[must_use]
    pub fn from_request<B>(request: &Request<B>) -> Self {
        let websocket = is_websocket_request(request);
        Self {
            upgrade: websocket || asks_for_another_protocol(request),
            websocket,
            spdy: asks_for_spdy(request.version(), request.headers()),
            stream_close: offers_stream_close(request),
            tunnel: offers_tunnel(request),
        }
    }

    /// Returns whether the request asks for a protocol other than HTTP, be it WebSocket or not.
    ///
    /// It does so by an `Upgrade` header, or by being a CONNECT of any kind. Base authorisation on
    /// this method if SPDY may be served as well, which can begin with a GET too.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Returns whether the request asks for a WebSocket; see [`is_websocket_request`].
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Returns whether the request asks for SPDY/3.1 without a WebSocket.
    ///
    /// `StreamingLayer`, with the feature `spdy`, makes a session of it.
    #[must_use]
    pub fn is_spdy(&self) -> bool {
        self.spdy
    }

    /// Returns whether the request asks for a WebSocket and offers a subprotocol with half-close.
    ///
    /// That is `v5.channel.k8s.io`, in exactly this spelling, anywhere in the list.
    #[must_use]
    #[doc(alias = "is_websocket_request_with_stream_close_protocol")]
    pub fn offers_stream_close(&self) -> bool {
        self.stream_close
    }

    /// Returns whether the request asks for a WebSocket and offers a tunnel for SPDY, as kubectl's
    /// port-forward does.
    ///
    /// Such a subprotocol begins with `SPDY/3.1+` and ends with `.k8s.io`. `portforward` speaks it
    /// with the feature `spdy`. The ports are not in the request: the client names one for each
    /// connection that it opens in the session.
    #[must_use]
    #[doc(alias = "is_websocket_request_with_tunneling_protocol")]
    pub fn offers_tunnel(&self) -> bool {
        self.tunnel
    }
}

/// Returns whether the request asks for a protocol other than HTTP.
///
/// The headers count even if the request's version of HTTP gives them no meaning, and a CONNECT
/// counts with any `:protocol`: for authorisation, seeing one upgrade too many is the safe error.
fn asks_for_another_protocol<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let names = members(headers, &UPGRADE).next().is_some()
        && members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    names || request.method() == Method::CONNECT
}
