//! Why a request gets no session, and the answer that says so.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode, Version};
use tower::load_shed::error::Overloaded;
use tower::timeout::error::Elapsed;

use crate::body::ResponseBody;
use crate::error::chain;
use crate::protocol::{ChannelProtocols, ConfigError, Status};

/// Seconds after which an overloaded server may be tried again. Sessions end
/// at any moment, so that the shortest wait that HTTP can express is right.
const RETRY_AFTER_OVERLOAD: HeaderValue = HeaderValue::from_static("1");

/// The longest one that is registered, `UPDATEREDIRECTREF`.
const LONGEST_METHOD: usize = 17;

/// Why a request was refused before the upgrade.
///
/// It becomes an HTTP answer whose body is a [`Status`] as JSON, and is left in
/// the extensions of that answer, for a layer outside to see. A service that
/// fails at once refuses with the `Rejection` it finds in its error.
///
/// Build one with [`new`](Self::new) to refuse for a reason of your own.
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use tower_wsstream::{Rejection, RejectionKind};
///
/// let rejection = Rejection::new(StatusCode::NOT_FOUND, "there is no container \"web\"");
/// assert_eq!(rejection.kind(), RejectionKind::Custom);
/// assert_eq!(rejection.status(), StatusCode::NOT_FOUND);
/// ```
#[derive(Clone)]
pub struct Rejection {
    // Boxed, because it travels in the `Err` of many small results.
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: RejectionKind,
    status: StatusCode,
    message: Cow<'static, str>,
    headers: HeaderMap,
}

/// What kind of refusal a [`Rejection`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The request asks for no WebSocket, and there is no fallback for it
    /// (426).
    NotAnUpgrade,
    /// The handshake's method is not GET (405).
    MethodNotAllowed,
    /// The handshake or its parameters are malformed (400).
    BadRequest,
    /// The bearer token among the offered subprotocols is not a valid one (401).
    Unauthorized,
    /// A version of WebSocket other than 13 (426).
    UnsupportedVersion,
    /// None of the offered subprotocols is spoken here (403).
    NoCommonSubprotocol,
    /// A page of another origin asked (403).
    Origin,
    /// The service was not ready, or did not accept, in time (504).
    NotReady,
    /// The service sheds load (503).
    Overloaded,
    /// Sessions begin faster than the rate allows (429).
    RateLimited,
    /// As many sessions are open as one user, or whoever is counted, may have (429).
    ///
    /// Not [`RateLimited`](Self::RateLimited): a wait of known length does not help.
    SessionLimit,
    /// The server shuts down, and takes no new sessions (503).
    Draining,
    /// The service failed before the session began (500).
    Internal,
    /// The layer is configured in a way that cannot work (500).
    Config,
    /// Made with [`Rejection::new`].
    Custom,
}

impl RejectionKind {
    /// Returns a stable label for metrics, in lower case with words joined by `_`.
    ///
    /// A kind that is added later gets a label of its own.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAnUpgrade => "not_an_upgrade",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::BadRequest => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::UnsupportedVersion => "unsupported_version",
            Self::NoCommonSubprotocol => "no_common_subprotocol",
            Self::Origin => "origin",
            Self::NotReady => "not_ready",
            Self::Overloaded => "overloaded",
            Self::RateLimited => "rate_limited",
            Self::SessionLimit => "session_limit",
            Self::Draining => "draining",
            Self::Internal => "internal",
            Self::Config => "config",
            Self::Custom => "custom",
        }
    }
}

impl Rejection {
    /// Refuses with a status and a message of the caller's.
    ///
    /// The message goes to the client: say what to do about it. A status
    /// outside 300 to 599 would tell the client that it was accepted, and is
    /// replaced by 500.
    ///
    /// The headers that HTTP requires with a status are added: `WWW-Authenticate: Bearer` with
    /// 401 and `Proxy-Authenticate: Bearer` with 407, `Allow: GET` with 405, `Upgrade` and
    /// the version of WebSocket with 426. [`with_header`](Self::with_header) replaces them.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let status = match status.as_u16() {
            300..=599 => status,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::of(RejectionKind::Custom, status, message.into()).with_demanded_headers()
    }

    /// RFC 9110: 15.5.2, 15.5.6, 15.5.8 and 15.5.22.
    fn with_demanded_headers(self) -> Self {
        let bearer = HeaderValue::from_static("Bearer");
        match self.status() {
            StatusCode::UNAUTHORIZED => self.with_header(WWW_AUTHENTICATE, bearer),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                self.with_header(PROXY_AUTHENTICATE, bearer)
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                self.with_header(ALLOW, HeaderValue::from_static("GET"))
            }
            StatusCode::UPGRADE_REQUIRED => self.offering_upgrade(),
            _ => self,
        }
    }

    fn of(kind: RejectionKind, status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                status,
                message: message.into(),
                headers: HeaderMap::new(),
            }),
        }
    }

    pub(crate) fn not_an_upgrade() -> Self {
        Self::of(
            RejectionKind::NotAnUpgrade,
            StatusCode::UPGRADE_REQUIRED,
            "this endpoint speaks WebSocket only: connect with a WebSocket client; one that fell back to something else was refused over WebSocket before",
        )
        .with_demanded_headers()
    }

    /// Names the method that came, if it is of a usual length.
    pub(crate) fn method_not_allowed(method: &Method) -> Self {
        let but = match method.as_str() {
            method if method.len() <= LONGEST_METHOD => format!(", and not {method}"),
            _ => String::new(),
        };
        Self::of(
            RejectionKind::MethodNotAllowed,
            StatusCode::METHOD_NOT_ALLOWED,
            format!("a WebSocket handshake must be a GET request{but}"),
        )
        .with_demanded_headers()
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(RejectionKind::BadRequest, StatusCode::BAD_REQUEST, message)
    }

    /// The message says what is wrong with the token, and nothing of what it is.
    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::of(
            RejectionKind::Unauthorized,
            StatusCode::UNAUTHORIZED,
            message,
        )
        .with_demanded_headers()
    }

    /// Names the version that came, if it is a number (RFC 6455, 4.1: 0 to 255).
    pub(crate) fn unsupported_version(version: Option<&[u8]>) -> Self {
        let version = version.and_then(|version| std::str::from_utf8(version).ok());
        let but = match version.and_then(|version| version.parse::<u8>().ok()) {
            Some(version) => format!(", and not {version}"),
            None => String::new(),
        };
        Self::of(
            RejectionKind::UnsupportedVersion,
            StatusCode::UPGRADE_REQUIRED,
            format!(
                "this server speaks WebSocket version 13{but}: send one Sec-WebSocket-Version header with the value 13"
            ),
        )
        .with_demanded_headers()
    }

    /// Names what we speak. What was offered is not repeated: a client may
    /// have put its credentials there.
    pub(crate) fn no_common_subprotocol(protocols: &ChannelProtocols, offered_any: bool) -> Self {
        let names: Vec<&str> = protocols
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty())
            .collect();
        let found = if offered_any {
            "none of the offered WebSocket subprotocols is spoken here"
        } else {
            "this endpoint needs a WebSocket subprotocol and none was offered"
        };
        let accepts_none = offered_any && protocols.get("").is_some();
        let message = match (names.is_empty(), accepts_none) {
            (false, false) => format!("{found}: offer one of {}", names.join(", ")),
            (false, true) => format!("{found}: offer one of {}, or none", names.join(", ")),
            (true, true) => format!("{found}: connect without one"),
            (true, false) => {
                "this endpoint speaks no WebSocket subprotocol: its operator must configure one"
                    .to_owned()
            }
        };
        Self::of(
            RejectionKind::NoCommonSubprotocol,
            StatusCode::FORBIDDEN,
            message,
        )
    }

    /// The message says whose page asked whom. Neither is a secret.
    pub(crate) fn origin(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(RejectionKind::Origin, StatusCode::FORBIDDEN, message)
    }

    /// The message says what was waited for, and for how long.
    pub(crate) fn not_ready(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(
            RejectionKind::NotReady,
            StatusCode::GATEWAY_TIMEOUT,
            message,
        )
    }

    pub(crate) fn overloaded() -> Self {
        Self::of(
            RejectionKind::Overloaded,
            StatusCode::SERVICE_UNAVAILABLE,
            "the server has as many sessions as it can take: try again in a moment",
        )
        .with_header(RETRY_AFTER, RETRY_AFTER_OVERLOAD)
    }

    /// Another instance takes over at once, as a rule.
    pub(crate) fn draining() -> Self {
        Self::of(
            RejectionKind::Draining,
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is shutting down and takes no new sessions: try again in a moment",
        )
        .with_header(RETRY_AFTER, RETRY_AFTER_OVERLOAD)
    }

    /// `Retry-After` knows whole seconds: rounded up, because who comes sooner is
    /// refused again, and never 0, which some clients take for no advice at all.
    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        let part = u64::from(retry_after.subsec_nanos() > 0);
        let seconds = retry_after.as_secs().saturating_add(part).max(1);
        Self::of(
            RejectionKind::RateLimited,
            StatusCode::TOO_MANY_REQUESTS,
            format!("too many sessions were begun in a short time: try again in {seconds} s"),
        )
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// The message does not say what is counted: it need not be a user.
    pub(crate) fn session_limit(most: usize) -> Self {
        Self::of(
            RejectionKind::SessionLimit,
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "the limit of {most} sessions at a time is reached: end one of yours, then try again"
            ),
        )
        .with_header(RETRY_AFTER, RETRY_AFTER_OVERLOAD)
    }

    /// Refuses after a panic of the user's code, which `what` names in the log.
    pub(crate) fn panicked(what: &'static str) -> Self {
        tracing::error!("{what} panicked");
        Self::internal()
    }

    /// The text is fixed: an error of the service may hold what the client
    /// must not see.
    pub(crate) fn internal() -> Self {
        Self::of(
            RejectionKind::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "the service failed before the session began: see the server's log",
        )
    }

    /// The operator's mistake, and named: it holds nothing of any request.
    pub(crate) fn config(error: &ConfigError) -> Self {
        Self::of(
            RejectionKind::Config,
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the server's WebSocket layer is misconfigured: {error}"),
        )
    }

    /// Finds the refusal in an error of a service.
    ///
    /// Along the chain of sources the first that is a `Rejection` is taken as
    /// it is, a [`Status`] with its own code and message, tower's `Overloaded` becomes a 503 with `Retry-After`, tower's
    /// `Elapsed` a 504. Anything else is a 500 with a fixed text, because an
    /// error may say more than the client should know.
    ///
    /// # Examples
    ///
    /// ```
    /// use tower::load_shed::error::Overloaded;
    /// use tower_wsstream::{Rejection, RejectionKind};
    ///
    /// let rejection = Rejection::from_error(&Overloaded::new());
    /// assert_eq!(rejection.kind(), RejectionKind::Overloaded);
    /// ```
    #[must_use]
    pub fn from_error(error: &(dyn Error + 'static)) -> Self {
        for error in chain(error) {
            if let Some(rejection) = error.downcast_ref::<Self>() {
                return rejection.clone();
            }
            if let Some(status) = error.downcast_ref::<Status>()
                && let Some(code) = status.code()
                && let Ok(code) = StatusCode::from_u16(code)
            {
                return Self::new(code, status.message().unwrap_or_default());
            }
            if error.is::<Overloaded>() {
                return Self::overloaded();
            }
            if error.is::<Elapsed>() {
                return Self::not_ready(
                    "the service did not answer in time: try again, or ask its operator for a longer timeout",
                );
            }
        }
        Self::internal()
    }

    /// Adds a header to the answer, in place of one with the same name.
    ///
    /// `Content-Type` and `Content-Length` describe the body and stay ours.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner.headers.insert(name, value);
        self
    }

    /// What a 426 must carry: RFC 9110, 15.5.22 asks for `Upgrade`, 7.8 for the
    /// matching connection option, RFC 6455, 4.4 for the version.
    fn offering_upgrade(self) -> Self {
        self.with_header(UPGRADE, HeaderValue::from_static("websocket"))
            .with_header(CONNECTION, HeaderValue::from_static("Upgrade"))
            .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    /// Returns what kind of refusal this is.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.inner.kind
    }

    /// Returns the status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status
    }

    /// Returns the text for a person.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The refusal as a [`Status`], with Kubernetes' word for its code.
    #[must_use]
    pub fn to_status(&self) -> Status {
        let status = self.status();
        Status::failure(
            reason_of(status),
            self.message().to_owned(),
            status.as_u16(),
        )
    }

    /// Turns the refusal into its answer, a [`Status`] as JSON, with the
    /// refusal itself in the extensions.
    ///
    /// `B` is the body of the answers beside it, and [`NoBody`](crate::body::NoBody) where there
    /// are none: so in a middleware of axum, which makes an answer of it.
    ///
    /// A handler of axum's, with the feature `axum08`, returns the refusal itself: it is
    /// an `IntoResponse`, whose method this one hides.
    ///
    /// # Examples
    ///
    /// ```
    /// use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response};
    /// use http::{StatusCode, header};
    /// use tower_wsstream::{
    ///     Rejection,
    ///     body::{NoBody, ResponseBody},
    /// };
    ///
    /// type Refusal = Response<ResponseBody<NoBody>>;
    ///
    /// async fn authenticate(request: Request, next: Next) -> Result<Response, Refusal> {
    ///     if request.headers().contains_key(header::AUTHORIZATION) {
    ///         return Ok(next.run(request).await);
    ///     }
    ///     let text = "no bearer token: log in, and come with one";
    ///     Err(Rejection::new(StatusCode::UNAUTHORIZED, text).into_response())
    /// }
    ///
    /// let app: Router = Router::new().layer(from_fn(authenticate));
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn into_response<B>(self) -> Response<ResponseBody<B>> {
        let status = self.status();
        let json = self.to_status().to_response_json();
        let length = json.len();

        let mut response = Response::new(ResponseBody::full(json));
        *response.status_mut() = status;
        *response.headers_mut() = self.inner.headers.clone();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        response.extensions_mut().insert(self);
        response
    }

    /// The answer to a request of this version.
    pub(crate) fn into_response_over<B>(self, version: Version) -> Response<ResponseBody<B>> {
        self.over(version).into_response()
    }

    /// The refusal as that version can carry it: HTTP/2 has neither connection headers
    /// nor, therefore, a 426 (RFC 9113, 8.2.2; RFC 9110, 15.5.22).
    pub(crate) fn over(mut self, version: Version) -> Self {
        if version > Version::HTTP_11 {
            self.inner.headers.remove(CONNECTION);
            self.inner.headers.remove(UPGRADE);
            if self.inner.status == StatusCode::UPGRADE_REQUIRED {
                self.inner.status = StatusCode::BAD_REQUEST;
            }
        }
        self
    }
}

/// The word that Kubernetes has for an HTTP status, or nothing.
fn reason_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "BadRequest",
        StatusCode::UNAUTHORIZED => "Unauthorized",
        StatusCode::FORBIDDEN => "Forbidden",
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
        StatusCode::NOT_ACCEPTABLE => "NotAcceptable",
        StatusCode::CONFLICT => "Conflict",
        StatusCode::GONE => "Gone",
        StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "UnsupportedMediaType",
        StatusCode::UNPROCESSABLE_ENTITY => "Invalid",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::INTERNAL_SERVER_ERROR => "InternalError",
        StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
        StatusCode::GATEWAY_TIMEOUT => "Timeout",
        _ => "",
    }
}

impl fmt::Debug for Rejection {
    // By hand: a caller's header may hold a secret (`Set-Cookie`), so that only
    // their names are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.inner.headers.keys().map(HeaderName::as_str).collect();
        f.debug_struct("Rejection")
            .field("kind", &self.kind())
            .field("status", &self.status())
            .field("message", &self.message())
            .field("headers", &names)
            .finish()
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for Rejection {}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::body::NoBody;
    use crate::protocol::{ChannelProtocolConfig, Encoding};

    fn table(names: &[&'static str]) -> ChannelProtocols {
        names
            .iter()
            .fold(ChannelProtocols::builder(), |builder, name| {
                builder.protocol(*name, ChannelProtocolConfig::new(Encoding::Binary, []))
            })
            .build()
            .unwrap()
    }

    /// The answer's status, its JSON, and its headers but those of the body,
    /// which are checked here.
    async fn answer(rejection: Rejection) -> (u16, serde_json::Value, Vec<(String, String)>) {
        let (kind, message) = (rejection.kind(), rejection.message().to_owned());
        let response = rejection.into_response::<NoBody>();
        let kept = response.extensions().get::<Rejection>().unwrap();
        assert_eq!((kept.kind(), kept.message()), (kind, &*message));

        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.headers[CONTENT_TYPE], "application/json");
        assert_eq!(head.headers[CONTENT_LENGTH], body.len().to_string());
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["kind"], "Status");
        assert_eq!(json["apiVersion"], "v1");
        assert_eq!(json["status"], "Failure");
        assert_eq!(json["message"], message);
        assert_eq!(json["code"], head.status.as_u16());
        let mut headers: Vec<_> = head
            .headers
            .iter()
            .filter(|(name, _)| **name != CONTENT_TYPE && **name != CONTENT_LENGTH)
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        headers.sort();
        (head.status.as_u16(), json, headers)
    }

    fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    }

    #[tokio::test]
    async fn every_refusal_has_its_status_headers_and_reason() {
        let upgrade = [
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("upgrade", "websocket"),
        ];
        let table = table(&["v4.channel.k8s.io"]);
        type Case<'a> = (
            Rejection,
            RejectionKind,
            u16,
            Option<&'a str>,
            &'a [(&'a str, &'a str)],
        );
        let cases: [Case<'_>; 14] = [
            (
                Rejection::not_an_upgrade(),
                RejectionKind::NotAnUpgrade,
                426,
                None,
                &upgrade,
            ),
            (
                Rejection::method_not_allowed(&Method::POST),
                RejectionKind::MethodNotAllowed,
                405,
                Some("MethodNotAllowed"),
                &[("allow", "GET")],
            ),
            (
                Rejection::bad_request("x"),
                RejectionKind::BadRequest,
                400,
                Some("BadRequest"),
                &[],
            ),
            (
                Rejection::unauthorized("x"),
                RejectionKind::Unauthorized,
                401,
                Some("Unauthorized"),
                &[("www-authenticate", "Bearer")],
            ),
            (
                Rejection::unsupported_version(Some(b"8")),
                RejectionKind::UnsupportedVersion,
                426,
                None,
                &upgrade,
            ),
            (
                Rejection::no_common_subprotocol(&table, true),
                RejectionKind::NoCommonSubprotocol,
                403,
                Some("Forbidden"),
                &[],
            ),
            (
                Rejection::origin("not from there"),
                RejectionKind::Origin,
                403,
                Some("Forbidden"),
                &[],
            ),
            (
                Rejection::not_ready("slow"),
                RejectionKind::NotReady,
                504,
                Some("Timeout"),
                &[],
            ),
            (
                Rejection::overloaded(),
                RejectionKind::Overloaded,
                503,
                Some("ServiceUnavailable"),
                &[("retry-after", "1")],
            ),
            (
                Rejection::rate_limited(Duration::from_millis(1_001)),
                RejectionKind::RateLimited,
                429,
                Some("TooManyRequests"),
                &[("retry-after", "2")],
            ),
            (
                Rejection::session_limit(4),
                RejectionKind::SessionLimit,
                429,
                Some("TooManyRequests"),
                &[("retry-after", "1")],
            ),
            (
                Rejection::internal(),
                RejectionKind::Internal,
                500,
                Some("InternalError"),
                &[],
            ),
            (
                Rejection::config(&ConfigError::new("x")),
                RejectionKind::Config,
                500,
                Some("InternalError"),
                &[],
            ),
            (
                Rejection::new(StatusCode::CONFLICT, "busy"),
                RejectionKind::Custom,
                409,
                Some("Conflict"),
                &[],
            ),
        ];
        for (rejection, kind, code, reason, expected) in cases {
            assert_eq!(rejection.kind(), kind);
            let (status, json, headers) = answer(rejection).await;
            assert_eq!(status, code, "{kind:?}");
            assert_eq!(
                json.get("reason").and_then(|r| r.as_str()),
                reason,
                "{kind:?}"
            );
            assert_eq!(headers, owned(expected), "{kind:?}");
        }
    }

    #[test]
    fn a_refused_subprotocol_is_told_what_is_spoken() {
        let message = |names: &[&'static str], offered| {
            Rejection::no_common_subprotocol(&table(names), offered)
                .message()
                .to_owned()
        };
        let both = message(&["", "v5.channel.k8s.io", "v4.channel.k8s.io"], true);
        assert!(both.ends_with("offer one of v5.channel.k8s.io, v4.channel.k8s.io, or none"));
        let none_offered = message(&["v4.channel.k8s.io"], false);
        assert!(none_offered.contains("none was offered"), "{none_offered}");
        assert!(
            none_offered.ends_with("offer one of v4.channel.k8s.io"),
            "{none_offered}"
        );
        assert!(message(&[""], true).ends_with("connect without one"));
        assert!(message(&[], true).contains("operator"));
        assert!(message(&[], false).contains("operator"));
    }

    #[test]
    fn a_success_is_no_refusal() {
        for code in [100, 101, 200, 204, 299, 600, 999] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(Rejection::new(status, "x").status(), 500);
        }
        for code in [300, 404, 418, 599] {
            let status = StatusCode::from_u16(code).unwrap();
            assert_eq!(Rejection::new(status, "x").status(), status);
        }
    }

    #[tokio::test]
    async fn headers_are_added_and_the_bodys_stay_ours() {
        let rejection = Rejection::new(StatusCode::UNAUTHORIZED, "log in")
            .with_header(CONTENT_LENGTH, HeaderValue::from_static("9999"))
            .with_header(CONTENT_TYPE, HeaderValue::from_static("text/html"))
            .with_header(
                http::header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer"),
            );
        let (_, json, headers) = answer(rejection).await;
        assert_eq!(json["reason"], "Unauthorized");
        assert_eq!(headers, owned(&[("www-authenticate", "Bearer")]));
    }

    #[tokio::test]
    async fn a_status_brings_the_headers_that_http_demands_with_it() {
        let upgrade = [
            ("connection", "Upgrade"),
            ("sec-websocket-version", "13"),
            ("upgrade", "websocket"),
        ];
        for (code, expected) in [
            (401, &[("www-authenticate", "Bearer")][..]),
            (405, &[("allow", "GET")]),
            (407, &[("proxy-authenticate", "Bearer")]),
            (426, &upgrade),
            (403, &[]),
        ] {
            let status = StatusCode::from_u16(code).unwrap();
            let (_, _, headers) = answer(Rejection::new(status, "x")).await;
            assert_eq!(headers, owned(expected), "{code}");
            // And so where an error of the service says it.
            let error = Status::failure("", "x", code);
            let (_, _, headers) = answer(Rejection::from_error(&error)).await;
            assert_eq!(headers, owned(expected), "{code}");
        }
        let basic = HeaderValue::from_static("Basic realm=\"x\"");
        let rejection = Rejection::new(StatusCode::UNAUTHORIZED, "x");
        let (_, _, headers) = answer(rejection.with_header(WWW_AUTHENTICATE, basic)).await;
        assert_eq!(headers, owned(&[("www-authenticate", "Basic realm=\"x\"")]));
    }

    #[derive(Debug)]
    struct Wrapper(tower::BoxError);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("password=hunter2")
        }
    }

    impl Error for Wrapper {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[test]
    fn refusals_are_found_along_the_sources() {
        let wrap = |error: tower::BoxError| Wrapper(Box::new(Wrapper(error)));
        let own = Rejection::new(StatusCode::NOT_FOUND, "no such pod");
        let found = Rejection::from_error(&wrap(own.into()));
        assert_eq!(
            (found.status().as_u16(), found.message()),
            (404, "no such pod")
        );
        let found = Rejection::from_error(&wrap(Overloaded::new().into()));
        assert_eq!(found.kind(), RejectionKind::Overloaded);
        let found = Rejection::from_error(&wrap(Elapsed::new().into()));
        assert_eq!(found.kind(), RejectionKind::NotReady);
    }

    #[test]
    fn an_unknown_error_is_not_shown_to_the_client() {
        let found = Rejection::from_error(&Wrapper("secret".into()));
        assert_eq!(found.kind(), RejectionKind::Internal);
        assert!(!found.message().contains("hunter2") && !found.message().contains("secret"));
    }

    #[test]
    fn debug_shows_no_header_value() {
        let rejection = Rejection::new(StatusCode::FOUND, "elsewhere").with_header(
            http::header::SET_COOKIE,
            HeaderValue::from_static("s=hunter2"),
        );
        let debug = format!("{rejection:?}");
        assert!(
            debug.contains("set-cookie") && !debug.contains("hunter2"),
            "{debug}"
        );
    }
}
