//! The check that an upgrade is a valid opening handshake (RFC 6455, 4.2.1).

use base64::{
    Engine, alphabet,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};
use http::{
    Method, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
        TRANSFER_ENCODING,
    },
    request::Parts,
};

use super::{
    detect::Upgrade,
    headers::{members, only},
};
use crate::rejection::Rejection;

/// The number of bytes in a key, and their length in base64.
const KEY_BYTES: usize = 16;
const KEY_TEXT: usize = 24;

/// The base64 of a key. It accepts trailing bits, which do no harm because the key is hashed as
/// text and its value is never used. Other servers accept them too, and Go's accepts any key.
const KEY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// A valid `Sec-WebSocket-Key` of a client.
///
/// It is a copy, because the head that it came from goes to the service before the request is
/// answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key([u8; KEY_TEXT]);

impl Key {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; KEY_TEXT] = text.try_into().ok()?;
        let mut value = [0; KEY_TEXT / 4 * 3];
        let decoded = KEY_BASE64.decode_slice(text, &mut value).ok()?;
        (decoded == KEY_BYTES).then_some(Self(text))
    }
}

/// The challenge that the answer has to meet, which proves that the server has understood the
/// handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// The 101 has to hold a digest of this key (RFC 6455, 4.2.2).
    Http1(Key),
    /// HTTP/2 needs no proof, and the answer is a plain 200 (RFC 8441, 5).
    Http2,
    /// SPDY needs no proof either. The answer is a 101.
    #[cfg(feature = "spdy")]
    Spdy,
}

/// Checks everything but the subprotocols.
pub(crate) fn validate(upgrade: Upgrade, head: &Parts) -> Result<Challenge, Rejection> {
    match upgrade {
        Upgrade::Http1 => validate_http1(head).map(Challenge::Http1),
        Upgrade::Http2 => validate_http2(head).map(|()| Challenge::Http2),
        #[cfg(feature = "spdy")]
        Upgrade::Spdy => validate_spdy(head).map(|()| Challenge::Spdy),
    }
}

/// Checks an upgrade to SPDY, in the order of [`validate_http1`].
///
/// Kubernetes' clients send a POST. Its servers take a GET as well, and so do we, because a proxy
/// may have made one of it.
#[cfg(feature = "spdy")]
fn validate_spdy(head: &Parts) -> Result<(), Rejection> {
    if head.method != Method::POST && head.method != Method::GET {
        return Err(Rejection::spdy_method_not_allowed(&head.method));
    }
    check_http1(head)?;
    check_no_close(head)?;
    check_no_body(head)
}

/// Checks an extended CONNECT.
///
/// Its method and `:protocol` were checked before, and the key and the connection headers have no
/// meaning over HTTP/2.
fn validate_http2(head: &Parts) -> Result<(), Rejection> {
    let version = only(&head.headers, &SEC_WEBSOCKET_VERSION);
    if version != Some(b"13") {
        return Err(Rejection::unsupported_version(version));
    }
    if has_body(&head.headers) {
        return Err(Rejection::bad_request(
            "a WebSocket has no length: send the handshake without Content-Length",
        ));
    }
    Ok(())
}

/// Checks an HTTP/1.1 handshake, in the order in which a client should learn of its mistakes. If
/// the method is wrong, for example, the rest does not matter.
fn validate_http1(head: &Parts) -> Result<Key, Rejection> {
    if head.method != Method::GET {
        return Err(Rejection::method_not_allowed(&head.method));
    }
    check_http1(head)?;
    let version = only(&head.headers, &SEC_WEBSOCKET_VERSION);
    if version != Some(b"13") {
        return Err(Rejection::unsupported_version(version));
    }
    check_no_close(head)?;
    let key = only(&head.headers, &SEC_WEBSOCKET_KEY)
        .and_then(Key::parse)
        .ok_or_else(|| {
            Rejection::bad_request(
                "the handshake needs one Sec-WebSocket-Key header: send 16 random bytes in base64",
            )
        })?;
    check_no_body(head)?;
    Ok(key)
}

fn check_http1(head: &Parts) -> Result<(), Rejection> {
    if head.version < Version::HTTP_11 {
        return Err(Rejection::bad_request(
            "HTTP/1.0 has no upgrades: send the handshake with HTTP/1.1",
        ));
    }
    Ok(())
}

/// Refuses a request whose connection ends with its answer.
///
/// hyper would repeat `close` in the 101. Strict clients accept only `Upgrade` there, and would
/// abandon a session that has begun.
fn check_no_close(head: &Parts) -> Result<(), Rejection> {
    if members(&head.headers, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"close")) {
        return Err(Rejection::bad_request(
            "an upgrade keeps its connection: send the Connection header of the handshake without close",
        ));
    }
    Ok(())
}

/// Refuses a request with a body, whose bytes would be read as frames.
fn check_no_body(head: &Parts) -> Result<(), Rejection> {
    if has_body(&head.headers) {
        return Err(Rejection::bad_request(
            "an upgrade has no body: send the handshake without Content-Length and Transfer-Encoding",
        ));
    }
    Ok(())
}

/// Returns whether a body follows the head, with a length that is unknown or not 0.
fn has_body(headers: &HeaderMap) -> bool {
    let zero = |text: &[u8]| !text.is_empty() && text.iter().all(|digit| *digit == b'0');
    headers.contains_key(TRANSFER_ENCODING)
        || !headers
            .get_all(CONTENT_LENGTH)
            .into_iter()
            .all(|line| zero(line.as_bytes().trim_ascii()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::rejection::RejectionKind;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// Builds a valid handshake without the header `replaced`, and with `lines`.
    fn head(replaced: &str, lines: &[(&str, &str)]) -> Parts {
        let valid = [("sec-websocket-version", "13"), ("sec-websocket-key", KEY)];
        let kept = valid.iter().filter(|(name, _)| *name != replaced);
        kept.chain(lines)
            .fold(Request::builder(), |builder, (name, value)| {
                builder.header(*name, *value)
            })
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn refused(head: &Parts) -> (RejectionKind, u16) {
        let rejection = validate_http1(head).unwrap_err();
        (rejection.kind(), rejection.status().as_u16())
    }

    #[test]
    fn a_valid_handshake_gives_its_key() {
        let challenge = validate(Upgrade::Http1, &head("", &[]));
        assert!(matches!(challenge, Ok(Challenge::Http1(key)) if key.as_bytes() == KEY.as_bytes()));
        assert!(validate_http1(&head("", &[("content-length", "0")])).is_ok());
    }

    #[test]
    fn http2_needs_the_version_and_no_key() {
        let with = |lines: &[(&str, &str)]| {
            let mut head = head("sec-websocket-key", lines);
            head.method = Method::CONNECT;
            head.version = Version::HTTP_2;
            head
        };
        let validate = |head: &Parts| validate(Upgrade::Http2, head).map_err(|error| error.kind());
        assert_eq!(validate(&with(&[])), Ok(Challenge::Http2));
        let twice = with(&[("sec-websocket-version", "13")]);
        assert_eq!(validate(&twice), Err(RejectionKind::UnsupportedVersion));
        let length = with(&[("content-length", "1")]);
        assert_eq!(validate(&length), Err(RejectionKind::BadRequest));
    }

    #[test]
    fn other_methods_are_405() {
        for method in [Method::POST, Method::HEAD, Method::CONNECT, Method::OPTIONS] {
            let mut head = head("", &[]);
            head.method = method;
            assert_eq!(refused(&head), (RejectionKind::MethodNotAllowed, 405));
        }
    }

    #[test]
    fn http_1_0_is_400() {
        for version in [Version::HTTP_10, Version::HTTP_09] {
            let mut head = head("", &[]);
            head.version = version;
            assert_eq!(refused(&head), (RejectionKind::BadRequest, 400));
        }
    }

    #[test]
    fn any_version_but_13_is_426() {
        let name = "sec-websocket-version";
        for lines in [
            &[][..],
            &[(name, "8")],
            &[(name, "")],
            &[(name, "013")],
            &[(name, "13, 8")],
            &[(name, "13"), (name, "13")],
        ] {
            let head = head(name, lines);
            assert_eq!(
                refused(&head),
                (RejectionKind::UnsupportedVersion, 426),
                "{lines:?}"
            );
        }
        assert!(validate_http1(&head(name, &[(name, " 13 ")])).is_ok());
    }

    #[test]
    fn a_key_that_is_not_16_bytes_is_400() {
        let name = "sec-websocket-key";
        for lines in [
            &[][..],
            &[(name, "")],
            &[(name, "x")],
            // 15, 17 and 18 bytes.
            &[(name, "AAAAAAAAAAAAAAAAAAAA")],
            &[(name, "AAAAAAAAAAAAAAAAAAAAAAA=")],
            &[(name, "AAAAAAAAAAAAAAAAAAAAAAAA")],
            &[(name, "dGhlIHNhbXBsZSBub25jZQ=")],
            &[(name, "dGhlIHNhbXBsZSBub25jZQ")],
            &[(name, "dGhlIHNhbXBsZSBub25j_Q==")],
            &[(name, KEY), (name, KEY)],
        ] {
            let head = head(name, lines);
            assert_eq!(
                refused(&head),
                (RejectionKind::BadRequest, 400),
                "{lines:?}"
            );
        }
        assert!(validate_http1(&head(name, &[(name, "dGhlIHNhbXBsZSBub25jZR==")])).is_ok());
    }

    #[test]
    fn a_body_is_400() {
        for line in [
            ("content-length", "1"),
            ("content-length", ""),
            ("content-length", "0, 5"),
            ("transfer-encoding", "chunked"),
        ] {
            let head = head("", &[line]);
            assert_eq!(refused(&head), (RejectionKind::BadRequest, 400), "{line:?}");
        }
    }
}
