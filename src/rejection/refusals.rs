//! Every refusal of our own: its text, its status and its headers.

use std::{borrow::Cow, time::Duration};

#[cfg(feature = "spdy")]
use http::header::{ALLOW, HeaderName, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{
    Method, StatusCode,
    header::{HeaderValue, RETRY_AFTER},
};

use super::{Rejection, RejectionKind};
use crate::{
    protocol::{ChannelProtocols, ConfigError},
    unwind::catch,
};

/// The number of seconds after which a client may try again. Sessions end at any moment, so this
/// is the shortest wait that HTTP can express.
const RETRY_SOON: HeaderValue = HeaderValue::from_static("1");

/// The header in which Go's servers list the protocols that they accept over SPDY.
#[cfg(feature = "spdy")]
const ACCEPTED_PROTOCOLS: HeaderName =
    HeaderName::from_static("x-accepted-stream-protocol-versions");

/// The length of the longest registered method, `UPDATEREDIRECTREF`.
const LONGEST_METHOD: usize = 17;

/// The protocols to which the requests of an endpoint can be upgraded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum UpgradeTo {
    #[default]
    WebSocket,
    #[cfg(feature = "spdy")]
    Spdy,
    #[cfg(feature = "spdy")]
    Either,
}

impl Rejection {
    pub(crate) fn not_an_upgrade(to: UpgradeTo) -> Self {
        let refuse = |message: &'static str| {
            Self::of(
                RejectionKind::NotAnUpgrade,
                StatusCode::UPGRADE_REQUIRED,
                message,
            )
        };
        match to {
            UpgradeTo::WebSocket => refuse(
                "this endpoint speaks WebSocket only: connect with a WebSocket client; if yours fell back to something else, its WebSocket handshake was refused before",
            ),
            #[cfg(feature = "spdy")]
            UpgradeTo::Spdy => refuse(
                "this endpoint speaks SPDY/3.1 only: connect with a Kubernetes client that sends `Connection: Upgrade` and `Upgrade: SPDY/3.1`",
            )
            .without_header(&SEC_WEBSOCKET_VERSION)
            .with_header(UPGRADE, HeaderValue::from_static("SPDY/3.1")),
            #[cfg(feature = "spdy")]
            UpgradeTo::Either => refuse(
                "this endpoint speaks WebSocket and SPDY/3.1 only: connect with a client of one of them",
            )
            .with_header(UPGRADE, HeaderValue::from_static("websocket, SPDY/3.1")),
        }
    }

    /// Refuses a method other than GET. The text contains it, unless it is longer than any
    /// registered method.
    pub(crate) fn method_not_allowed(method: &Method) -> Self {
        Self::of(
            RejectionKind::MethodNotAllowed,
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "a WebSocket handshake must be a GET request{}",
                and_not(method)
            ),
        )
    }

    /// Refuses a method that cannot begin a session over SPDY.
    #[cfg(feature = "spdy")]
    pub(crate) fn spdy_method_not_allowed(method: &Method) -> Self {
        Self::of(
            RejectionKind::MethodNotAllowed,
            StatusCode::METHOD_NOT_ALLOWED,
            format!(
                "a SPDY handshake must be a POST or GET request{}",
                and_not(method)
            ),
        )
        .with_header(ALLOW, HeaderValue::from_static("GET, POST"))
    }

    pub(crate) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(RejectionKind::BadRequest, StatusCode::BAD_REQUEST, message)
    }

    /// Refuses a bearer token. The message says what is wrong with it, and must not contain any of
    /// it.
    pub(crate) fn unauthorized(message: &'static str) -> Self {
        Self::of(
            RejectionKind::Unauthorized,
            StatusCode::UNAUTHORIZED,
            message,
        )
    }

    /// Refuses a version of WebSocket. The text contains it if it is a number from 0 to 255
    /// (RFC 6455, 4.1).
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
    }

    /// Refuses a client without a common subprotocol, and lists those of the table.
    ///
    /// The text does not contain the offered ones, because a client may have put its credentials
    /// there.
    pub(crate) fn no_common_subprotocol(protocols: &ChannelProtocols, offered_any: bool) -> Self {
        let names: Vec<&str> = protocols
            .iter()
            .map(|(name, _)| name)
            .filter(|name| !name.is_empty())
            .collect();
        let found = if offered_any {
            "none of the offered WebSocket subprotocols is supported"
        } else {
            "this endpoint needs a WebSocket subprotocol and none was offered"
        };
        let accepts_none = offered_any && protocols.get("").is_some();
        let message = match (names.is_empty(), accepts_none) {
            (false, false) => format!("{found}: offer one of {}", names.join(", ")),
            (false, true) => format!("{found}: offer one of {}, or none", names.join(", ")),
            (true, true) => format!("{found}: connect without one"),
            (true, false) => {
                "this endpoint supports no WebSocket subprotocol: its operator must configure one"
                    .to_owned()
            }
        };
        Self::of(
            RejectionKind::NoCommonSubprotocol,
            StatusCode::FORBIDDEN,
            message,
        )
    }

    /// Refuses a client of SPDY without a common protocol. The names of the accepted ones are in a
    /// header as well, which Go's servers send.
    #[cfg(feature = "spdy")]
    pub(crate) fn no_common_stream_protocol(accepted: &[&str]) -> Self {
        let message = match accepted {
            [] => "this endpoint supports no protocol over SPDY: connect with WebSocket".to_owned(),
            _ => format!(
                "none of the offered stream protocols is supported: offer one of {}",
                accepted.join(", ")
            ),
        };
        let refusal = Self::of(
            RejectionKind::NoCommonSubprotocol,
            StatusCode::FORBIDDEN,
            message,
        );
        accepted
            .iter()
            .filter_map(|name| HeaderValue::from_str(name).ok())
            .fold(refusal, |refusal, name| {
                refusal.with_another_header(ACCEPTED_PROTOCOLS, name)
            })
    }

    /// Refuses a page of another origin. The message contains the origin and the host, neither of
    /// which is a secret.
    pub(crate) fn origin(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(RejectionKind::Origin, StatusCode::FORBIDDEN, message)
    }

    /// Refuses after a timeout. The message says what did not happen in time.
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
            "the server has as many sessions as it can handle: try again in a moment",
        )
        .with_header(RETRY_AFTER, RETRY_SOON)
    }

    /// Refuses a session during a shutdown. A client may try again soon, because usually another
    /// instance takes over at once.
    pub(crate) fn draining() -> Self {
        Self::of(
            RejectionKind::Draining,
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is shutting down and takes no new sessions: try again in a moment",
        )
        .with_header(RETRY_AFTER, RETRY_SOON)
    }

    /// Refuses a session that exceeds a rate.
    ///
    /// `Retry-After` is in whole seconds. The wait is rounded up, because a client that returns
    /// earlier is refused again, and it is never 0, which some clients ignore.
    pub(crate) fn rate_limited(retry_after: Duration) -> Self {
        let part = u64::from(retry_after.subsec_nanos() > 0);
        let seconds = retry_after.as_secs().saturating_add(part).max(1);
        Self::of(
            RejectionKind::RateLimited,
            StatusCode::TOO_MANY_REQUESTS,
            format!("too many sessions were opened in a short time: try again in {seconds} s"),
        )
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Refuses a session beyond a limit. The message does not say what the limit counts by, which
    /// need not be a user.
    pub(crate) fn session_limit(most: usize) -> Self {
        Self::of(
            RejectionKind::SessionLimit,
            StatusCode::TOO_MANY_REQUESTS,
            format!(
                "the limit of {most} sessions at a time is reached: end one of yours, then try again"
            ),
        )
        .with_header(RETRY_AFTER, RETRY_SOON)
    }

    /// Runs a step of the user's code, and returns a refusal if it panics. `what` names the code in
    /// the log.
    pub(crate) fn on_panic<T>(what: &'static str, step: impl FnOnce() -> T) -> Result<T, Self> {
        catch(step).map_err(|_| Self::panicked(what))
    }

    /// Refuses after a panic of the user's code. `what` names the code in the log.
    fn panicked(what: &'static str) -> Self {
        tracing::error!("{what} panicked");
        Self::internal()
    }

    /// Refuses after an error of the service. The text is fixed, because the error may contain
    /// something that the client must not see.
    pub(crate) fn internal() -> Self {
        Self::of(
            RejectionKind::Internal,
            StatusCode::INTERNAL_SERVER_ERROR,
            "the service failed before the session began: see the server's log",
        )
    }

    /// Refuses because of an invalid configuration. The text describes the operator's mistake, and
    /// contains nothing of any request.
    pub(crate) fn config(error: &ConfigError) -> Self {
        Self::of(
            RejectionKind::Config,
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("the layer that serves this endpoint is misconfigured: {error}"),
        )
    }
}

/// Returns the part of a text that names a wrong method.
fn and_not(method: &Method) -> String {
    match method.as_str() {
        method if method.len() <= LONGEST_METHOD => format!(", and not {method}"),
        _ => String::new(),
    }
}
