use std::task::{Context, Poll};

use http::{
    Method, Request,
    header::{CONNECTION, UPGRADE},
};
use tower_layer::Layer;
use tower_service::Service;

use crate::handshake::{
    detect::{offers_stream_close, offers_tunnel},
    headers::members,
    is_websocket_request,
};

/// The kind of upgrade that a request asks for.
///
/// A request extension that [`UpgradeIntentLayer`] inserts for authorisation. A WebSocket begins
/// as a GET, so authorisation by the method takes an exec for a read: "get" must not be enough for
/// it.
///
/// The intent does not say that the handshake is valid.
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
            stream_close: offers_stream_close(request),
            tunnel: offers_tunnel(request),
        }
    }

    /// Returns whether the request asks for another protocol than HTTP, a WebSocket or not: by
    /// `Upgrade`, or as a CONNECT of any kind.
    ///
    /// Authorise by this one if a [fallback](crate::WsStreamLayer::fallback) may serve SPDY, which
    /// can begin as a GET too.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.upgrade
    }

    /// Returns whether the request asks for a WebSocket; see
    /// [`is_websocket_request`].
    #[must_use]
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Returns whether the request asks for a WebSocket and offers a subprotocol in which one
    /// channel can end alone: `v5.channel.k8s.io`, spelt exactly so, anywhere in the list.
    #[must_use]
    #[doc(alias = "is_websocket_request_with_stream_close_protocol")]
    pub fn offers_stream_close(&self) -> bool {
        self.stream_close
    }

    /// Returns whether the request asks for a WebSocket and offers a tunnel for SPDY, as
    /// kubectl's port-forward does.
    ///
    /// Such a subprotocol begins with `SPDY/3.1+` and ends in `.k8s.io`. This crate does not
    /// speak it, but a proxy may want to pass it on.
    #[must_use]
    #[doc(alias = "is_websocket_request_with_tunneling_protocol")]
    pub fn offers_tunnel(&self) -> bool {
        self.tunnel
    }
}

/// Returns whether the request asks for a protocol other than HTTP. It does not matter whether the
/// headers have a meaning in the request's version of HTTP, or which `:protocol` a CONNECT has:
/// authorisation had better see one upgrade too many.
fn asks_for_another_protocol<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let names = members(headers, &UPGRADE).next().is_some()
        && members(headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    names || request.method() == Method::CONNECT
}

/// Inserts an [`UpgradeIntent`] into the extensions of every request.
///
/// Belongs outside of authorisation, which belongs outside of
/// [`WsStreamLayer`](crate::WsStreamLayer). It changes nothing else. Every request gets an intent,
/// whether it is an upgrade or not. So authorisation can refuse a request without one, for which
/// the layer is missing.
///
/// # Examples
///
/// An authorisation that requires `create` on `pods/exec` for an exec, as kube-apiserver does for
/// its POST:
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
/// # // As far as the handshake, which has no version.
/// # assert_eq!(ask(vec![("create", "pods/exec")]).await.unwrap().status(), 426);
/// # });
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
        UpgradeIntentService { inner }
    }
}

/// The service of an [`UpgradeIntentLayer`].
#[derive(Clone, Copy, Debug)]
pub struct UpgradeIntentService<S> {
    inner: S,
}

impl<S> UpgradeIntentService<S> {
    /// Returns the inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns the inner service, to change it for the requests to come.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service, and discards the layer.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B> Service<Request<B>> for UpgradeIntentService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let intent = UpgradeIntent::from_request(&request);
        request.extensions_mut().insert(intent);
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Ready, ready},
    };

    use tower::{ServiceExt, service_fn};

    use super::*;

    fn request(upgrade: &str, offers: &str) -> Request<&'static str> {
        Request::get("/exec")
            .header("Connection", "keep-alive, Upgrade")
            .header("Upgrade", upgrade)
            .header("Sec-WebSocket-Protocol", offers)
            .body("the body")
            .unwrap()
    }

    /// Upgrade, WebSocket, stream close, tunnel.
    fn told<B>(request: &Request<B>) -> [bool; 4] {
        let intent = UpgradeIntent::from_request(request);
        [
            intent.is_upgrade(),
            intent.is_websocket(),
            intent.offers_stream_close(),
            intent.offers_tunnel(),
        ]
    }

    #[test]
    fn each_kind_of_upgrade_is_told_from_the_others() {
        let (v5, tunnel) = ("v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io");
        for (upgrade, offers, expected) in [
            ("websocket", "v4.channel.k8s.io", [true, true, false, false]),
            ("WebSocket", v5, [true, true, true, false]),
            ("websocket", tunnel, [true, true, false, true]),
            ("SPDY/3.1", v5, [true, false, false, false]),
            ("", v5, [false; 4]),
        ] {
            assert_eq!(
                told(&request(upgrade, offers)),
                expected,
                "{upgrade} {offers}"
            );
        }
        let both = request("websocket", &format!("{tunnel}, {v5}"));
        assert_eq!(told(&both), [true; 4]);
        // Over HTTP/2 another protocol is asked for by a CONNECT.
        let connect = Request::connect("pod:80").body(()).unwrap();
        assert_eq!(told(&connect), [true, false, false, false]);
        // Without the option of `Connection` there is no upgrade to be made.
        let mut no_option = request("SPDY/3.1", v5);
        no_option.headers_mut().remove(CONNECTION);
        assert_eq!(told(&no_option), [false; 4]);
    }

    #[tokio::test]
    async fn every_request_passes_with_its_intent_and_none_of_its_own_choice() {
        fn echo<B>(request: Request<B>) -> Ready<Result<Request<B>, Infallible>> {
            ready(Ok(request))
        }
        for upgrade in ["websocket", ""] {
            let mut asked = request(upgrade, "x");
            let forged = UpgradeIntent::from_request(&request("h2c", ""));
            asked.extensions_mut().insert(forged);
            let expected = UpgradeIntent::from_request(&asked);
            let headers = asked.headers().clone();

            let service = UpgradeIntentLayer::new().layer(service_fn(echo));
            let passed = service.oneshot(asked).await.unwrap();
            assert_eq!(passed.extensions().get::<UpgradeIntent>(), Some(&expected));
            assert_eq!((passed.headers(), *passed.body()), (&headers, "the body"));
        }
    }

    #[test]
    fn readiness_is_the_inner_services() {
        let (mock, mut handle) = tower_test::mock::pair::<Request<()>, ()>();
        let mut service = tokio_test::task::spawn(UpgradeIntentLayer::new().layer(mock));
        handle.allow(0);
        tokio_test::assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
        handle.allow(1);
        assert!(service.is_woken());
        tokio_test::assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
    }
}
