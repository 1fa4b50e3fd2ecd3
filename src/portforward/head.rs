//! A copy of a request's head that is as small as its contents.

use http::{HeaderMap, HeaderValue, Uri, request::Parts};

/// Copies the bytes of a head that a server has parsed.
///
/// The URI and the values of a parsed head are slices of the server's read buffer, usually 8 KiB,
/// and keep all of it alive. A tunnel needs its head for as long as it may get connections.
pub(super) fn compact(head: &mut Parts) {
    if let Some(uri) = copy_uri(&head.uri) {
        head.uri = uri;
    }
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    for (name, value) in &head.headers {
        headers.append(name, copy_value(value));
    }
    head.headers = headers;
}

fn copy_uri(uri: &Uri) -> Option<Uri> {
    // What was a URI before is one again.
    uri.to_string().parse().ok()
}

fn copy_value(value: &HeaderValue) -> HeaderValue {
    let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) else {
        return value.clone();
    };
    copy.set_sensitive(value.is_sensitive());
    copy
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Request, header::AUTHORIZATION};

    use super::*;

    #[test]
    fn head_is_copied() {
        let buffer = Bytes::from(b"/pods/web/portforward?x=%20abcd".repeat(64));
        let slice = |range| buffer.slice(range);
        let mut secret = HeaderValue::from_maybe_shared(slice(27..31)).unwrap();
        secret.set_sensitive(true);
        let request = Request::post(Uri::from_maybe_shared(slice(0..31)).unwrap())
            .header(
                "x-twice",
                HeaderValue::from_maybe_shared(slice(6..9)).unwrap(),
            )
            .header(AUTHORIZATION, secret)
            .header(
                "x-twice",
                HeaderValue::from_maybe_shared(slice(1..5)).unwrap(),
            )
            .extension(7_u8);
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        assert!(!buffer.is_unique());
        compact(&mut head);
        assert!(buffer.is_unique());
        assert_eq!(head.uri, "/pods/web/portforward?x=%20abcd");
        let twice: Vec<_> = head.headers.get_all("x-twice").iter().collect();
        assert_eq!(twice, ["web", "pods"]);
        assert_eq!(head.headers[AUTHORIZATION], "abcd");
        assert!(head.headers[AUTHORIZATION].is_sensitive());
        assert_eq!(head.extensions.get(), Some(&7_u8));
    }

    #[test]
    fn every_form_of_a_uri_is_kept() {
        for uri in ["/", "*", "/a?b=c", "http://pod/a?b", "pod:80", "/%ff?"] {
            let uri: Uri = uri.parse().unwrap();
            assert_eq!(copy_uri(&uri).unwrap(), uri);
        }
    }
}
