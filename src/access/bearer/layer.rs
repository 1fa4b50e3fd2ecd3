use tower_layer::Layer;

use super::BearerSubprotocol;

/// Turns the bearer token that a browser offers as a subprotocol into an `Authorization` header.
///
/// A web page cannot set headers on a WebSocket. Kubernetes lets it offer its token among the
/// subprotocols instead, as an entry that consists of `base64url.bearer.authorization.k8s.io.` and
/// the token in base64url without padding:
///
/// ```js
/// new WebSocket(url, ["v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io." + base64url(token)])
/// ```
///
/// This layer removes the entry from the offer and inserts `Authorization: Bearer <token>`, marked
/// as sensitive, so that a log of the headers does not show the token. It does not verify the
/// token. That is left to authentication, which sees only the header.
///
/// **It belongs outside of everything that logs or authenticates**, over a
/// `Service<http::Request<B>>`: layers further out still see the token. If that is impossible, mark
/// `Sec-WebSocket-Protocol` as sensitive with tower-http's `SetSensitiveRequestHeadersLayer` in
/// front of them, as you would the `Authorization` of other clients.
///
/// The layer handles only requests for a WebSocket, and looks at all lines of the header. Other
/// entries keep their order and their lines, and a request without an entry passes unchanged. The
/// prefix is case-sensitive, as in kube-apiserver. An entry whose prefix differs in case, or that
/// is in another kind of request, stays in the offer, and its line is marked as sensitive.
///
/// # Refusals
///
/// The rules and the code are those of kube-apiserver. The answer is a 401 with a
/// [`Status`](crate::Status) if there are two entries, if the entry is not base64url or not UTF-8,
/// or if it is the whole offer, because nothing would be left to select. The text never repeats the
/// entry, and the inner service is not called. The layer is stricter than kube-apiserver in three
/// cases:
///
/// * An empty token is refused with 401. kube-apiserver ignores it, and leaves the entry in the
///   offer.
/// * A token with a space or a control character is refused with 401: a header cannot hold the
///   character, or the token would end there. A token with characters beyond ASCII goes into the
///   header as UTF-8, for which [`HeaderValue::to_str`](http::HeaderValue::to_str) returns an
///   error.
/// * An `Authorization` header beside the entry is refused with 400 (RFC 6750, 3.1). Otherwise the
///   layers inside would decide which of the two counts.
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
/// // The span leaves out the query, which holds the command of an exec.
/// let trace = TraceLayer::new_for_http().make_span_with(|request: &http::Request<_>| {
///     tracing::info_span!("request", method = %request.method(), path = request.uri().path())
/// });
/// let exec = ServiceBuilder::new()
///     .layer(BearerSubprotocolLayer::new())
///     .layer(trace)
///     // Authentication goes here, and needs the Authorization header only.
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # fn serves<S: tower::Service<http::Request<String>>>(_: S) {}
/// # serves(exec);
/// ```
///
/// The token as a check of credentials sees it:
///
/// ```
/// # #[cfg(feature = "testing")]
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tower_wsstream::BoxError> {
/// use http::header::AUTHORIZATION;
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, ChannelProtocols, ChannelSet, WsStreamLayer, access::BearerSubprotocolLayer,
///     testing::Connect,
/// };
///
/// async fn whoami(mut channels: ChannelSet) -> Result<(), BoxError> {
///     let head = channels.take_request().ok_or("the head was taken")?;
///     assert_eq!(head.headers[AUTHORIZATION], "Bearer secret");
///     assert!(head.headers[AUTHORIZATION].is_sensitive());
///     Ok(())
/// }
///
/// let service = ServiceBuilder::new()
///     .layer(BearerSubprotocolLayer::new())
///     .layer(WsStreamLayer::new(ChannelProtocols::standard([])?))
///     .service_fn(whoami);
/// let client = Connect::to("/")
///     .offer("channel.k8s.io")
///     .offer("base64url.bearer.authorization.k8s.io.c2VjcmV0")
///     .connect(service)
///     .await?;
/// assert_eq!(client.subprotocol(), "channel.k8s.io");
/// assert_eq!(client.read_to_end().await.close_code, Some(1000));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testing"))]
/// # fn main() {}
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
