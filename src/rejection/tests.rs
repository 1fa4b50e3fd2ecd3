use std::{error::Error, fmt, time::Duration};

use http::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};
use http_body_util::BodyExt;
use tower::{load_shed::error::Overloaded, timeout::error::Elapsed};

use super::*;
use crate::{
    body::NoBody,
    protocol::{ChannelProtocolConfig, ChannelProtocols, ConfigError, Encoding, Status},
};

fn table(names: &[&'static str]) -> ChannelProtocols {
    names
        .iter()
        .fold(ChannelProtocols::builder(), |builder, name| {
            builder.protocol(*name, ChannelProtocolConfig::new(Encoding::Binary, []))
        })
        .build()
        .unwrap()
}

/// Returns the answer's status, its JSON, and its headers except those of the body, which are
/// checked here.
async fn answer(rejection: Rejection) -> (u16, serde_json::Value, Vec<(String, String)>) {
    let (kind, message) = (rejection.kind(), rejection.message().to_owned());
    let response = rejection.into_response::<NoBody>();
    let kept = response.extensions().get::<Rejection>().unwrap();
    assert_eq!((kept.kind(), kept.message()), (kind, &*message));

    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(head.headers[CONTENT_TYPE], "application/json");
    assert_eq!(head.headers[CONTENT_LENGTH], body.len().to_string());
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["kind"], "Status");
    assert_eq!(json["apiVersion"], "v1");
    assert_eq!(json["status"], "Failure");
    assert_eq!(json["message"], message);
    assert_eq!(json["code"], head.status.as_u16());
    let mut headers: Vec<_> = head
        .headers
        .iter()
        .filter(|(name, _)| **name != CONTENT_TYPE && **name != CONTENT_LENGTH)
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (head.status.as_u16(), json, headers)
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

#[tokio::test]
async fn every_refusal_has_its_status_headers_and_reason() {
    let upgrade = [
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("upgrade", "websocket"),
    ];
    let table = table(&["v4.channel.k8s.io"]);
    type Case<'a> = (
        Rejection,
        RejectionKind,
        u16,
        Option<&'a str>,
        &'a [(&'a str, &'a str)],
    );
    let cases: [Case<'_>; 14] = [
        (
            Rejection::not_an_upgrade(UpgradeTo::WebSocket),
            RejectionKind::NotAnUpgrade,
            426,
            None,
            &upgrade,
        ),
        (
            Rejection::method_not_allowed(&Method::POST),
            RejectionKind::MethodNotAllowed,
            405,
            Some("MethodNotAllowed"),
            &[("allow", "GET")],
        ),
        (
            Rejection::bad_request("x"),
            RejectionKind::BadRequest,
            400,
            Some("BadRequest"),
            &[],
        ),
        (
            Rejection::unauthorized("x"),
            RejectionKind::Unauthorized,
            401,
            Some("Unauthorized"),
            &[("www-authenticate", "Bearer")],
        ),
        (
            Rejection::unsupported_version(Some(b"8")),
            RejectionKind::UnsupportedVersion,
            426,
            None,
            &upgrade,
        ),
        (
            Rejection::no_common_subprotocol(&table, true),
            RejectionKind::NoCommonSubprotocol,
            403,
            Some("Forbidden"),
            &[],
        ),
        (
            Rejection::origin("not from there"),
            RejectionKind::Origin,
            403,
            Some("Forbidden"),
            &[],
        ),
        (
            Rejection::not_ready("slow"),
            RejectionKind::NotReady,
            504,
            Some("Timeout"),
            &[],
        ),
        (
            Rejection::overloaded(),
            RejectionKind::Overloaded,
            503,
            Some("ServiceUnavailable"),
            &[("retry-after", "1")],
        ),
        (
            Rejection::rate_limited(Duration::from_millis(1_001)),
            RejectionKind::RateLimited,
            429,
            Some("TooManyRequests"),
            &[("retry-after", "2")],
        ),
        (
            Rejection::session_limit(4),
            RejectionKind::SessionLimit,
            429,
            Some("TooManyRequests"),
            &[("retry-after", "1")],
        ),
        (
            Rejection::internal(),
            RejectionKind::Internal,
            500,
            Some("InternalError"),
            &[],
        ),
        (
            Rejection::config(&ConfigError::new("x")),
            RejectionKind::Config,
            500,
            Some("InternalError"),
            &[],
        ),
        (
            Rejection::new(StatusCode::CONFLICT, "busy"),
            RejectionKind::Custom,
            409,
            Some("Conflict"),
            &[],
        ),
    ];
    for (rejection, kind, code, reason, expected) in cases {
        assert_eq!(rejection.kind(), kind);
        let (status, json, headers) = answer(rejection).await;
        assert_eq!(status, code, "{kind:?}");
        assert_eq!(
            json.get("reason").and_then(|r| r.as_str()),
            reason,
            "{kind:?}"
        );
        assert_eq!(headers, owned(expected), "{kind:?}");
    }
}

#[test]
fn a_refused_subprotocol_is_told_what_is_spoken() {
    let message = |names: &[&'static str], offered| {
        Rejection::no_common_subprotocol(&table(names), offered)
            .message()
            .to_owned()
    };
    let both = message(&["", "v5.channel.k8s.io", "v4.channel.k8s.io"], true);
    assert!(both.ends_with("offer one of v5.channel.k8s.io, v4.channel.k8s.io, or none"));
    let none_offered = message(&["v4.channel.k8s.io"], false);
    assert!(none_offered.contains("none was offered"), "{none_offered}");
    assert!(
        none_offered.ends_with("offer one of v4.channel.k8s.io"),
        "{none_offered}"
    );
    assert!(message(&[""], true).ends_with("connect without one"));
    assert!(message(&[], true).contains("operator"));
    assert!(message(&[], false).contains("operator"));
}

#[test]
fn a_success_is_no_refusal() {
    for code in [100, 101, 200, 204, 299, 600, 999] {
        let status = StatusCode::from_u16(code).unwrap();
        assert_eq!(Rejection::new(status, "x").status(), 500);
    }
    for code in [300, 404, 418, 599] {
        let status = StatusCode::from_u16(code).unwrap();
        assert_eq!(Rejection::new(status, "x").status(), status);
    }
}

#[tokio::test]
async fn headers_are_added_and_the_bodys_stay_ours() {
    let rejection = Rejection::new(StatusCode::UNAUTHORIZED, "log in")
        .with_header(CONTENT_LENGTH, HeaderValue::from_static("9999"))
        .with_header(CONTENT_TYPE, HeaderValue::from_static("text/html"))
        .with_header(
            http::header::WWW_AUTHENTICATE,
            HeaderValue::from_static("Bearer"),
        );
    let (_, json, headers) = answer(rejection).await;
    assert_eq!(json["reason"], "Unauthorized");
    assert_eq!(headers, owned(&[("www-authenticate", "Bearer")]));
}

#[tokio::test]
async fn a_status_brings_the_headers_that_http_demands_with_it() {
    let upgrade = [
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("upgrade", "websocket"),
    ];
    for (code, expected) in [
        (401, &[("www-authenticate", "Bearer")][..]),
        (405, &[("allow", "GET")]),
        (407, &[("proxy-authenticate", "Bearer")]),
        (426, &upgrade),
        (403, &[]),
    ] {
        let status = StatusCode::from_u16(code).unwrap();
        let (_, _, headers) = answer(Rejection::new(status, "x")).await;
        assert_eq!(headers, owned(expected), "{code}");
        // An error of the service with that status has the same headers.
        let error = Status::failure("", "x", code);
        let (_, _, headers) = answer(Rejection::from_error(&error)).await;
        assert_eq!(headers, owned(expected), "{code}");
    }
    let basic = HeaderValue::from_static("Basic realm=\"x\"");
    let rejection = Rejection::new(StatusCode::UNAUTHORIZED, "x");
    let (_, _, headers) = answer(rejection.with_header(WWW_AUTHENTICATE, basic)).await;
    assert_eq!(headers, owned(&[("www-authenticate", "Basic realm=\"x\"")]));
}

#[derive(Debug)]
struct Wrapper(tower::BoxError);

impl fmt::Display for Wrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("password=hunter2")
    }
}

impl Error for Wrapper {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[test]
fn refusals_are_found_along_the_sources() {
    let wrap = |error: tower::BoxError| Wrapper(Box::new(Wrapper(error)));
    let own = Rejection::new(StatusCode::NOT_FOUND, "no such pod");
    let found = Rejection::from_error(&wrap(own.into()));
    assert_eq!(
        (found.status().as_u16(), found.message()),
        (404, "no such pod")
    );
    let found = Rejection::from_error(&wrap(Overloaded::new().into()));
    assert_eq!(found.kind(), RejectionKind::Overloaded);
    let found = Rejection::from_error(&wrap(Elapsed::new().into()));
    assert_eq!(found.kind(), RejectionKind::NotReady);
}

#[test]
fn an_unknown_error_is_not_shown_to_the_client() {
    let found = Rejection::from_error(&Wrapper("secret".into()));
    assert_eq!(found.kind(), RejectionKind::Internal);
    assert!(!found.message().contains("hunter2") && !found.message().contains("secret"));
}

#[test]
fn debug_shows_no_header_value() {
    let rejection = Rejection::new(StatusCode::FOUND, "elsewhere").with_header(
        http::header::SET_COOKIE,
        HeaderValue::from_static("s=hunter2"),
    );
    let debug = format!("{rejection:?}");
    assert!(
        debug.contains("set-cookie") && !debug.contains("hunter2"),
        "{debug}"
    );
}
