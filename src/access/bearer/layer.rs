use tower_layer::Layer;

use super::BearerSubprotocol;

/// Turns the bearer token that a browser offers as a subprotocol into an `Authorization` header.
///
/// A page cannot set headers on a WebSocket. Kubernetes lets it offer its token beside the
/// subprotocols, as an entry `base64url.bearer.authorization.k8s.io.` followed by the token in
/// base64url without padding:
///
/// ```js
/// new WebSocket(url, ["v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io." + base64url(token)])
/// ```
///
/// This layer removes the entry from the offer and inserts `Authorization: Bearer <token>`, marked
/// as sensitive, so that a log of the headers shows neither. It does not judge the token: that is
/// left to authentication, which sees nothing but the header.
///
/// **It belongs outside of everything that logs or authenticates**, over a
/// `Service<http::Request<B>>`: layers further out still see the token. If that is impossible, mark
/// `Sec-WebSocket-Protocol` as sensitive with tower-http's `SetSensitiveRequestHeadersLayer` in
/// front of them, as for the `Authorization` of other clients.
///
/// The layer looks at requests for a WebSocket only, and at all lines of the header. The other
/// entries stay in their order and in their lines. A request without an entry passes unchanged. The
/// prefix is case-sensitive, as in kube-apiserver. A line with an entry that begins like the prefix,
/// in any case and in any request, is marked as sensitive and stays.
///
/// # Refusals
///
/// The rules and the code are kube-apiserver's: 401, with a [`Status`](crate::Status), for two
/// entries, for one that is not base64url or not UTF-8, and for one that is the whole offer, because
/// then nothing would be left to select. The text never repeats the entry, and the inner service is
/// not called. The layer is stricter than kube-apiserver in three cases:
///
/// * An empty token is a 401. kube-apiserver ignores it, and leaves the entry in the offer.
/// * A token with a space or a control character is a 401: a header cannot hold it, or the token
///   would end there. A token beyond ASCII goes into the header as UTF-8, which
///   [`HeaderValue::to_str`](http::HeaderValue::to_str) does not show.
/// * An `Authorization` header beside the entry is a 400 (RFC 6750, 3.1): otherwise the layers
///   inside would decide which of the two counts.
///
/// # Examples
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_http::trace::TraceLayer;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     access::BearerSubprotocolLayer,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// // Without the query, which holds the command of an exec.
/// let trace = TraceLayer::new_for_http().make_span_with(|request: &http::Request<_>| {
///     tracing::info_span!("request", method = %request.method(), path = request.uri().path())
/// });
/// let exec = ServiceBuilder::new()
///     .layer(BearerSubprotocolLayer::new())
///     .layer(trace)
///     // Authentication goes here, by the Authorization header alone.
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # fn serves<S: tower::Service<http::Request<String>>>(_: S) {}
/// # serves(exec);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BearerSubprotocolLayer {}

impl BearerSubprotocolLayer {
    /// Creates the layer, which has no settings.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for BearerSubprotocolLayer {
    type Service = BearerSubprotocol<S>;

    fn layer(&self, inner: S) -> Self::Service {
        BearerSubprotocol::new(inner)
    }
}
