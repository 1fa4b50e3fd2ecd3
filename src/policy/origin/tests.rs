use http::{
    HeaderValue, Request,
    header::{HOST, ORIGIN},
    request::Parts,
};

use super::{OriginPolicy, asked::X_FORWARDED_HOST};

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
fn a_request_without_an_origin_is_let_in() {
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
fn a_repeated_or_missing_header_matches_no_page() {
    let policy = OriginPolicy::same_origin();
    let (own, host) = ("http://a.example", "a.example");
    assert!(!check(&policy, &[own, own], &[host], "/"));
    assert!(!check(&policy, &[own], &[host, host], "/"));
    assert!(!check(&policy, &[own], &[], "/"));
}

#[test]
fn the_targets_authority_takes_precedence_over_host() {
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
fn a_list_lets_in_its_entries() {
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
    assert!(error.contains("\"a.example\" is not a site"), "{error}");
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
fn a_predicate_that_panics_refuses() {
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
    // It takes precedence over the target's authority too.
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
fn report_only_lets_in_a_page_that_would_be_refused() {
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
fn policies_are_equal_if_they_certainly_do_the_same() {
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
