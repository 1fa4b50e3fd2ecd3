//! The answer that accepts an upgrade (RFC 6455, 4.2.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    Response, StatusCode,
    header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE},
};
use sha1_smol::Sha1;

#[cfg(feature = "spdy")]
use super::spdy;
use super::validate::Challenge;

/// The value that a server appends to the client's key, to show that it speaks WebSocket.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Builds the 101, or for HTTP/2 the 200, which has no `Connection`, `Upgrade` or key (RFC 8441,
/// 5).
///
/// `Connection` is exactly `Upgrade`, because kube-rs compares the whole value. The answer never
/// names an extension. It names a subprotocol only if one was selected, because strict clients
/// refuse a name that they did not offer, even an empty one.
pub(crate) fn accept_response<B: Default>(challenge: &Challenge, selected: &str) -> Response<B> {
    #[cfg(feature = "spdy")]
    if *challenge == Challenge::Spdy {
        return spdy::accept_response(selected);
    }
    let mut response = Response::new(B::default());
    // The two conversions below cannot fail, because base64 and the names of a table are ASCII
    // without control characters. If one failed, the answer would lack that header.
    if let Challenge::Http1(key) = challenge {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        if let Ok(accept) = HeaderValue::from_str(&accept_key(key.as_bytes())) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
    }
    let headers = response.headers_mut();
    if !selected.is_empty()
        && let Ok(selected) = HeaderValue::from_str(selected)
    {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, selected);
    }
    response
}

/// Returns the value of `Sec-WebSocket-Accept` for a key.
fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(GUID);
    STANDARD.encode(hash.digest().bytes())
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

    use super::*;
    use crate::handshake::{detect::Upgrade, validate::validate};

    fn accepted(selected: &str) -> Response<()> {
        let request = Request::builder()
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .body(())
            .unwrap();
        let challenge = validate(Upgrade::Http1, &request.into_parts().0).unwrap();
        accept_response(&challenge, selected)
    }

    #[test]
    fn http2_is_answered_with_200_and_the_subprotocol_alone() {
        let response: Response<()> = accept_response(&Challenge::Http2, "chat");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        assert_eq!(response.headers().len(), 1);
    }

    #[test]
    fn the_example_of_the_rfc() {
        let response = accepted("chat");
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "websocket");
        assert_eq!(
            headers["sec-websocket-accept"],
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        assert_eq!(
            headers.len(),
            4,
            "nothing else, and no length in particular"
        );
    }

    #[test]
    fn keys_are_answered_as_by_tungstenite() {
        // This is true of any length, although only keys of 24 characters pass validation.
        for len in 0..130_u8 {
            let key: Vec<u8> = (0..len).map(|i| b'!' + i % 90).collect();
            assert_eq!(accept_key(&key), derive_accept_key(&key), "{len}");
        }
    }

    #[test]
    fn no_subprotocol_is_answered_with_no_header() {
        let response = accepted("");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
        assert_eq!(response.headers().len(), 3);
    }
}
