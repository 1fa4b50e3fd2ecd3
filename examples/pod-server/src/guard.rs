//! Middleware that decides who may use this server at all.
//!
//! The server runs commands for every client that gets through, so each request passes here
//! before it is routed to a pod, a document or the page. Only the layers in front see requests that are
//! refused here: one trims the path, one moves the token of a browser to the header that is
//! checked here, and one logs. With a token, the token decides. Without one the server listens
//! on loopback only, and the danger that is left is a web page in a browser on this machine. A
//! page can reach loopback under a name of its own whose address it has changed (DNS rebinding;
//! its `Host` gives it away), it can send requests across origins (its `Origin` gives it away), and
//! it can lead its own window or a new one to the page here, which starts a shell at once and takes
//! the keys that are typed (`Sec-Fetch-Site` gives it away, as such a request has no `Origin`).

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Version,
        header::{AUTHORIZATION, HOST, ORIGIN},
        request::Parts,
        uri::Scheme,
    },
    middleware::Next,
    response::Response,
};
use subtle::ConstantTimeEq;
use tower_wsstream::Rejection;

use crate::authority::Authority;

/// Refuses requests that do not pass the guard.
pub(crate) async fn check(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let (head, body) = request.into_parts();
    guard.check(&head)?;
    Ok(next.run(Request::from_parts(head, body)).await)
}

/// Refuses requests for the files of the page that do not pass the guard. They need no token,
/// because the page asks its user for it.
pub(crate) async fn check_page(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Rejection> {
    let (head, body) = request.into_parts();
    if guard.token.is_none() {
        check_place(&head)?;
    }
    Ok(next.run(Request::from_parts(head, body)).await)
}

/// The check that every request passes before it is handled.
#[derive(Clone)]
pub(crate) struct Guard {
    token: Option<Arc<str>>,
}

impl Guard {
    pub(crate) fn new(token: Option<String>) -> Self {
        Self {
            token: token.map(Arc::from),
        }
    }

    /// Checks the head of a request, and refuses it with a 401 or a 403.
    fn check(&self, head: &Parts) -> Result<(), Rejection> {
        match &self.token {
            Some(token) => check_token(token, &head.headers),
            None => check_place(head),
        }
    }
}

fn check_token(token: &str, headers: &HeaderMap) -> Result<(), Rejection> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    // Two credentials count as none: another server on the way may have checked either of them.
    let given = match (lines.next(), lines.next()) {
        (Some(line), None) => bearer(line.as_bytes()),
        _ => None,
    };
    // The time reveals the length of the token, and nothing else about it.
    match given {
        Some(given) if bool::from(given.ct_eq(token.as_bytes())) => Ok(()),
        _ => Err(Rejection::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized: this server wants the bearer token that it was started with (kubectl \
             --token, which it sends over TLS only)",
        )),
    }
}

/// Returns the token of `Bearer TOKEN`. The case of the scheme does not count.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Bearer ")
        .then(|| rest.trim_ascii())
}

/// Checks that a request comes from this machine, and from no page but our own.
fn check_place(head: &Parts) -> Result<(), Rejection> {
    let host = check_host(head)?;
    check_origin(&head.headers, &host)?;
    check_site(&head.headers)
}

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Returns the authority that the request is for, if it names this machine's loopback.
fn check_host(head: &Parts) -> Result<Authority, Rejection> {
    named(head)
        .filter(Authority::is_loopback)
        .ok_or_else(|| {
            forbidden(
                "without a token this server answers only requests whose Host is localhost or a loopback \
                 address: use http://127.0.0.1, or start it with --token-file",
            )
        })
}

/// Returns the host of the request, if all the places that name it agree.
fn named(head: &Parts) -> Option<Authority> {
    let mut lines = head.headers.get_all(HOST).iter();
    let host = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(Authority::parse(line.to_str().ok()?)?),
        // HTTP/2 has it in `:authority`, which becomes part of the URI.
        (None, None) if head.version == Version::HTTP_2 => None,
        _ => return None,
    };
    // The URI of `GET http://other/ HTTP/1.1` names a host too, and would win.
    let uri = match head.uri.authority() {
        Some(authority) => Some(Authority::parse(authority.as_str())?),
        None => None,
    };
    let default_port = head.uri.scheme().map(|scheme| {
        if *scheme == Scheme::HTTPS {
            HTTPS_PORT
        } else {
            HTTP_PORT
        }
    });
    match (host, uri) {
        (Some(host), Some(uri)) => host.is_same(&uri, default_port).then_some(host),
        (host, uri) => host.or(uri),
    }
}

/// Checks the origin of a page. Only browsers send one.
fn check_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Rejection> {
    let is_same = |origin: &HeaderValue| {
        // `null` is foreign, and so are schemes that no page of this server can have.
        let (default_port, authority) = match origin.to_str().ok()?.split_once("://")? {
            ("http", authority) => (HTTP_PORT, authority),
            ("https", authority) => (HTTPS_PORT, authority),
            _ => return None,
        };
        let origin = Authority::parse(authority)?;
        origin.is_same(host, Some(default_port)).then_some(())
    };
    if headers
        .get_all(ORIGIN)
        .iter()
        .all(|origin| is_same(origin).is_some())
    {
        Ok(())
    } else {
        Err(forbidden(
            "without a token this server answers no page of another origin",
        ))
    }
}

/// The relation of a request to the page that it comes from, which only browsers tell.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Checks that a browser was not led here by a page of another origin. Pages at other ports of this
/// machine are of the same site.
///
/// The answer has no link to go on: a page that gets its user to click twice would use that.
fn check_site(headers: &HeaderMap) -> Result<(), Rejection> {
    // `none` is an address that was typed, or a bookmark.
    let is_ours = |site: &HeaderValue| site == "same-origin" || site == "none";
    if headers.get_all(SEC_FETCH_SITE).iter().all(is_ours) {
        Ok(())
    } else {
        Err(forbidden(
            "without a token this server opens for no link of another page: type its address into \
             the browser",
        ))
    }
}

fn forbidden(why: &str) -> Rejection {
    Rejection::new(StatusCode::FORBIDDEN, format!("Forbidden: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(guard: &Guard, headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::get("/version");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        guard
            .check(&request.body(()).unwrap().into_parts().0)
            .err()
            .map(|rejection| rejection.status().as_u16())
    }

    #[test]
    fn loopback_hosts_pass_without_a_token() {
        let guard = Guard::new(None);
        for host in [
            "127.0.0.1:8001",
            "127.0.0.1",
            "127.9.9.9:1",
            "localhost:8001",
            "LocalHost.",
            "demo.localhost:8001",
            "[::1]:8001",
        ] {
            assert_eq!(check(&guard, &[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn other_hosts_are_rebinding_and_refused() {
        let guard = Guard::new(None);
        for host in [
            "evil.example",
            "evil.example:8001",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil@127.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "[::1]x",
            "127.0.0.1:abc",
            "localhost:",
            "localhost:8001,evil",
            "",
        ] {
            assert_eq!(check(&guard, &[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(check(&guard, &[]), Some(403));
        assert_eq!(
            check(&guard, &[("host", "localhost"), ("host", "localhost")]),
            Some(403)
        );
    }

    #[test]
    fn an_absolute_uri_names_the_same_host() {
        for (authority, host, is_same) in [
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1:80", "127.0.0.1", true),
            ("LOCALHOST:8001", "localhost.:8001", true),
            ("evil.example", "127.0.0.1", false),
            ("127.0.0.1", "evil.example", false),
            ("localhost", "127.0.0.1", false),
            ("127.0.0.1:8001", "127.0.0.1:8002", false),
            ("127.0.0.1:8001", "127.0.0.1", false),
            ("evil@127.0.0.1", "127.0.0.1", false),
            ("127.0.0.1:", "127.0.0.1", false),
        ] {
            let request = Request::get(format!("http://{authority}/version"))
                .header("host", host)
                .body(())
                .unwrap();
            let passed = Guard::new(None).check(&request.into_parts().0).is_ok();
            assert_eq!(passed, is_same, "{authority} with the Host {host}");
        }
    }

    #[test]
    fn over_http_2_the_authority_is_the_host() {
        let check = |uri: &str, host: Option<&str>| {
            let mut request = Request::get(uri).version(Version::HTTP_2);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            Guard::new(None).check(&head).is_ok()
        };
        assert!(check("https://127.0.0.1:8001/version", None));
        assert!(check("http://localhost/version", Some("localhost")));
        assert!(check("https://localhost/version", Some("localhost:443")));
        assert!(!check("https://localhost/version", Some("localhost:80")));
        assert!(!check("https://evil.example/version", None));
        assert!(!check("http://evil.example/version", Some("localhost")));
        assert!(!check("http://localhost/version", Some("evil.example")));
        assert!(!check("/version", None));
    }

    #[test]
    fn foreign_origins_are_refused() {
        let guard = Guard::new(None);
        let origin = |host, origin| check(&guard, &[("host", host), ("origin", origin)]);
        assert_eq!(origin("127.0.0.1:8001", "http://127.0.0.1:8001"), None);
        assert_eq!(origin("localhost", "http://localhost:80"), None);
        for foreign in [
            "http://evil.example",
            "http://127.0.0.1:3000",
            "http://localhost:8001",
            "null",
            "file://",
            "chrome-extension://127.0.0.1:8001",
            "http://127.0.0.1:8001/",
            "http://127.0.0.1:8001,evil",
            "http://evil@127.0.0.1:8001",
            "http://127.0.0.1:8001 http://evil.example",
        ] {
            assert_eq!(origin("127.0.0.1:8001", foreign), Some(403), "{foreign}");
        }
    }

    /// A navigation has no origin. The page would start a shell, and other pages could aim at it.
    #[test]
    fn no_foreign_page_leads_here() {
        let guard = Guard::new(None);
        let check = |path: &str, sites: &[&str]| {
            let mut request = Request::get(path).header("host", "127.0.0.1:8001");
            for site in sites {
                request = request.header("sec-fetch-site", *site);
            }
            guard
                .check(&request.body(()).unwrap().into_parts().0)
                .err()
                .map(|rejection| rejection.status().as_u16())
        };
        for path in ["/", "/api/v1/namespaces/default/pods/demo/log"] {
            for passes in [&[][..], &["none"], &["same-origin"]] {
                assert_eq!(check(path, passes), None, "{path}: {passes:?}");
            }
            for foreign in [
                &["cross-site"][..],
                &["same-site"],
                &[""],
                &["none, cross-site"],
                &["none", "cross-site"],
            ] {
                assert_eq!(check(path, foreign), Some(403), "{path}: {foreign:?}");
            }
        }
    }

    #[test]
    fn a_token_decides_alone() {
        let guard = Guard::new(Some("secret".into()));
        let with = |value| check(&guard, &[("host", "pod.example"), ("authorization", value)]);
        assert_eq!(with("Bearer secret"), None);
        assert_eq!(with("bearer  secret"), None);
        for wrong in [
            "Bearer secreT",
            "Bearer secret2",
            "Bearer ",
            "Bearer",
            "Basic secret",
            "",
        ] {
            assert_eq!(with(wrong), Some(401), "{wrong}");
        }
        assert_eq!(check(&guard, &[("host", "127.0.0.1")]), Some(401));
        let twice = [
            ("authorization", "Bearer secret"),
            ("authorization", "Bearer other"),
        ];
        assert_eq!(check(&guard, &twice), Some(401));
    }
}
