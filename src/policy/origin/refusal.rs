use super::{OriginPolicy, asked::Asked, policy::Rule};

/// Returns the text of a refusal, which says what differs and what to do about it.
///
/// It is for the client, and for the log at debug level.
pub(super) fn message(policy: &OriginPolicy, asked: &Asked<'_>) -> String {
    if asked.has_two_origins() {
        return "the request has more than one Origin header: a browser sends one".to_owned();
    }
    let (origin, host) = asked.parties();
    match (&policy.rule, policy.forwarded_host) {
        (Rule::SameOrigin, false) => format!(
            "pages of the origin {origin} may not connect to the host {host}: use a page of that host. \
             Its operator can allow the origin (OriginPolicy::allow_list); a proxy in between must pass Host \
             on unchanged, port included, or send it as X-Forwarded-Host (OriginPolicy::forwarded_host)"
        ),
        (Rule::SameOrigin, true) => format!(
            "pages of the origin {origin} may not connect to the host {host} of X-Forwarded-Host: use a page \
             of that host. Its operator can allow the origin (OriginPolicy::allow_list); the proxy in between \
             must set the header once, to the Host that it received, port included"
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
        "OriginPolicy::report_only: let in a page that the policy would refuse"
    );
}
