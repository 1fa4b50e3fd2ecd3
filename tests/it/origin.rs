//! Origins that may connect, as set by the layer, for a route or for a request.

use http::{HeaderValue, Request};
use hyper::body::Incoming;
use tower::{Layer, ServiceBuilder, ServiceExt};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, RejectionKind, SessionConfig, WsStream,
    WsStreamLayer,
    policy::{OriginPolicy, PolicyLayer},
};

use crate::support::{Head, hold, refused};

async fn session(_: ChannelSet) -> Result<(), BoxError> {
    Ok(())
}

fn layer() -> WsStreamLayer {
    WsStreamLayer::new(ChannelProtocols::standard([ChannelType::Write]).unwrap())
}

fn only(origin: &str) -> OriginPolicy {
    OriginPolicy::allow_list([origin]).unwrap()
}

/// Checks whether a page of this origin gets a 101.
macro_rules! lets_in {
    ($service:expr, $origin:expr) => {
        lets_in!($service, Head::to("/").with("Origin", $origin), with)
    };
    ($service:expr, $head:expr, with) => {{
        let (request, _wire) = hold(&$head).await;
        let response = $service.clone().oneshot(request).await.unwrap();
        match response.status().as_u16() {
            101 => true,
            403 => false,
            other => panic!("{other}"),
        }
    }};
}

#[tokio::test(start_paused = true)]
async fn a_list_decides_for_the_layer() {
    let service = layer()
        .config(SessionConfig::default().origin(only("https://*.a.example")))
        .layer(tower::service_fn(session));
    assert!(lets_in!(service, "https://b.a.example"));
    assert!(!lets_in!(service, "https://a.example"));
    assert!(!lets_in!(service, "http://localhost"));
    assert!(lets_in!(service, Head::to("/"), with));
    let head = Head::to("/").with("Origin", "http://elsewhere");
    let refusal = refused(service, &head, 403, RejectionKind::Origin).await;
    assert_eq!(refusal.reason, "Forbidden");
    // The refusal names the page, but not the origins that are allowed.
    let message = refusal.message;
    assert!(
        message.contains("http://elsewhere") && !message.contains("a.example"),
        "{message}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_policy_of_the_request_goes_before_the_layers_and_the_innermost_counts() {
    let own = layer().layer(tower::service_fn(session));
    let (page, other) = ("https://a.example", "https://b.example");

    let route = PolicyLayer::new(only(page)).layer(own.clone());
    assert!(lets_in!(route, page));
    assert!(!lets_in!(route, "http://localhost"));

    let stricter = PolicyLayer::new(OriginPolicy::same_origin()).layer(
        layer()
            .config(SessionConfig::default().origin(OriginPolicy::any()))
            .layer(tower::service_fn(session)),
    );
    assert!(!lets_in!(stricter, page));

    let two = ServiceBuilder::new()
        .layer(PolicyLayer::new(only(other)))
        .layer(PolicyLayer::new(only(page)))
        .service(own.clone());
    assert!(lets_in!(two, page));
    assert!(!lets_in!(two, other));

    let by_request = ServiceBuilder::new()
        .layer(PolicyLayer::new(only(other)))
        .map_request(|mut request: Request<Incoming>| {
            if request.uri().path() == "/open" {
                request.extensions_mut().insert(OriginPolicy::any());
            }
            request
        })
        .service(own);
    let open = Head::to("/open").with("Origin", page);
    assert!(lets_in!(by_request, open, with));
    assert!(!lets_in!(by_request, page));
    assert!(lets_in!(by_request, other));
}

#[tokio::test(start_paused = true)]
async fn behind_a_proxy_that_rewrites_host_the_forwarded_one_counts_if_asked_for() {
    let of = |policy: OriginPolicy| {
        layer()
            .config(SessionConfig::default().origin(policy))
            .layer(tower::service_fn(session))
    };
    let head = Head::to("/")
        .with("Origin", "https://a.example")
        .with("X-Forwarded-Host", "a.example");
    let plain = of(OriginPolicy::same_origin());
    assert!(!lets_in!(plain, head, with));
    let behind = of(OriginPolicy::same_origin().forwarded_host());
    assert!(lets_in!(behind, head, with));
    let twice = head.with("X-Forwarded-Host", "a.example");
    assert!(!lets_in!(behind, twice, with));
}

#[tokio::test(start_paused = true)]
async fn a_predicate_reads_what_outer_layers_have_found() {
    #[derive(Clone)]
    struct Console(&'static str);

    let policy = OriginPolicy::predicate(|origin: &HeaderValue, head| {
        let console = head.extensions.get::<Console>();
        console.is_some_and(|console| origin == console.0)
    });
    let service = ServiceBuilder::new()
        .map_request(|mut request: Request<Incoming>| {
            request
                .extensions_mut()
                .insert(Console("https://a.example"));
            request
        })
        .layer(layer().config(SessionConfig::default().origin(policy)))
        .service_fn(session);
    assert!(lets_in!(service, "https://a.example"));
    assert!(!lets_in!(service, "https://b.example"));
}

#[tokio::test(start_paused = true)]
async fn a_predicate_that_panics_is_a_500_and_no_session() {
    let policy = OriginPolicy::predicate(|_, _| panic!("broken"));
    let service: WsStream<_> = layer()
        .config(SessionConfig::default().origin(policy))
        .layer(tower::service_fn(session));
    let head = Head::to("/").with("Origin", "https://a.example");
    refused(service, &head, 500, RejectionKind::Internal).await;
}

#[tokio::test(start_paused = true)]
async fn report_only_lets_everybody_in() {
    let policy = only("https://a.example").report_only();
    let service = layer()
        .config(SessionConfig::default().origin(policy))
        .layer(tower::service_fn(session));
    for origin in ["https://a.example", "https://b.example", "null", ""] {
        assert!(lets_in!(service, origin), "{origin}");
    }
}
