use http::{
    header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN},
    request::Parts,
    uri::Authority,
};

use super::site::{Site, shown};

/// The header in which a proxy passes on the host that it was asked for. It is not standardised,
/// but widely used.
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// A request as an origin policy sees it: the page that asks, and the host that is asked.
pub(super) struct Asked<'a> {
    head: &'a Parts,
    forwarded_host: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn new(head: &'a Parts, forwarded_host: bool) -> Self {
        Self {
            head,
            forwarded_host,
        }
    }

    pub(super) fn head(&self) -> &'a Parts {
        self.head
    }

    /// Returns the first `Origin` header.
    pub(super) fn origin(&self) -> Option<&'a HeaderValue> {
        self.head.headers.get(ORIGIN)
    }

    pub(super) fn has_two_origins(&self) -> bool {
        self.head.headers.get_all(ORIGIN).iter().nth(1).is_some()
    }

    /// Returns the site of the page, if there is exactly one `Origin` header and it can be parsed.
    pub(super) fn site(&self) -> Option<Site> {
        Site::parse(only(&self.head.headers, ORIGIN)?)
    }

    pub(super) fn is_same_origin(&self) -> bool {
        match (self.site(), self.host()) {
            (Some(site), Some(host)) => site.is_at(&host),
            _ => false,
        }
    }

    /// Returns the host that the browser asked for.
    fn host(&self) -> Option<Authority> {
        let Parts { headers, uri, .. } = self.head;
        if self.forwarded_host {
            let host = only(headers, X_FORWARDED_HOST)?;
            // A host may contain a comma, but in this header a comma separates the entries of a
            // list.
            return (!host.contains(',')).then(|| host.parse().ok())?;
        }
        // The target's own authority takes precedence over `Host` (RFC 9112, 3.2.2).
        match uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => only(headers, HOST)?.parse().ok(),
        }
    }

    /// Returns the page's origin and the requested host, in a form that is safe to show.
    ///
    /// Both are parsed and formatted again, because a header that cannot be parsed may contain
    /// anything.
    pub(super) fn parties(&self) -> (String, String) {
        let unread = || "(unreadable)".to_owned();
        let origin = match only(&self.head.headers, ORIGIN) {
            Some("null") => "null".to_owned(),
            Some(origin) => Site::parse(origin).map_or_else(unread, |site| site.to_string()),
            None => unread(),
        };
        let host = self.host().and_then(|host| shown(&host));
        (origin, host.unwrap_or_else(unread))
    }
}

/// Returns the value of a header that occurs exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(first)
}
