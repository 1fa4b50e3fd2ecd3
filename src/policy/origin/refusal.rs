use super::{OriginPolicy, asked::Asked, policy::Rule};

/// Returns the refusal's text, for the client and for the log at debug level: what differs, and
/// what to do about it.
pub(super) fn message(policy: &OriginPolicy, asked: &Asked<'_>) -> String {
    if asked.has_two_origins() {
        return "the request has more than one Origin header: a browser sends one".to_owned();
    }
    let (origin, host) = asked.parties();
    match (&policy.rule, policy.forwarded_host) {
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
        (Rule::AllowList(_) | Rule::Predicate(_) | Rule::Any, _) => format!(
            "pages of the origin {origin} may not connect: ask the server's operator to allow that origin \
             (OriginPolicy::allow_list)"
        ),
    }
}

/// Logs a request that would have been refused.
pub(super) fn report(asked: &Asked<'_>) {
    let (origin, host) = asked.parties();
    tracing::warn!(
        %origin,
        %host,
        "OriginPolicy::report_only: a page is let in that would be refused"
    );
}
