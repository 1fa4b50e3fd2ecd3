//! Which web pages may connect. RFC 6455, 10.2; RFC 6454.

use http::header::{HOST, HeaderMap, ORIGIN};
use http::uri::{Authority, Uri};

use crate::handshake::Rejection;

/// Which pages a browser may connect from.
///
/// A browser lets any page open a WebSocket to any host, and sends that host's
/// cookies along; the `Origin` header is all that tells a foreign page from
/// one's own. Clients that are no browsers send none and are let in: this
/// protects a browser's user, it authenticates nobody.
///
/// The default is [`same_origin`](Self::same_origin).
///
/// # Examples
///
/// ```
/// use tower_wsstream::OriginPolicy;
///
/// let strict = OriginPolicy::default();
/// assert_eq!(strict, OriginPolicy::same_origin());
/// assert_ne!(strict, OriginPolicy::any());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OriginPolicy {
    rule: Rule,
}

// Private, so that lists and predicates can join without a breaking change.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Rule {
    #[default]
    SameOrigin,
    Any,
}

impl OriginPolicy {
    /// Lets in pages of the host that was asked, and requests without an
    /// origin. Others are refused with a 403.
    ///
    /// Host and port must agree; a missing port is the usual one of the
    /// origin's scheme. The scheme itself is not compared, because behind a
    /// proxy that ends TLS it differs. Such a proxy must pass `Host` on
    /// unchanged. An opaque origin (`null`, from a sandboxed frame or a file)
    /// is foreign.
    #[must_use]
    pub fn same_origin() -> Self {
        Self {
            rule: Rule::SameOrigin,
        }
    }

    /// Lets in every page.
    ///
    /// Right only where a page cannot act for its user by merely connecting:
    /// with bearer tokens, but not with cookies, client certificates or a
    /// trusted network.
    #[must_use]
    pub fn any() -> Self {
        Self { rule: Rule::Any }
    }

    pub(crate) fn check(&self, headers: &HeaderMap, uri: &Uri) -> Result<(), Rejection> {
        let allowed = match self.rule {
            Rule::Any => true,
            Rule::SameOrigin => !headers.contains_key(ORIGIN) || is_same(headers, uri),
        };
        if allowed {
            Ok(())
        } else {
            Err(Rejection::origin())
        }
    }
}

/// Anything that cannot be read for certain is foreign.
fn is_same(headers: &HeaderMap, uri: &Uri) -> bool {
    let same = || {
        let (scheme, origin) = only(headers, ORIGIN)?.split_once("://")?;
        let default_port = default_port(scheme)?;
        let origin: Authority = origin.parse().ok()?;
        // The target's own authority goes before `Host` (RFC 9112, 3.2.2).
        let asked: Authority = match uri.authority() {
            Some(authority) => authority.clone(),
            None => only(headers, HOST)?.parse().ok()?,
        };
        Some(place(&origin, default_port)? == place(&asked, default_port)?)
    };
    same().unwrap_or(false)
}

/// Host in lower case, and port.
fn place(authority: &Authority, default_port: u16) -> Option<(String, u16)> {
    let text = authority.as_str();
    let host = authority.host();
    // What is left is `:port`, or `:`, or nothing; a user name has no business
    // here, and a port that is no number would else read as a missing one.
    let port = match text.strip_prefix(host)? {
        "" | ":" => default_port,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    Some((host.to_ascii_lowercase(), port))
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// The value of a header that is there once.
fn only(headers: &HeaderMap, name: http::HeaderName) -> Option<&str> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(policy: &OriginPolicy, origins: &[&str], hosts: &[&str], uri: &str) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, HeaderValue::from_bytes(origin.as_bytes()).unwrap());
        }
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).unwrap());
        }
        match policy.check(&headers, &uri.parse().unwrap()) {
            Ok(()) => true,
            Err(rejection) => {
                assert_eq!(rejection.status(), 403);
                false
            }
        }
    }

    fn same(origin: &str, host: &str) -> bool {
        check(&OriginPolicy::default(), &[origin], &[host], "/exec")
    }

    #[test]
    fn no_origin_is_no_browser() {
        assert!(check(&OriginPolicy::default(), &[], &["a.example"], "/"));
        assert!(check(&OriginPolicy::default(), &[], &[], "/"));
    }

    #[test]
    fn the_own_host_is_let_in() {
        for (origin, host) in [
            ("http://a.example", "a.example"),
            ("https://a.example", "a.example"),
            ("https://A.Example", "a.EXAMPLE"),
            ("HTTPS://a.example", "a.example:443"),
            ("https://a.example:443", "a.example"),
            ("http://a.example:80", "a.example"),
            ("http://a.example:8080", "a.example:8080"),
            ("wss://a.example", "a.example:443"),
            ("http://127.0.0.1:8001", "127.0.0.1:8001"),
            ("http://[::1]:8001", "[::1]:8001"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert!(same(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn others_are_refused() {
        for (origin, host) in [
            ("http://b.example", "a.example"),
            ("http://a.example.b.example", "a.example"),
            ("http://a.example:8080", "a.example"),
            ("http://a.example", "a.example:8080"),
            ("http://a.example", "a.example:443"),
            ("https://a.example", "a.example:80"),
            ("http://localhost", "127.0.0.1"),
            ("http://[::1]:80", "[::2]:80"),
            ("null", "null"),
            ("", "a.example"),
            ("a.example", "a.example"),
            ("file://", "a.example"),
            ("file://a.example", "a.example"),
            ("http://a.example/", "a.example"),
            ("http://a.example/x", "a.example"),
            ("http://u@a.example", "a.example"),
            ("http://a.example", "u@a.example"),
            ("http://a.example:99999", "a.example:99999"),
            ("http://a.example:x", "a.example:x"),
            ("http://a.example:+80", "a.example:90"),
            ("http://\u{e9}.example", "a.example"),
            ("http://", "a.example"),
            ("http://a.example", ""),
        ] {
            assert!(!same(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn what_is_there_twice_or_not_at_all_is_not_compared() {
        let policy = OriginPolicy::same_origin();
        let (own, host) = ("http://a.example", "a.example");
        assert!(!check(&policy, &[own, own], &[host], "/"));
        assert!(!check(&policy, &[own], &[host, host], "/"));
        assert!(!check(&policy, &[own], &[], "/"));
    }

    #[test]
    fn the_targets_authority_goes_before_host() {
        let policy = OriginPolicy::same_origin();
        let absolute = "http://a.example/exec";
        assert!(check(
            &policy,
            &["http://a.example"],
            &["b.example"],
            absolute
        ));
        assert!(!check(
            &policy,
            &["http://b.example"],
            &["b.example"],
            absolute
        ));
    }

    #[test]
    fn any_lets_in_everything() {
        for origin in ["http://b.example", "null", ""] {
            assert!(check(&OriginPolicy::any(), &[origin], &["a.example"], "/"));
        }
    }
}
