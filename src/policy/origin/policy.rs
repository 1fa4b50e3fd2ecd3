//! Which web pages may connect. RFC 6455, 10.2; RFC 6454.

use std::{fmt, sync::Arc};

use http::{
    header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN},
    request::Parts,
    uri::Authority,
};

use super::site::{self, Pattern, Site};
use crate::{
    policy::{Policy, Sealed},
    protocol::ConfigError,
    rejection::Rejection,
    unwind::catch,
};

/// What a proxy calls the host that it was asked for. No standard, but what they all send.
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Which pages a browser may connect from.
///
/// A browser lets any page open a WebSocket to any host, and sends that host's
/// cookies along; the `Origin` header is all that tells a foreign page from
/// one's own. Clients that are no browsers send none and are let in by every policy: this
/// protects a browser's user, it authenticates nobody. A foreign page is refused with
/// a 403, and so is a request with two such headers, but by [`any`](Self::any). The 403, and
/// the log at debug level, name the page's origin and the host that was asked.
///
/// Behind a proxy that rewrites `Host` and leaves `Origin` as it is, such as `kubectl proxy`, no
/// page is of the same origin. A kubelet behind an API server, which authenticates its
/// callers by other means than cookies, is right to take [`any`](Self::any).
///
/// The default is [`same_origin`](Self::same_origin). Set another one with
/// [`SessionConfig::origin`](crate::SessionConfig::origin); for a route, with
/// [`PolicyLayer`](crate::policy::PolicyLayer); for a request, put it into the
/// request's extensions, as any layer, auth or handler outside of `WsStreamLayer` may: there it
/// goes before what the layer has been given, and the last one counts.
///
/// # Examples
///
/// ```
/// use tower_wsstream::policy::OriginPolicy;
///
/// let strict = OriginPolicy::default();
/// assert_eq!(strict, OriginPolicy::same_origin());
///
/// // A console on hosts of its own, and whoever develops it.
/// let console = OriginPolicy::allow_list([
///     "https://console.example.com",
///     "https://*.preview.example.com",
///     "http://localhost:3000",
/// ])?;
///
/// // A trial of it: what it would refuse is logged, and let in.
/// let trial = console.clone().report_only();
/// assert_ne!(console, trial);
/// # Ok::<(), tower_wsstream::ConfigError>(())
/// ```
///
/// For a route of its own:
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_wsstream::{
///     BoxError, WsStreamLayer,
///     policy::{OriginPolicy, PolicyLayer},
///     remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
/// };
///
/// # fn main() -> Result<(), tower_wsstream::ConfigError> {
/// // For pages of the own host.
/// let exec = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
///
/// // The same on a route for the pages of the console.
/// let console = OriginPolicy::allow_list(["https://console.example.com"])?;
/// let from_the_console = ServiceBuilder::new()
///     .layer(PolicyLayer::new(console))
///     .service(exec.clone());
/// # let _ = (exec, from_the_console);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OriginPolicy {
    rule: Rule,
    forwarded_host: bool,
    report_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
enum Rule {
    #[default]
    SameOrigin,
    AllowList(Arc<[Pattern]>),
    Predicate(Predicate),
    Any,
}

impl Sealed for OriginPolicy {}
impl Policy for OriginPolicy {}

impl OriginPolicy {
    /// Lets in pages of the host that was asked, and requests without an
    /// origin.
    ///
    /// Host and port must agree; a missing port is the usual one of the
    /// origin's scheme. The scheme itself is not compared, because behind a
    /// proxy that ends TLS it differs. Such a proxy must pass `Host` on
    /// unchanged, or see [`forwarded_host`](Self::forwarded_host). An opaque origin (`null`, from a
    /// sandboxed frame or a file) is foreign.
    #[must_use]
    pub fn same_origin() -> Self {
        Self::of(Rule::SameOrigin)
    }

    /// Lets in pages of these origins, and requests without one.
    ///
    /// An entry is written as a browser writes it, `https://a.example` or
    /// `http://a.example:8080`. Scheme, host and port must agree, the first two in any
    /// case; a missing port is the usual one of the scheme, and other schemes, as
    /// `chrome-extension://` with its id, have none. A host beyond ASCII is written in
    /// Punycode.
    ///
    /// `https://*.a.example` stands for every host below `a.example`, at any depth and
    /// not itself, on the usual port. Give it for a domain whose hosts are all your own.
    ///
    /// The host that was asked is no exception: where it serves pages, list it. An empty
    /// list is one, and lets in no page.
    ///
    /// # Errors
    ///
    /// An entry that is no origin, or not one of a page (`ws`, `wss`); `null`, which is
    /// the origin of every sandboxed page; `*.` before a top-level domain or
    /// an address.
    pub fn allow_list<I>(origins: I) -> Result<Self, ConfigError>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let patterns = origins
            .into_iter()
            .map(|origin| Pattern::parse(origin.as_ref()))
            .collect::<Result<_, _>>()?;
        Ok(Self::of(Rule::AllowList(patterns)))
    }

    /// Lets in the pages for which a function says so, and requests without an
    /// origin, for which it is not asked.
    ///
    /// It gets the value of the one `Origin` header, as it came, and the request's head. It
    /// must not block. If it panics, the request is answered with a 500. Two such policies
    /// are equal if one is a clone of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderValue, request::Parts};
    /// use tower_wsstream::policy::OriginPolicy;
    ///
    /// /// What an outer layer has found for the tenant that the request belongs to.
    /// #[derive(Clone)]
    /// struct Console(HeaderValue);
    ///
    /// let policy = OriginPolicy::predicate(|origin: &HeaderValue, head: &Parts| {
    ///     head.extensions
    ///         .get::<Console>()
    ///         .is_some_and(|Console(own)| own == origin)
    /// });
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn predicate<F>(allows: F) -> Self
    where
        F: Fn(&HeaderValue, &Parts) -> bool + Send + Sync + 'static,
    {
        Self::of(Rule::Predicate(Predicate(Arc::new(allows))))
    }

    /// Lets in every page.
    ///
    /// Right only where a page cannot act for its user by merely connecting:
    /// with bearer tokens, but not with cookies, client certificates or a
    /// trusted network.
    #[must_use]
    pub fn any() -> Self {
        Self::of(Rule::Any)
    }

    /// Takes the host that was asked from `X-Forwarded-Host` and no more from `Host`, for
    /// [`same_origin`](Self::same_origin); the other policies do not look at it.
    ///
    /// For a proxy that rewrites `Host`. It must set the header itself, to the `Host` that the
    /// browser has sent, port included, and overwrite what comes. Then it is there once, with one
    /// value: what is missing, there twice or a list is compared with nothing, and
    /// the page is foreign, so that a second way to the server lets no page in.
    ///
    /// Only when asked for, because where no proxy sets the header its sender chooses it.
    #[must_use]
    pub fn forwarded_host(mut self) -> Self {
        self.forwarded_host = true;
        self
    }

    /// Lets in everything, and logs as a warning what the policy would have refused: a
    /// trial before it is put in force.
    ///
    /// The event has the page's origin and the host that was asked, and nothing else of
    /// the request.
    #[must_use]
    pub fn report_only(mut self) -> Self {
        self.report_only = true;
        self
    }

    fn of(rule: Rule) -> Self {
        Self {
            rule,
            forwarded_host: false,
            report_only: false,
        }
    }

    pub(crate) fn check(&self, head: &Parts) -> Result<(), Rejection> {
        let refused = match self.decide(head) {
            Ok(()) => return Ok(()),
            Err(rejection) => rejection,
        };
        if self.report_only {
            self.report(head);
            return Ok(());
        }
        Err(refused)
    }

    /// Anything that cannot be read for certain is foreign.
    fn decide(&self, head: &Parts) -> Result<(), Rejection> {
        let mut lines = head.headers.get_all(ORIGIN).into_iter();
        let (first, second) = (lines.next(), lines.next());
        let allowed = match (&self.rule, first) {
            (Rule::Any, _) | (_, None) => true,
            // No browser sends two, and nobody can tell which of them counts.
            (_, Some(_)) if second.is_some() => false,
            (Rule::Predicate(predicate), Some(origin)) => predicate.ask(origin, head)?,
            (rule, Some(origin)) => match (rule, site_of(origin)) {
                (Rule::SameOrigin, Some(site)) => {
                    self.asked(head).is_some_and(|asked| site.is_at(&asked))
                }
                (Rule::AllowList(patterns), Some(site)) => {
                    patterns.iter().any(|pattern| pattern.covers(&site))
                }
                _ => false,
            },
        };
        if allowed {
            return Ok(());
        }
        Err(Rejection::origin(self.complaint(head, second.is_some())))
    }

    /// The host that a browser has asked for.
    fn asked(&self, head: &Parts) -> Option<Authority> {
        if self.forwarded_host {
            let host = only(&head.headers, X_FORWARDED_HOST)?;
            // A comma may stand in a host, but here it makes a list.
            return (!host.contains(',')).then(|| host.parse().ok())?;
        }
        // The target's own authority goes before `Host` (RFC 9112, 3.2.2).
        match head.uri.authority() {
            Some(authority) => Some(authority.clone()),
            None => only(&head.headers, HOST)?.parse().ok(),
        }
    }

    /// Whose page it is and what was asked, for people: read and written anew, because what
    /// cannot be read may hold anything.
    fn parties(&self, head: &Parts) -> (String, String) {
        let unread = || "(unreadable)".to_owned();
        let origin = match only(&head.headers, ORIGIN) {
            Some("null") => "null".to_owned(),
            Some(origin) => Site::parse(origin).map_or_else(unread, |site| site.to_string()),
            None => unread(),
        };
        let host = self.asked(head).and_then(|asked| site::shown(&asked));
        (origin, host.unwrap_or_else(unread))
    }

    /// What the client is told, and the log at debug level: what differs, and what to do.
    fn complaint(&self, head: &Parts, twice: bool) -> String {
        if twice {
            return "the request has more than one Origin header: a browser sends one".to_owned();
        }
        let (origin, host) = self.parties(head);
        match (&self.rule, self.forwarded_host) {
            (Rule::SameOrigin, false) => format!(
                "pages of the origin {origin} may not connect to the host {host}: use a page of that host. \
                 Its operator can allow the origin (OriginPolicy::allow_list); a proxy in between must pass on \
                 Host as it came, port included, or send it as X-Forwarded-Host (OriginPolicy::forwarded_host)"
            ),
            (Rule::SameOrigin, true) => format!(
                "pages of the origin {origin} may not connect to the host {host} of X-Forwarded-Host: use a page \
                 of that host. Its operator can allow the origin (OriginPolicy::allow_list); the proxy in between \
                 must set the header once, to the Host that it was asked for, port included"
            ),
            _ => format!(
                "pages of the origin {origin} may not connect: ask the server's operator to allow that origin \
                 (OriginPolicy::allow_list)"
            ),
        }
    }

    fn report(&self, head: &Parts) {
        let (origin, host) = self.parties(head);
        tracing::warn!(
            %origin,
            %host,
            "OriginPolicy::report_only: a page is let in that would be refused"
        );
    }
}

/// A function of the user's.
#[derive(Clone)]
struct Predicate(Arc<Allows>);

type Allows = dyn Fn(&HeaderValue, &Parts) -> bool + Send + Sync;

impl Predicate {
    fn ask(&self, origin: &HeaderValue, head: &Parts) -> Result<bool, Rejection> {
        catch(|| (self.0)(origin, head))
            .map_err(|_| Rejection::panicked("the predicate of the OriginPolicy"))
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Predicate {}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

fn site_of(origin: &HeaderValue) -> Option<Site> {
    Site::parse(origin.to_str().ok()?)
}

/// The value of a header that is there once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut lines = headers.get_all(name).into_iter();
    let first = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(first)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn head(origins: &[&str], hosts: &[&str], uri: &str) -> Parts {
        let mut head = Request::get(uri).body(()).unwrap().into_parts().0;
        for origin in origins {
            let origin = HeaderValue::from_bytes(origin.as_bytes()).unwrap();
            head.headers.append(ORIGIN, origin);
        }
        for host in hosts {
            let host = HeaderValue::from_str(host).unwrap();
            head.headers.append(HOST, host);
        }
        head
    }

    fn check(policy: &OriginPolicy, origins: &[&str], hosts: &[&str], uri: &str) -> bool {
        check_head(policy, &head(origins, hosts, uri))
    }

    fn check_head(policy: &OriginPolicy, head: &Parts) -> bool {
        match policy.check(head) {
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
            ("http://a.example:+80", "a.example:80"),
            ("http://a.example", "a.example:+80"),
            ("http://:80", ":80"),
            ("tauri://a.example", "a.example"),
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

    #[test]
    fn a_list_lets_in_what_it_holds() {
        let origins = ["https://a.example", "http://*.b.example:81"];
        let policy = OriginPolicy::allow_list(origins).unwrap();
        let own = |origins: &[&str]| check(&policy, origins, &["own.example"], "/");
        assert!(own(&[]));
        assert!(own(&["https://a.example"]));
        assert!(own(&["http://x.b.example:81"]));
        for foreign in [
            "http://a.example",
            "http://b.example:81",
            "https://own.example",
            "null",
            "",
            "https://\u{e9}.example",
            "https://a.example, https://a.example",
        ] {
            assert!(!own(&[foreign]), "{foreign}");
        }
        assert!(!own(&["https://a.example", "https://a.example"]));

        let none = OriginPolicy::allow_list([""; 0]).unwrap();
        assert!(check(&none, &[], &["a.example"], "/"));
        assert!(!check(&none, &["http://a.example"], &["a.example"], "/"));
        let owned = vec![String::from("https://a.example"), String::from("a.example")];
        let error = OriginPolicy::allow_list(owned).unwrap_err().to_string();
        assert!(error.contains("\"a.example\" is no site"), "{error}");
    }

    #[test]
    fn a_predicate_sees_origin_and_head_and_decides() {
        let policy = OriginPolicy::predicate(|origin, head| {
            origin.as_bytes() == "\u{e9}".as_bytes() && head.uri.path() == "/open"
        });
        assert!(check(&policy, &["\u{e9}"], &[], "/open"));
        assert!(!check(&policy, &["\u{e9}"], &[], "/closed"));
        assert!(!check(&policy, &["null"], &[], "/open"));
    }

    #[test]
    fn a_predicate_is_asked_for_one_origin_only() {
        let policy = OriginPolicy::predicate(|_, _| panic!("asked"));
        assert!(check(&policy, &[], &["a.example"], "/"));
        assert!(!check(&policy, &["a", "a"], &["a.example"], "/"));
    }

    #[test]
    fn a_predicate_that_panics_lets_nobody_in() {
        let policy = OriginPolicy::predicate(|_, _| panic!("broken"));
        let rejection = policy.check(&head(&["a"], &[], "/")).unwrap_err();
        assert_eq!(rejection.status(), 500);
    }

    fn forwarded(policy: &OriginPolicy, origin: &str, host: &str, values: &[&str]) -> bool {
        let mut head = head(&[origin], &[host], "/");
        for value in values {
            let value = HeaderValue::from_str(value).unwrap();
            head.headers.append(X_FORWARDED_HOST, value);
        }
        check_head(policy, &head)
    }

    #[test]
    fn the_forwarded_host_counts_where_it_is_asked_for() {
        let (page, other) = ("https://a.example:8443", "https://pod-7.internal");
        let plain = OriginPolicy::same_origin();
        assert!(!forwarded(
            &plain,
            page,
            "pod-7.internal",
            &["a.example:8443"]
        ));
        assert!(forwarded(
            &plain,
            other,
            "pod-7.internal",
            &["a.example:8443"]
        ));

        let policy = OriginPolicy::same_origin().forwarded_host();
        let asked = |origin, values: &[&str]| forwarded(&policy, origin, "pod-7.internal", values);
        assert!(asked(page, &["a.example:8443"]));
        assert!(asked(page, &["A.EXAMPLE:8443"]));
        assert!(asked("https://a.example", &["a.example"]));
        assert!(!asked(other, &["a.example:8443"]));
        // It goes before the target's authority too.
        let mut absolute = head(&[page], &["pod-7.internal"], "http://pod-7.internal/exec");
        let value = HeaderValue::from_static("a.example:8443");
        absolute.headers.insert(X_FORWARDED_HOST, value);
        assert!(check_head(&policy, &absolute));
    }

    #[test]
    fn a_forwarded_host_is_one_value_or_nothing() {
        let policy = OriginPolicy::same_origin().forwarded_host();
        let page = "https://a.example";
        for values in [
            &[][..],
            &[""],
            &["a.example", "a.example"],
            &["a.example, a.example"],
            &["a.example,a.example"],
            &["a.example,"],
            &["https://a.example"],
            &["u@a.example"],
        ] {
            assert!(!forwarded(&policy, page, "a.example", values), "{values:?}");
        }
        assert!(!forwarded(&policy, "https://a,b", "x", &["a,b"]));
    }

    #[test]
    fn report_only_lets_in_what_would_be_refused() {
        let refuses = [
            OriginPolicy::same_origin(),
            OriginPolicy::same_origin().forwarded_host(),
            OriginPolicy::allow_list(["https://a.example"]).unwrap(),
            OriginPolicy::predicate(|_, _| false),
            OriginPolicy::predicate(|_, _| panic!("broken")),
        ];
        for policy in refuses {
            let policy = policy.report_only();
            for origin in ["https://b.example", "null", ""] {
                assert!(check(&policy, &[origin], &["a.example"], "/"), "{policy:?}");
            }
            assert!(check(&policy, &["x", "x"], &[], "/"));
        }
    }

    #[test]
    fn policies_are_equal_where_they_do_the_same_for_certain() {
        let list = |origin| OriginPolicy::allow_list([origin]).unwrap();
        assert_eq!(list("https://a.example"), list("HTTPS://a.example:443"));
        assert_ne!(list("https://a.example"), list("https://*.a.example"));
        let predicate = OriginPolicy::predicate(|_, _| true);
        assert_eq!(predicate.clone(), predicate);
        assert_ne!(OriginPolicy::predicate(|_, _| true), predicate);
        let same = OriginPolicy::same_origin();
        assert_ne!(same.clone().forwarded_host(), same);
        assert_ne!(same.clone().report_only(), same);
        assert_ne!(same, OriginPolicy::any());
    }
}
