//! The detection of requests for an upgrade, and of the subprotocols they offer.

use http::{
    Request, Version,
    header::{CONNECTION, HeaderMap, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use tower::{BoxError, filter::Predicate};

use super::headers::members;
use crate::{
    protocol::subprotocols,
    rejection::{Rejection, UpgradeTo},
};

/// The name of WebSocket in an `Upgrade` header.
const WEBSOCKET: &str = "websocket";

/// The name of SPDY in an `Upgrade` header.
pub(super) const SPDY: &str = "SPDY/3.1";

/// The prefix and the suffix of the name of a subprotocol that tunnels SPDY through a WebSocket.
const TUNNEL_PREFIX: &[u8] = b"SPDY/3.1+";
const TUNNEL_SUFFIX: &[u8] = b".k8s.io";

/// The kind of handshake with which a request asks for a session. It decides the form of the
/// answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upgrade {
    /// The `Upgrade` of HTTP/1.1 to WebSocket, answered with a 101.
    Http1,
    /// The extended CONNECT of HTTP/2 (RFC 8441) for a WebSocket, answered with a 200.
    Http2,
    /// The `Upgrade` of HTTP/1.1 to SPDY/3.1, answered with a 101.
    #[cfg(feature = "spdy")]
    Spdy,
}

impl Upgrade {
    /// Returns the HTTP version whose rules the answer follows.
    pub(crate) fn version(self) -> Version {
        match self {
            Self::Http1 => Version::HTTP_11,
            Self::Http2 => Version::HTTP_2,
            #[cfg(feature = "spdy")]
            Self::Spdy => Version::HTTP_11,
        }
    }
}

/// Returns how the request asks for a WebSocket, or `None` if it does not.
///
/// A request with an invalid handshake counts as well. It is refused later, with the reason, and is
/// never passed to a fallback.
pub(crate) fn detect<B>(request: &Request<B>) -> Option<Upgrade> {
    // HTTP/2 has no `Connection` header (RFC 9113, 8.2.2). HTTP/1.0 passes here, and is refused
    // later with the reason.
    if request.version() > Version::HTTP_11 {
        return is_extended_connect(request).then_some(Upgrade::Http2);
    }
    names_upgrade(request.headers(), WEBSOCKET).then_some(Upgrade::Http1)
}

/// Returns how the request asks for a WebSocket or for SPDY, or `None` if it does not. As with
/// [`detect`], an invalid handshake counts.
#[cfg(feature = "spdy")]
pub(crate) fn detect_either<B>(request: &Request<B>) -> Option<Upgrade> {
    let spdy = || asks_for_spdy(request.version(), request.headers());
    detect(request).or_else(|| spdy().then_some(Upgrade::Spdy))
}

/// Returns whether a head asks for SPDY. One that asks for a WebSocket as well asks for that alone.
pub(crate) fn asks_for_spdy(version: Version, headers: &HeaderMap) -> bool {
    version <= Version::HTTP_11
        && names_upgrade(headers, SPDY)
        && !names_upgrade(headers, WEBSOCKET)
}

/// Returns whether the headers of HTTP/1.1 ask for an upgrade to this protocol.
fn names_upgrade(headers: &HeaderMap, protocol: &str) -> bool {
    let lists = |name, token: &str| {
        members(headers, name).any(|m| m.eq_ignore_ascii_case(token.as_bytes()))
    };
    lists(&UPGRADE, protocol) && lists(&CONNECTION, "upgrade")
}

/// Returns whether the request is a CONNECT for a WebSocket (RFC 8441, 4 and 5).
///
/// hyper stores the `:protocol` in the extensions.
#[cfg(feature = "http2")]
fn is_extended_connect<B>(request: &Request<B>) -> bool {
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    request.method() == http::Method::CONNECT
        && protocol.is_some_and(|name| name.as_str().eq_ignore_ascii_case("websocket"))
}

/// Returns `false`, because without the feature hyper does not report the `:protocol`.
#[cfg(not(feature = "http2"))]
fn is_extended_connect<B>(_request: &Request<B>) -> bool {
    false
}

/// Returns whether a request asks for an upgrade to WebSocket.
///
/// It does if `Upgrade` names `websocket` and `Connection` lists `upgrade`, both in any case (RFC
/// 6455, 4.2.1). Over HTTP/2, with the feature `http2`, it does if it is a CONNECT whose
/// `:protocol` is `websocket` (RFC 8441). The layer checks the rest of the handshake, and refuses
/// an invalid one.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_wsstream::is_websocket_request;
///
/// let request = Request::builder()
///     .header("connection", "keep-alive, Upgrade")
///     .header("upgrade", "websocket")
///     .body(())?;
/// assert!(is_websocket_request(&request));
/// # Ok::<(), http::Error>(())
/// ```
pub fn is_websocket_request<B>(request: &Request<B>) -> bool {
    detect(request).is_some()
}

/// Returns whether a request asks for an upgrade to SPDY/3.1.
///
/// It does over HTTP/1.1, if `Upgrade` names `SPDY/3.1` and `Connection` lists `upgrade`, both in
/// any case, and if it does not ask for a WebSocket as well. The layer checks the rest of the
/// handshake, and refuses an invalid one.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_wsstream::streaming::is_spdy_request;
///
/// let request = Request::post("/exec?command=ls&stdout=1")
///     .header("connection", "Upgrade")
///     .header("upgrade", "SPDY/3.1")
///     .body(())?;
/// assert!(is_spdy_request(&request));
/// # Ok::<(), http::Error>(())
/// ```
#[cfg(feature = "spdy")]
pub fn is_spdy_request<B>(request: &Request<B>) -> bool {
    asks_for_spdy(request.version(), request.headers())
}

/// Returns whether a request asks for a WebSocket and offers a subprotocol with half-close.
pub(crate) fn offers_stream_close<B>(request: &Request<B>) -> bool {
    offers(request, |name| name == subprotocols::V5.as_bytes())
}

/// Returns whether a request asks for a WebSocket and offers a tunnel for SPDY.
pub(crate) fn offers_tunnel<B>(request: &Request<B>) -> bool {
    offers(request, |name| {
        name.starts_with(TUNNEL_PREFIX) && name.ends_with(TUNNEL_SUFFIX)
    })
}

fn offers<B>(request: &Request<B>, wanted: impl Fn(&[u8]) -> bool) -> bool {
    is_websocket_request(request) && members(request.headers(), &SEC_WEBSOCKET_PROTOCOL).any(wanted)
}

/// A predicate for [`tower::filter::FilterLayer`] that passes only requests for a WebSocket.
///
/// Any other request fails with a [`Rejection`] with status 426 as its error. To answer such
/// requests in another way, give the layer a fallback instead.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower::filter::Predicate;
/// use tower_wsstream::{IsWebSocketRequest, Rejection};
///
/// let error = IsWebSocketRequest.check(Request::new(())).unwrap_err();
/// assert_eq!(error.downcast_ref::<Rejection>().unwrap().status(), 426);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct IsWebSocketRequest;

impl<B> Predicate<Request<B>> for IsWebSocketRequest {
    type Request = Request<B>;

    fn check(&mut self, request: Request<B>) -> Result<Request<B>, BoxError> {
        if is_websocket_request(&request) {
            Ok(request)
        } else {
            Err(Rejection::not_an_upgrade(UpgradeTo::WebSocket).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<()> {
        headers
            .iter()
            .fold(Request::builder(), |builder, (name, value)| {
                builder.header(*name, *value)
            })
            .body(())
            .unwrap()
    }

    /// Builds a request for an upgrade, which offers subprotocols in these lines.
    fn offering(lines: &[&str]) -> Request<()> {
        let mut headers = vec![("Connection", "Upgrade"), ("Upgrade", "websocket")];
        headers.extend(lines.iter().map(|line| ("Sec-WebSocket-Protocol", *line)));
        request(&headers)
    }

    #[test]
    fn both_headers_are_needed() {
        for headers in [
            &[][..],
            &[("Connection", "Upgrade")],
            &[("Upgrade", "websocket")],
            &[("Connection", "keep-alive"), ("Upgrade", "websocket")],
            &[("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")],
            &[
                ("Connection", "upgrade-insecure-x"),
                ("Upgrade", "websocket"),
            ],
            &[("Connection", "Upgrade"), ("Upgrade", "websockets")],
            &[("Connection", ""), ("Upgrade", "")],
        ] {
            assert_eq!(detect(&request(headers)), None, "{headers:?}");
        }
    }

    #[test]
    fn case_spaces_and_lines_do_not_matter() {
        for headers in [
            &[("Connection", "Upgrade"), ("Upgrade", "websocket")][..],
            &[("connection", "UPGRADE"), ("upgrade", "WebSocket")],
            &[
                ("Connection", "keep-alive,upgrade ,x"),
                ("Upgrade", " websocket\t"),
            ],
            &[
                ("Connection", "close"),
                ("Connection", "upgrade"),
                ("Upgrade", "websocket"),
            ],
            &[("Connection", ",, upgrade"), ("Upgrade", "h2c, websocket")],
        ] {
            assert_eq!(
                detect(&request(headers)),
                Some(Upgrade::Http1),
                "{headers:?}"
            );
        }
    }

    #[test]
    fn spdy_needs_both_headers() {
        for (headers, expected) in [
            (&[][..], false),
            (&[("Connection", "Upgrade")], false),
            (&[("Upgrade", "SPDY/3.1")], false),
            (&[("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")], true),
            // Beyond the four cases of Go's `upgrade_test.go`.
            (
                &[
                    ("Connection", "keep-alive, upgrade"),
                    ("Upgrade", "h2c, spdy/3.1"),
                ],
                true,
            ),
            (&[("Connection", "Upgrade"), ("Upgrade", "SPDY/3")], false),
            (
                &[("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1+x")],
                false,
            ),
            (
                &[
                    ("Connection", "Upgrade"),
                    ("Upgrade", "SPDY/3.1, websocket"),
                ],
                false,
            ),
        ] {
            let request = request(headers);
            assert_eq!(is_for_spdy(&request), expected, "{headers:?}");
            assert!(!(expected && is_websocket_request(&request)), "{headers:?}");
        }
    }

    fn is_for_spdy(request: &Request<()>) -> bool {
        asks_for_spdy(request.version(), request.headers())
    }

    #[test]
    fn spdy_is_asked_for_by_any_method_and_over_http_1_alone() {
        use http::Method;

        let headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
        for method in [Method::POST, Method::GET, Method::PUT] {
            let mut request = request(&headers);
            *request.method_mut() = method;
            assert!(is_for_spdy(&request));
            *request.version_mut() = Version::HTTP_10;
            assert!(is_for_spdy(&request));
            *request.version_mut() = Version::HTTP_2;
            assert!(!is_for_spdy(&request));
        }
    }

    #[cfg(feature = "http2")]
    #[test]
    fn extended_connect_asks_over_http2() {
        use http::Method;
        use hyper::ext::Protocol;

        let asking = |method: Method, protocol: Option<&'static str>, version| {
            let mut request = request(&[]);
            *request.method_mut() = method;
            *request.version_mut() = version;
            if let Some(protocol) = protocol {
                request
                    .extensions_mut()
                    .insert(Protocol::from_static(protocol));
            }
            detect(&request)
        };
        let (connect, websocket) = (Method::CONNECT, Some("websocket"));
        let http2 = Version::HTTP_2;
        assert_eq!(
            asking(connect.clone(), websocket, http2),
            Some(Upgrade::Http2)
        );
        for (method, protocol, version) in [
            (Method::GET, websocket, http2),
            (connect.clone(), None, http2),
            (connect.clone(), Some("connect-udp"), http2),
            (connect, websocket, Version::HTTP_11),
        ] {
            assert_eq!(asking(method, protocol, version), None);
        }
    }

    #[test]
    fn upgrade_headers_mean_nothing_on_http2() {
        let mut request = offering(&[]);
        *request.version_mut() = Version::HTTP_2;
        assert!(!is_websocket_request(&request));
        *request.version_mut() = Version::HTTP_10;
        assert!(is_websocket_request(&request));
    }

    #[test]
    fn stream_close_needs_an_upgrade() {
        let v5 = ("Sec-WebSocket-Protocol", "v5.channel.k8s.io");
        for headers in [
            &[][..],
            &[v5],
            &[("Connection", "Upgrade"), v5],
            &[("Upgrade", "websocket"), v5],
        ] {
            let request = request(headers);
            assert!(!offers_stream_close(&request), "{headers:?}");
        }
    }

    #[test]
    fn stream_close_is_offered_by_v5_alone() {
        for lines in [
            &[][..],
            &[""],
            &["v4.channel.k8s.io"],
            &["v4.channel.k8s.io, v3.channel.k8s.io, v2.channel.k8s.io"],
            &["v5.CHANNEL.k8s.io"],
            &["V5.channel.K8S.io"],
            &["base64.channel.k8s.io"],
            &["xv5.channel.k8s.io v5.channel.k8s.io"],
        ] {
            let request = offering(lines);
            assert!(!offers_stream_close(&request), "{lines:?}");
        }
    }

    #[test]
    fn stream_close_is_found_anywhere_in_the_list() {
        for lines in [
            &["v5.channel.k8s.io"][..],
            &["   v5.channel.k8s.io   "],
            &["v5.channel.k8s.io,v4.channel.k8s.io"],
            &["v4.channel.k8s.io,\tv5.channel.k8s.io"],
            &["v4.channel.k8s.io, v5.channel.k8s.io , v3.channel.k8s.io"],
            &["v4.channel.k8s.io", "v5.channel.k8s.io"],
        ] {
            let request = offering(lines);
            assert!(offers_stream_close(&request), "{lines:?}");
        }
        let lower = request(&[
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-protocol", "v5.channel.k8s.io"),
        ]);
        assert!(offers_stream_close(&lower));
    }

    #[test]
    fn tunnelling_has_a_beginning_and_an_end() {
        for (line, expected) in [
            ("SPDY/3.1+portforward.k8s.io", true),
            ("SPDY/3.1+v5.channel.k8s.io", true),
            ("v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io", true),
            ("SPDY/3.1+portforward.example.com", false),
            ("SPDY/3.1", false),
            ("spdy/3.1+portforward.k8s.io", false),
            ("portforward.k8s.io", false),
            ("", false),
        ] {
            let request = offering(&[line]);
            assert_eq!(offers_tunnel(&request), expected, "{line}");
        }
        let no_upgrade = request(&[("Sec-WebSocket-Protocol", "SPDY/3.1+portforward.k8s.io")]);
        assert!(!offers_tunnel(&no_upgrade));
    }

    #[test]
    fn the_predicate_passes_upgrades_and_refuses_the_rest() {
        let passed = IsWebSocketRequest.check(offering(&["x"])).unwrap();
        assert_eq!(passed.headers()["sec-websocket-protocol"], "x");
        let error = IsWebSocketRequest.check(request(&[])).unwrap_err();
        let rejection = error.downcast_ref::<Rejection>().unwrap();
        assert_eq!(rejection.status(), 426);
    }
}
