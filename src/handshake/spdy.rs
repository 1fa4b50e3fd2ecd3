//! The part of a handshake that Kubernetes puts on top of an upgrade to SPDY: the client offers
//! protocols by name, and the answer selects one.
//!
//! These protocols are not WebSocket's subprotocols, although most names are the same.

use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONNECTION, HeaderMap, UPGRADE},
};

use super::{detect::SPDY, headers::members};
use crate::rejection::Rejection;

/// The header that offers protocols in a request, and names the selected one in the answer.
const OFFER: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// Iterates over the protocols that a client offers, from all header lines and in its order.
///
/// They are not collected, because a list would take sixteen bytes for an entry that may have one.
pub(crate) fn offered(headers: &HeaderMap) -> Result<impl Iterator<Item = &str>, Rejection> {
    let entries = || members(headers, &OFFER);
    if !entries().all(<[u8]>::is_ascii) {
        return Err(Rejection::bad_request(
            "X-Stream-Protocol-Version holds a byte that is not ASCII: offer plain names, separated by commas",
        ));
    }
    if entries().next().is_none() {
        return Err(Rejection::bad_request(
            "the handshake needs an X-Stream-Protocol-Version header: send a line for each protocol that the client speaks",
        ));
    }
    // ASCII is UTF-8, so every entry is there.
    Ok(entries().filter_map(|entry| std::str::from_utf8(entry).ok()))
}

/// Selects the first offered protocol that is accepted. The order of the client decides.
pub(crate) fn select<'a, 'b, T>(
    mut offered: impl Iterator<Item = &'b str>,
    accepted: impl Iterator<Item = (&'a str, T)> + Clone,
) -> Result<(&'a str, T), Rejection> {
    let find = |name: &str| accepted.clone().find(|(accepted, _)| *accepted == name);
    offered.find_map(find).ok_or_else(|| {
        let names: Vec<&str> = accepted.clone().map(|(name, _)| name).collect();
        Rejection::no_common_stream_protocol(&names)
    })
}

/// Builds the 101 that accepts an upgrade to SPDY.
pub(crate) fn accept_response<B: Default>(selected: &str) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(SPDY));
    // This cannot fail, because the names of a table are printable ASCII.
    if let Ok(selected) = HeaderValue::from_str(selected) {
        headers.insert(OFFER, selected);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{body::NoBody, rejection::RejectionKind};

    fn headers(lines: &[&str]) -> HeaderMap {
        let value = |line: &&str| HeaderValue::from_bytes(line.as_bytes()).unwrap();
        lines.iter().map(|line| (OFFER, value(line))).collect()
    }

    fn shake(accepted: &'static [&str], lines: &[&str]) -> Result<&'static str, Rejection> {
        let headers = headers(lines);
        let accepted = accepted.iter().map(|name| (*name, ()));
        select(offered(&headers)?, accepted).map(|(name, ())| name)
    }

    #[test]
    fn the_cases_of_the_go_package() {
        for (lines, expected) in [
            (&[][..], Err(400)),
            (&[",, "], Err(400)),
            (&["c"], Err(403)),
            (&["c, d"], Err(403)),
            (&["b"], Ok("b")),
            (&["b, c"], Ok("b")),
            // The client's order wins over all lines, and case matters.
            (&["x", "b", "a"], Ok("b")),
            (&["c, a", "b"], Ok("a")),
            (&["A"], Err(403)),
            (&["\u{e9}, a"], Err(400)),
        ] {
            let shaken = shake(&["a", "b"], lines);
            let shaken = shaken.map_err(|rejection| rejection.status().as_u16());
            assert_eq!(shaken, expected, "{lines:?}");
        }
    }

    #[test]
    fn a_403_has_a_line_for_each_accepted_protocol() {
        let rejection = shake(&["a", "b"], &["c"]).unwrap_err();
        assert_eq!(rejection.kind(), RejectionKind::NoCommonSubprotocol);
        assert!(rejection.message().ends_with("offer one of a, b"));
        let answer = rejection.into_response::<NoBody>();
        let lines = answer
            .headers()
            .get_all("x-accepted-stream-protocol-versions");
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn an_endpoint_without_protocols_for_spdy_says_so() {
        let rejection = shake(&[], &["a"]).unwrap_err();
        assert_eq!(rejection.status(), 403);
        assert!(rejection.message().contains("WebSocket"), "{rejection}");
    }

    #[test]
    fn the_101_has_three_headers() {
        let response = accept_response::<()>("v4.channel.k8s.io");
        assert_eq!(response.status(), 101);
        let headers = response.headers();
        assert_eq!(headers["connection"], "Upgrade");
        assert_eq!(headers["upgrade"], "SPDY/3.1");
        assert_eq!(headers["x-stream-protocol-version"], "v4.channel.k8s.io");
        assert_eq!(headers.len(), 3, "no length in particular");
    }
}
