use std::{borrow::Cow, error::Error, fmt};

use http::{
    StatusCode,
    header::{
        ALLOW, CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
        SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
    },
};

use super::known::Known;
use crate::protocol::Status;

/// The refusal of a request before the upgrade.
///
/// It becomes an HTTP answer whose body is a [`Status`] as JSON. The answer's extensions contain
/// the `Rejection`, for a layer outside. A service that fails before the upgrade is accepted
/// refuses it with the `Rejection` in its error.
///
/// Create one with [`new`](Self::new) to refuse for a reason of your own.
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
///
/// // What the client is told, and when it may try again.
/// let rejection = Rejection::new(StatusCode::SERVICE_UNAVAILABLE, "the node restarts")
///     .with_header(http::header::RETRY_AFTER, "30".parse()?);
/// assert_eq!(rejection.message(), "the node restarts");
/// assert_eq!(rejection.to_status().code(), Some(503));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
///
/// A service refuses the upgrade with one:
///
/// ```
/// use http::StatusCode;
/// use tower_wsstream::{BoxError, ChannelSet, Rejection};
///
/// async fn session(channels: ChannelSet) -> Result<(), BoxError> {
///     let head = channels.request().ok_or("the head was taken")?;
///     if head.uri.query().is_none() {
///         return Err(Rejection::new(StatusCode::BAD_REQUEST, "add ?pod=NAME").into());
///     }
///     Ok(())
/// }
/// # let _ = session;
/// ```
#[derive(Clone)]
pub struct Rejection {
    // Boxed, because it is the error of many small results.
    pub(super) inner: Box<Inner>,
}

#[derive(Clone)]
pub(super) struct Inner {
    kind: RejectionKind,
    pub(super) status: StatusCode,
    message: Cow<'static, str>,
    pub(super) headers: HeaderMap,
}

/// The kind of a [`Rejection`].
///
/// # Examples
///
/// An outer layer counts refusals by their kind, which a refused answer has among its extensions:
///
/// ```
/// use http::Response;
/// use tower_wsstream::{Rejection, RejectionKind};
///
/// fn label<B>(answer: &Response<B>) -> Option<&'static str> {
///     let rejection = answer.extensions().get::<Rejection>()?;
///     match rejection.kind() {
///         // A mistake of our own, which somebody has to be told of.
///         RejectionKind::Config => Some("bug"),
///         kind => Some(kind.name()),
///     }
/// }
/// # let refused = Rejection::new(http::StatusCode::NOT_FOUND, "no pod").into_response::<tower_wsstream::body::NoBody>();
/// # assert_eq!(label(&refused), Some("custom"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RejectionKind {
    /// The request does not ask for a protocol of the endpoint, and there is no fallback for it
    /// (426).
    NotAnUpgrade,
    /// The handshake's method is not GET, or over SPDY neither POST nor GET (405).
    MethodNotAllowed,
    /// The handshake or its parameters are malformed (400).
    BadRequest,
    /// The bearer token among the offered subprotocols is not valid (401).
    Unauthorized,
    /// The version of WebSocket is not 13 (426).
    UnsupportedVersion,
    /// None of the offered subprotocols, or protocols over SPDY, is supported (403).
    NoCommonSubprotocol,
    /// The request comes from a page of another origin (403).
    Origin,
    /// The service was not ready, or did not accept, in time (504).
    NotReady,
    /// The service sheds load (503).
    Overloaded,
    /// Sessions are opened faster than the rate allows (429).
    RateLimited,
    /// The user, or another key that the limit counts by, has too many open sessions (429).
    ///
    /// It differs from [`RateLimited`](Self::RateLimited) in that the necessary wait is not known.
    SessionLimit,
    /// The server is shutting down, and takes no new sessions (503).
    Draining,
    /// The service failed before the session began (500).
    Internal,
    /// The configuration of the layer is invalid (500).
    Config,
    /// The refusal was made with [`Rejection::new`].
    Custom,
}

impl RejectionKind {
    /// Returns a stable label for metrics, in lower case with words joined by `_`.
    ///
    /// Each kind has its own label, including those that are added later.
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
    /// Creates a refusal with this status and message.
    ///
    /// The client sees the message, which should say what to do. A status outside of 300 to 599
    /// does not mean a refusal, and is replaced by 500.
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
        Self::of(RejectionKind::Custom, status, message.into())
    }

    /// Creates a refusal with the headers that HTTP requires with its status.
    pub(super) fn of(
        kind: RejectionKind,
        status: StatusCode,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let rejection = Self {
            inner: Box::new(Inner {
                kind,
                status,
                message: message.into(),
                headers: HeaderMap::new(),
            }),
        };
        // RFC 9110: 15.5.2, 15.5.6, 15.5.8 and 15.5.22.
        let bearer = HeaderValue::from_static("Bearer");
        match status {
            StatusCode::UNAUTHORIZED => rejection.with_header(WWW_AUTHENTICATE, bearer),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                rejection.with_header(PROXY_AUTHENTICATE, bearer)
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                rejection.with_header(ALLOW, HeaderValue::from_static("GET"))
            }
            StatusCode::UPGRADE_REQUIRED => rejection.offering_upgrade(),
            _ => rejection,
        }
    }

    /// Adds the headers of a 426: `Upgrade` (RFC 9110, 15.5.22), the matching connection option
    /// (7.8), and the version of WebSocket (RFC 6455, 4.4).
    fn offering_upgrade(self) -> Self {
        self.with_header(UPGRADE, HeaderValue::from_static("websocket"))
            .with_header(CONNECTION, HeaderValue::from_static("Upgrade"))
            .with_header(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
    }

    /// Returns the refusal that an error of a service stands for.
    ///
    /// The first error in the chain of sources that is known decides. A `Rejection` is returned
    /// unchanged. A [`Status`] becomes a refusal with its code and message, if the code is one of
    /// HTTP's. tower's `Overloaded` becomes a 503 with `Retry-After`, and tower's `Elapsed` a 504.
    /// Any other error becomes a 500 with a fixed text, because its own text may say more than the
    /// client should know.
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
        let found = Known::all(error).find_map(|known| match known {
            Known::Rejection(rejection) => Some(rejection.clone()),
            Known::Status(status) => Self::from_status(status),
            Known::Overloaded => Some(Self::overloaded()),
            Known::Elapsed => Some(Self::not_ready(
                "the service did not answer in time: try again, or ask its operator for a longer timeout",
            )),
            Known::Ended(_) => None,
        });
        found.unwrap_or_else(Self::internal)
    }

    /// Returns the refusal that a Status stands for, if its code is one of HTTP's.
    fn from_status(status: &Status) -> Option<Self> {
        let code = StatusCode::from_u16(status.code()?).ok()?;
        Some(Self::new(code, status.message().unwrap_or_default()))
    }

    /// Adds a header to the answer, in place of one with the same name.
    ///
    /// `Content-Type` and `Content-Length` cannot be set, because they describe the body.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner.headers.insert(name, value);
        self
    }

    /// Adds a header to the answer, beside any others with the same name.
    #[cfg(feature = "spdy")]
    pub(super) fn with_another_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.inner.headers.append(name, value);
        self
    }

    /// Removes a header from the answer.
    #[cfg(feature = "spdy")]
    pub(super) fn without_header(mut self, name: &HeaderName) -> Self {
        self.inner.headers.remove(name);
        self
    }

    /// Returns the kind of the refusal.
    #[must_use]
    pub fn kind(&self) -> RejectionKind {
        self.inner.kind
    }

    /// Returns the status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.inner.status
    }

    /// Returns the text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }
}

impl fmt::Debug for Rejection {
    // Shows only the names of the headers: a header that the user has added, such as `Set-Cookie`,
    // may contain a secret.
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
