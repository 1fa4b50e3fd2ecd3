use std::{fmt, sync::Arc};

use http::{HeaderValue, request::Parts};

use super::{asked::Asked, pattern::Pattern, refusal};
use crate::{
    policy::{Policy, Sealed},
    protocol::ConfigError,
    rejection::Rejection,
};

/// Decides which web pages a browser may connect from.
///
/// A browser lets any page open a WebSocket to any host, and sends that host's cookies along. Only
/// the `Origin` header tells a foreign page from one of your own. Clients other than browsers send
/// no such header, and every policy lets them in: a policy protects the user of a browser, and does
/// not authenticate clients. A foreign page is refused with a 403, and so is a request with two such
/// headers, except by [`any`](Self::any). The 403 and the log at debug level name the page's origin
/// and the requested host.
///
/// Behind a proxy that rewrites `Host` and passes `Origin` on unchanged, such as `kubectl proxy`,
/// every page is foreign. A kubelet behind an API server does not authenticate its callers by
/// cookies, and can safely use [`any`](Self::any).
///
/// The default is [`same_origin`](Self::same_origin). Set another policy with
/// [`SessionConfig::origin`](crate::SessionConfig::origin); for a route, with
/// [`PolicyLayer`](crate::policy::PolicyLayer); for one request, by inserting it into the
/// request's extensions, as any middleware outside of `WsStreamLayer` may. An extension overrides
/// the layer's policy, and the innermost one counts.
///
/// # Examples
///
/// ```
/// use tower_wsstream::policy::OriginPolicy;
///
/// let strict = OriginPolicy::default();
/// assert_eq!(strict, OriginPolicy::same_origin());
///
/// // A console that is served by hosts of its own and by the machines of its developers.
/// let console = OriginPolicy::allow_list([
///     "https://console.example.com",
///     "https://*.preview.example.com",
///     "http://localhost:3000",
/// ])?;
///
/// // A trial, which logs and lets in the pages that the policy would refuse.
/// let trial = console.clone().report_only();
/// assert_ne!(console, trial);
///
/// // Behind a proxy that rewrites `Host` and sets `X-Forwarded-Host` itself.
/// let proxied = OriginPolicy::same_origin().forwarded_host();
///
/// // A kubelet, whose only clients are API servers.
/// let kubelet = OriginPolicy::any();
/// # let _ = (proxied, kubelet);
/// # Ok::<(), tower_wsstream::ConfigError>(())
/// ```
///
/// A policy for one route:
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
/// // This service accepts the pages of its own host.
/// let exec = ServiceBuilder::new()
///     .layer(WsStreamLayer::new(Protocols::default()))
///     .layer(RemoteCommandLayer::new())
///     .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
///
/// // On this route, the same service accepts the pages of the console.
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
    pub(super) rule: Rule,
    pub(super) forwarded_host: bool,
    report_only: bool,
}

/// The pages that a policy lets in.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) enum Rule {
    #[default]
    SameOrigin,
    AllowList(Arc<[Pattern]>),
    Predicate(Predicate),
    Any,
}

impl Sealed for OriginPolicy {}
impl Policy for OriginPolicy {}

impl OriginPolicy {
    /// Allows pages of the requested host, and requests without an origin.
    ///
    /// Host and port must match. A missing port is the default port of the origin's scheme. The
    /// scheme itself is not compared, because it differs behind a proxy that terminates TLS. Such
    /// a proxy must pass `Host` on unchanged; if it does not, see
    /// [`forwarded_host`](Self::forwarded_host). An opaque origin (`null`, from a sandboxed frame
    /// or a file) is foreign.
    #[must_use]
    pub fn same_origin() -> Self {
        Self::of(Rule::SameOrigin)
    }

    /// Allows pages of these origins, and requests without an origin.
    ///
    /// Write an entry as a browser does: `https://a.example` or `http://a.example:8080`. Scheme,
    /// host and port must match; scheme and host are case-insensitive. A missing port is the default
    /// port of the scheme. Schemes other than HTTP's, such as `chrome-extension://` with its id, have
    /// no default port. Write a host with characters beyond ASCII in Punycode.
    ///
    /// `https://*.a.example` matches every host below `a.example` on the default port, at any
    /// depth, but not `a.example` itself. Use it for a domain whose hosts are all your own.
    ///
    /// The requested host is not allowed automatically: if it serves pages, list it. An empty list
    /// allows no page.
    ///
    /// # Errors
    ///
    /// Fails if an entry
    ///
    /// * is not an origin, or not the origin of a page (`ws`, `wss`);
    /// * is `null`, which is the origin of every sandboxed page;
    /// * has `*.` before a top-level domain or an address.
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

    /// Allows the pages for which a function returns `true`, and requests without an origin.
    ///
    /// The function gets the unchanged value of the single `Origin` header, and the request's head.
    /// It is not called for a request without that header. It must not block. If it panics, the
    /// request is answered with a 500. Two such policies are equal if one is a clone of the other.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderValue, request::Parts};
    /// use tower_wsstream::policy::OriginPolicy;
    ///
    /// /// The console of the request's tenant, which an outer layer inserts.
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

    /// Allows every page.
    ///
    /// This is safe only where a page cannot act for its user merely by connecting: with bearer
    /// tokens, but not with cookies, client certificates or a trusted network.
    #[must_use]
    pub fn any() -> Self {
        Self::of(Rule::Any)
    }

    /// Takes the requested host from `X-Forwarded-Host` instead of `Host`, for
    /// [`same_origin`](Self::same_origin). The other policies ignore it.
    ///
    /// Use it behind a proxy that rewrites `Host`. The proxy must set the header to the `Host` that
    /// the browser sent, port included, and must overwrite one that it receives. The header then
    /// occurs once, with one value. If it is missing, repeated or a list, every page is foreign, so
    /// a second way to the server that bypasses the proxy lets no page in.
    ///
    /// Off by default, because without such a proxy the client can choose the header's value.
    #[must_use]
    pub fn forwarded_host(mut self) -> Self {
        self.forwarded_host = true;
        self
    }

    /// Lets in every page, and logs a warning for each that the policy would have refused.
    ///
    /// Use it to try a policy out before it is enforced. The event contains the page's origin and
    /// the requested host, and nothing else of the request.
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

    /// Refuses the request of a foreign page, or reports it.
    pub(crate) fn check(&self, head: &Parts) -> Result<(), Rejection> {
        let asked = Asked::new(head, self.forwarded_host);
        let refused = match self.allows(&asked) {
            Ok(true) => return Ok(()),
            Ok(false) => Rejection::origin(refusal::message(self, &asked)),
            Err(rejection) => rejection,
        };
        if self.report_only {
            refusal::report(&asked);
            return Ok(());
        }
        Err(refused)
    }

    /// Returns whether the page may connect. A page whose site cannot be parsed is foreign.
    fn allows(&self, asked: &Asked<'_>) -> Result<bool, Rejection> {
        let Some(origin) = asked.origin() else {
            return Ok(true);
        };
        Ok(match &self.rule {
            Rule::Any => true,
            // No browser sends two, and nothing says which of them counts.
            _ if asked.has_two_origins() => false,
            Rule::SameOrigin => asked.is_same_origin(),
            Rule::AllowList(patterns) => asked
                .site()
                .is_some_and(|site| patterns.iter().any(|pattern| pattern.covers(&site))),
            Rule::Predicate(predicate) => predicate.ask(origin, asked.head())?,
        })
    }
}

/// The function of [`OriginPolicy::predicate`].
#[derive(Clone)]
pub(super) struct Predicate(Arc<Allows>);

type Allows = dyn Fn(&HeaderValue, &Parts) -> bool + Send + Sync;

impl Predicate {
    fn ask(&self, origin: &HeaderValue, head: &Parts) -> Result<bool, Rejection> {
        Rejection::on_panic("the predicate of the OriginPolicy", || {
            (self.0)(origin, head)
        })
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
