use tower_layer::Layer;

use super::BearerSubprotocol;

/// Turns the bearer token that a browser offers as a subprotocol into an
/// `Authorization` header.
///
/// A page cannot set headers on a WebSocket. Kubernetes lets it offer its token beside
/// the subprotocols, as an entry `base64url.bearer.authorization.k8s.io.` with the
/// token in base64url behind it, without padding:
///
/// ```js
/// new WebSocket(url, ["v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io." + base64url(token)])
/// ```
///
/// This layer takes the entry out of the offer and puts `Authorization: Bearer <token>`
/// in, marked as sensitive: so a log of the headers shows neither. Whether the token is a
/// good one is for authentication to say, which sees nothing but that header.
///
/// **It belongs outside of everything that logs or authenticates**, and over a
/// `Service<http::Request<B>>`: what is further out still sees the token. Where that
/// cannot be, mark `Sec-WebSocket-Protocol` sensitive with tower-http's
/// `SetSensitiveRequestHeadersLayer` in front of it all, as one does for the
/// `Authorization` of other clients.
///
/// Only requests for a WebSocket are looked at, all lines of the header; the other
/// entries stay in their order and in their lines. A request without an entry passes as it
/// is. The prefix is compared with its case, as kube-apiserver does; a line in which
/// something begins like it, in any case and in any request, is marked sensitive and stays.
///
/// # Refusals
///
/// The rules are kube-apiserver's, and so is the code: 401, with a
/// [`Status`](crate::Status), for two entries, one that is no base64url or no UTF-8, and one
/// that is the whole offer, because then nothing would be left to select. Its text never
/// repeats the entry, and the inner service is not called. Stricter than kube-apiserver:
///
/// * An empty token is a 401; kube-apiserver takes it for none, and leaves the entry there.
/// * So is a token with a space or a control character, which a header cannot hold or
///   which would end the token there. Beyond ASCII it goes into the header as UTF-8, where
///   [`HeaderValue::to_str`] does not show it.
/// * With an `Authorization` header beside the entry it is a 400 (RFC 6750, 3.1):
///   else it would depend on the layers inside which of the two counts.
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
/// // The path alone: the query of an exec holds its command.
/// let trace = TraceLayer::new_for_http().make_span_with(|request: &http::Request<_>| {
///     tracing::info_span!("request", method = %request.method(), path = request.uri().path())
/// });
/// let exec = ServiceBuilder::new()
///     .layer(BearerSubprotocolLayer::new())
///     .layer(trace)
///     // Here authentication, by the Authorization header alone.
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
    /// The layer; it has no knobs.
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
