//! Refusals by the head of a request, or by the configuration.

use super::*;

const OFFERS_UPGRADE: [(&str, &str); 3] = [
    ("connection", "Upgrade"),
    ("sec-websocket-version", "13"),
    ("upgrade", "websocket"),
];

#[tokio::test(start_paused = true)]
async fn no_upgrade_is_426() {
    for head in [
        Head::plain("/"),
        Head::to("/").without("Connection"),
        Head::to("/").without("Upgrade"),
        Head::plain("/")
            .with("Connection", "Upgrade")
            .with("Upgrade", "SPDY/3.1"),
    ] {
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 426, RejectionKind::NotAnUpgrade).await;
        assert_eq!(sorted(&refusal.headers), OFFERS_UPGRADE);
        assert!(
            refusal.message.contains("WebSocket client"),
            "{}",
            refusal.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_upgrade_goes_to_the_fallback_whole() {
    let fallback = service_fn(async |request: Request<Incoming>| {
        assert_eq!(request.uri(), "/page");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let probe = Probe::default();
    let service = tower::Layer::layer(
        &WsStreamLayer::new(table()).fallback(fallback),
        Probe {
            counts: Arc::clone(&probe.counts),
        },
    );
    let head = Head::plain("/page")
        .line("POST /page HTTP/1.1")
        .with("Content-Length", "0");
    let (request, _wire) = hold(&head).await;
    let response = service.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.extensions().get::<Rejection>().is_none());
    assert_eq!(probe.asked()[1..], [0; 2]);

    // A bad upgrade is refused, and does not go to the fallback.
    let bad = Head::to("/page").without("Sec-WebSocket-Key");
    refused(service, &bad, 400, RejectionKind::BadRequest).await;
}

#[tokio::test(start_paused = true)]
async fn another_method_is_405() {
    for method in ["POST", "PUT", "HEAD", "DELETE", "OPTIONS"] {
        let head = Head::to("/").line(&format!("{method} / HTTP/1.1"));
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 405, RejectionKind::MethodNotAllowed).await;
        assert_eq!(sorted(&refusal.headers), [("allow", "GET")]);
        assert_eq!(refusal.reason, "MethodNotAllowed");
        let named = refusal.message.contains(&format!("and not {method}"));
        assert!(named, "{}", refusal.message);
    }
    let head = Head::to("/").line(&format!("{} / HTTP/1.1", "X".repeat(18)));
    let layer = WsStreamLayer::new(table());
    let refusal = refused_by_head(layer, &head, 405, RejectionKind::MethodNotAllowed).await;
    assert!(!refusal.message.contains('X'), "{}", refusal.message);
}

/// hyper would send `Connection: Upgrade, close` in the 101, which strict clients reject, when the
/// session has begun already.
#[tokio::test(start_paused = true)]
async fn a_handshake_that_closes_its_connection_is_400() {
    for lines in [
        &["close, Upgrade"][..],
        &["Upgrade, Close"],
        &["Upgrade", "close"],
    ] {
        let mut head = Head::to("/").without("Connection");
        for line in lines {
            head = head.with("Connection", line);
        }
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert!(
            refusal.message.contains("without close"),
            "{}",
            refusal.message
        );
    }
}

#[tokio::test(start_paused = true)]
async fn http_1_0_is_400() {
    let head = Head::to("/").line("GET / HTTP/1.0");
    let layer = WsStreamLayer::new(table());
    let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
    assert!(refusal.message.contains("HTTP/1.1"), "{}", refusal.message);
    assert_eq!(refusal.reason, "BadRequest");
}

#[tokio::test(start_paused = true)]
async fn a_bad_key_is_400() {
    let none = Head::to("/").without("Sec-WebSocket-Key");
    for head in [
        none.clone(),
        none.clone().with("Sec-WebSocket-Key", ""),
        none.clone().with("Sec-WebSocket-Key", "short"),
        none.clone()
            .with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAAA"),
        none.clone()
            .with("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25j_Q=="),
        Head::to("/").with("Sec-WebSocket-Key", KEY),
    ] {
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert!(
            refusal.message.contains("16 random bytes"),
            "{}",
            refusal.message
        );
        assert!(refusal.headers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn another_version_is_426_and_names_ours() {
    let none = Head::to("/").without("Sec-WebSocket-Version");
    let version = |version| none.clone().with("Sec-WebSocket-Version", version);
    for (head, named) in [
        (none.clone(), "version 13:"),
        (version("8"), "version 13, and not 8:"),
        (version("13, 8"), "version 13:"),
    ] {
        let layer = WsStreamLayer::new(table());
        let refusal = refused_by_head(layer, &head, 426, RejectionKind::UnsupportedVersion).await;
        assert_eq!(sorted(&refusal.headers), OFFERS_UPGRADE);
        assert!(refusal.message.contains(named), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_is_400() {
    for (name, value) in [("Content-Length", "5"), ("Transfer-Encoding", "chunked")] {
        let layer = WsStreamLayer::new(table());
        let head = Head::to("/").with(name, value);
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert!(refusal.message.contains("no body"), "{}", refusal.message);
    }
}

#[tokio::test(start_paused = true)]
async fn no_common_subprotocol_is_403_and_tells_ours_but_not_theirs() {
    let v4 = || {
        let config = tower_wsstream::ChannelProtocolConfig::new(
            tower_wsstream::Encoding::Binary,
            [ChannelType::Read],
        );
        let table = ChannelProtocols::builder().protocol("v4.channel.k8s.io", config);
        WsStreamLayer::new(table.build().unwrap())
    };
    let kind = RejectionKind::NoCommonSubprotocol;
    let refusal = refused_by_head(v4(), &Head::to("/"), 403, kind).await;
    assert!(
        refusal.message.contains("none was offered"),
        "{}",
        refusal.message
    );
    assert_eq!(refusal.reason, "Forbidden");

    for offered in [
        "V4.channel.k8s.io",
        "v5.channel.k8s.io, secret",
        "base64url.bearer.authorization.k8s.io.c2VjcmV0",
    ] {
        let refusal = refused_by_head(v4(), &Head::to("/").offer(offered), 403, kind).await;
        assert!(refusal.message.ends_with("offer one of v4.channel.k8s.io"));
        assert!(!refusal.message.contains("secret") && !refusal.message.contains("c2VjcmV0"));
        assert!(refusal.headers.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_origin_is_403() {
    const ALLOW: &str = "OriginPolicy::allow_list";
    const FORWARDED: &str = "OriginPolicy::forwarded_host";
    let same = OriginPolicy::same_origin;
    let list = || OriginPolicy::allow_list(["https://a.example"]).unwrap();
    let long = format!("https://{}.example", "x".repeat(300));
    for (origin, policy, named) in [
        (
            "http://elsewhere",
            same(),
            vec!["http://elsewhere", "localhost", ALLOW, FORWARDED],
        ),
        ("null", same(), vec!["null", "localhost", ALLOW, FORWARDED]),
        // As sent by a proxy that strips the port from the host.
        (
            "http://localhost:81",
            same(),
            vec!["http://localhost:81", "host localhost:"],
        ),
        (
            "https://u:hunter2@a.example/",
            same(),
            vec!["(unreadable)", "localhost"],
        ),
        (&long, same(), vec!["(too long)", "localhost"]),
        (
            "http://elsewhere",
            same().forwarded_host(),
            vec!["(unreadable) of X-Forwarded-Host"],
        ),
        ("http://elsewhere", list(), vec!["http://elsewhere", ALLOW]),
        (
            "http://elsewhere",
            OriginPolicy::predicate(|_, _| false),
            vec!["http://elsewhere"],
        ),
    ] {
        let layer = WsStreamLayer::new(table()).config(SessionConfig::default().origin(policy));
        let head = Head::to("/").with("Origin", origin);
        let refusal = refused_by_head(layer, &head, 403, RejectionKind::Origin).await;
        assert_eq!(refusal.reason, "Forbidden");
        let message = refusal.message;
        assert!(named.iter().all(|part| message.contains(part)), "{message}");
        assert!(
            !message.contains("hunter2") && message.len() < 600,
            "{message}"
        );
    }
    let twice = Head::to("/")
        .with("Origin", "http://localhost")
        .with("Origin", "http://b");
    let refusal = refused_by_head(
        WsStreamLayer::new(table()),
        &twice,
        403,
        RejectionKind::Origin,
    );
    assert!(
        refusal
            .await
            .message
            .contains("more than one Origin header")
    );
    // The same origin passes to the next check, and so does any origin if that is configured.
    let same = Head::to("/").with("Origin", "http://localhost").offer("x");
    let layer = WsStreamLayer::new(table());
    refused_by_head(layer, &same, 403, RejectionKind::NoCommonSubprotocol).await;
    let any = Head::to("/").with("Origin", "null").offer("x");
    let layer =
        WsStreamLayer::new(table()).config(SessionConfig::default().origin(OriginPolicy::any()));
    refused_by_head(layer, &any, 403, RejectionKind::NoCommonSubprotocol).await;
}

#[tokio::test(start_paused = true)]
async fn options_of_remotecommand_that_make_no_sense_are_400() {
    for query in [
        "/exec",
        "/exec?command=ls",
        "/exec?stdout=false&command=ls",
        "/exec?tty=1&stderr=1",
        "/exec?stdout=1&command=%zz",
        "/exec?stdout=1&container=%ff",
    ] {
        let layer = WsStreamLayer::new(remotecommand::Protocols::default());
        let head = Head::to(query).offer("v5.channel.k8s.io");
        let refusal = refused_by_head(layer, &head, 400, RejectionKind::BadRequest).await;
        assert_eq!(refusal.reason, "BadRequest");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_protocol_source_is_the_answer() {
    let layer = WsStreamLayer::new(|head: &http::request::Parts| {
        Err(Rejection::new(
            StatusCode::NOT_FOUND,
            format!("no pod at {}", head.uri.path()),
        ))
    });
    let refusal = refused_by_head(layer, &Head::to("/web"), 404, RejectionKind::Custom).await;
    assert_eq!(
        (&*refusal.message, &*refusal.reason),
        ("no pod at /web", "NotFound")
    );
}

// By the configuration.

#[tokio::test(start_paused = true)]
async fn invalid_limits_are_500_that_names_the_knob() {
    let limits = Limits::default();
    for (limits, knob) in [
        (limits.receive_window(0), "Limits::receive_window"),
        (limits.send_budget(0), "Limits::send_budget"),
        (limits.high_water(0), "Limits::high_water"),
        (limits.max_frame(0), "Limits::max_frame"),
    ] {
        let layer = WsStreamLayer::new(table()).limits(limits);
        let error = layer.check().unwrap_err().to_string();
        assert!(error.contains(knob), "{error}");
        let refusal =
            refused_by_head(layer.clone(), &Head::to("/"), 500, RejectionKind::Config).await;
        assert!(refusal.message.contains(&error), "{}", refusal.message);
        assert_eq!(refusal.reason, "InternalError");
        // A request that is not an upgrade is not affected.
        refused_by_head(layer, &Head::plain("/"), 426, RejectionKind::NotAnUpgrade).await;
    }
    assert!(WsStreamLayer::new(table()).limits(limits).check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_without_upgrades_is_500_that_says_so() {
    let (mut request, _wire) = hold(&Head::to("/")).await;
    request.extensions_mut().clear();
    let service = WsStreamLayer::new(table()).layer_on(Probe::default());
    let before = tasks();
    let response = service.oneshot(request).await.unwrap();
    assert_eq!(tasks(), before);
    let refusal = refusal(response, 500, RejectionKind::Config).await;
    assert!(
        refusal.message.contains("upgrades enabled"),
        "{}",
        refusal.message
    );
}
