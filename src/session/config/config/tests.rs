use super::*;
use crate::policy::IdleTimeout;

fn shares(one: &SessionConfig, other: &Sessions) -> bool {
    std::ptr::eq(
        std::sync::Arc::as_ptr(one.sessions.reserve()),
        std::sync::Arc::as_ptr(other.reserve()),
    )
}

#[test]
fn what_replaces_a_configuration_keeps_its_sessions_unless_it_has_its_own() {
    let (old, new) = (Sessions::default(), Sessions::default());
    let drained = SessionConfig::default()
        .sessions(old.clone())
        .grace(Duration::from_secs(7));
    let replaced = SessionConfig::default().replacing(&drained);
    assert!(shares(&replaced, &old));
    assert_eq!(replaced.grace, DEFAULT_GRACE, "nothing else is kept");
    // They count as chosen from then on.
    assert!(shares(&SessionConfig::default().replacing(&replaced), &old));
    let chosen = SessionConfig::default().sessions(new.clone());
    assert!(shares(&chosen.replacing(&drained), &new));
}

#[test]
fn a_request_that_overrides_nothing_shares_the_configuration() {
    let idle = Duration::from_secs(60);
    let config = Arc::new(SessionConfig::default().idle_timeout(idle));
    let mut extensions = Extensions::new();
    assert!(Arc::ptr_eq(&config.for_request(&extensions), &config));
    extensions.insert(IdleTimeout(Some(idle)));
    assert!(Arc::ptr_eq(&config.for_request(&extensions), &config));
    extensions.insert(IdleTimeout(None));
    let own = config.for_request(&extensions);
    assert_eq!(own.policy.idle_timeout, None);
    assert_eq!(config.policy.idle_timeout, Some(idle));
    assert!(
        shares(&own, &config.sessions),
        "it is counted with the others"
    );
}

#[test]
fn a_duration_of_zero_is_named_where_it_makes_no_sense() {
    let zero = Duration::ZERO;
    let default = SessionConfig::default;
    for (config, name) in [
        (default().upgrade_timeout(zero), "upgrade_timeout"),
        (default().idle_timeout(zero), "idle_timeout"),
        (default().time_limit(zero), "time_limit"),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(default().check().is_ok());
    let hasty = default()
        .accept_timeout(zero)
        .grace(zero)
        .closed_grace(zero);
    assert!(hasty.check().is_ok());
}
