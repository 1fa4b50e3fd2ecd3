use tower_layer::Layer;

use super::UpgradeIntentService;

/// Inserts an [`UpgradeIntent`](super::UpgradeIntent) into the extensions of every request.
///
/// The layer belongs outside of authorisation, which belongs outside of
/// [`WsStreamLayer`](crate::WsStreamLayer). It changes nothing else. Every request gets an intent,
/// whether it is an upgrade or not, so authorisation can refuse a request that has none because the
/// layer is missing.
///
/// # Examples
///
/// Authorisation that requires the verb `create` on `pods/exec` for an exec, as kube-apiserver does
/// for its POST:
///
/// ```
/// use http::{Method, Request, Response, StatusCode};
/// use tower::ServiceBuilder;
/// use tower_http::validate_request::ValidateRequestHeaderLayer;
/// use tower_wsstream::{
///     BoxError, Rejection, WsStreamLayer,
///     access::{BearerSubprotocolLayer, UpgradeIntent, UpgradeIntentLayer},
///     body::ResponseBody,
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// /// Inserted by authentication.
/// #[derive(Clone)]
/// struct User {
///     rules: Vec<(&'static str, &'static str)>,
/// }
///
/// fn verb<B>(request: &Request<B>) -> Option<&'static str> {
///     let intent = request.extensions().get::<UpgradeIntent>()?;
///     match *request.method() {
///         _ if intent.is_upgrade() => Some("create"),
///         Method::GET => Some("get"),
///         Method::POST => Some("create"),
///         _ => None,
///     }
/// }
///
/// fn authorize<B, A>(request: &mut Request<B>) -> Result<(), Response<ResponseBody<A>>> {
///     let user = request.extensions().get::<User>();
///     match (user, verb(request)) {
///         (Some(user), Some(verb)) if user.rules.contains(&(verb, "pods/exec")) => Ok(()),
///         _ => Err(Rejection::new(
///             StatusCode::FORBIDDEN,
///             "an exec needs the verb create on pods/exec: ask for a role that has it",
///         )
///         .into_response()),
///     }
/// }
///
/// let exec = ServiceBuilder::new()
///     .layer(BearerSubprotocolLayer::new())
///     // Authentication goes here.
///     .layer(UpgradeIntentLayer::new())
///     .layer(ValidateRequestHeaderLayer::custom(authorize))
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
/// # use tower::ServiceExt;
/// # let ask = |rules: Vec<_>| {
/// #     let request = Request::get("/exec?command=ls&stdout=1")
/// #         .header("connection", "Upgrade")
/// #         .header("upgrade", "websocket")
/// #         .extension(User { rules })
/// #         .body(())
/// #         .unwrap();
/// #     exec.clone().oneshot(request)
/// # };
/// # let rt = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # rt.block_on(async {
/// # assert_eq!(ask(vec![("get", "pods/exec")]).await.unwrap().status(), 403);
/// # // It gets as far as the handshake, which names no version.
/// # assert_eq!(ask(vec![("create", "pods/exec")]).await.unwrap().status(), 426);
/// # });
/// ```
///
/// Where a handler authorises by itself, it reads the intent like any other extension:
///
/// ```
/// use axum::{Extension, Router, routing::any};
/// use http::StatusCode;
/// use tower_wsstream::access::{UpgradeIntent, UpgradeIntentLayer};
///
/// async fn proxy(Extension(intent): Extension<UpgradeIntent>) -> StatusCode {
///     match intent.is_upgrade() {
///         true => StatusCode::FORBIDDEN,
///         false => StatusCode::OK,
///     }
/// }
///
/// let app: Router = Router::new().route("/proxy", any(proxy)).layer(UpgradeIntentLayer::new());
/// # let _ = app;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct UpgradeIntentLayer {}

impl UpgradeIntentLayer {
    /// Creates the layer, which has no settings.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for UpgradeIntentLayer {
    type Service = UpgradeIntentService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        UpgradeIntentService::new(inner)
    }
}
