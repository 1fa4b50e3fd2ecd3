use std::{
    convert::Infallible,
    future::{Ready, ready},
};

use http::{Request, header::CONNECTION};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{UpgradeIntent, UpgradeIntentLayer};

fn request(upgrade: &str, offers: &str) -> Request<&'static str> {
    Request::get("/exec")
        .header("Connection", "keep-alive, Upgrade")
        .header("Upgrade", upgrade)
        .header("Sec-WebSocket-Protocol", offers)
        .body("the body")
        .unwrap()
}

/// Returns the intent's answers: upgrade, WebSocket, SPDY, stream close, tunnel.
fn told<B>(request: &Request<B>) -> [bool; 5] {
    let intent = UpgradeIntent::from_request(request);
    [
        intent.is_upgrade(),
        intent.is_websocket(),
        intent.is_spdy(),
        intent.offers_stream_close(),
        intent.offers_tunnel(),
    ]
}

#[test]
fn each_kind_of_upgrade_is_told_from_the_others() {
    let (v5, tunnel) = ("v5.channel.k8s.io", "SPDY/3.1+portforward.k8s.io");
    for (upgrade, offers, expected) in [
        (
            "websocket",
            "v4.channel.k8s.io",
            [true, true, false, false, false],
        ),
        ("WebSocket", v5, [true, true, false, true, false]),
        ("websocket", tunnel, [true, true, false, false, true]),
        ("SPDY/3.1", v5, [true, false, true, false, false]),
        ("SPDY/3.1, websocket", v5, [true, true, false, true, false]),
        ("h2c", v5, [true, false, false, false, false]),
        ("", v5, [false; 5]),
    ] {
        assert_eq!(
            told(&request(upgrade, offers)),
            expected,
            "{upgrade} {offers}"
        );
    }
    let both = request("websocket", &format!("{tunnel}, {v5}"));
    assert_eq!(told(&both), [true, true, false, true, true]);
    // HTTP/2 asks for another protocol by a CONNECT.
    let connect = Request::connect("pod:80").body(()).unwrap();
    assert_eq!(told(&connect), [true, false, false, false, false]);
    // Without its option in `Connection`, the `Upgrade` header asks for nothing.
    let mut no_option = request("SPDY/3.1", v5);
    no_option.headers_mut().remove(CONNECTION);
    assert_eq!(told(&no_option), [false; 5]);
}

#[tokio::test]
async fn every_request_passes_with_its_intent_and_none_of_its_own_choice() {
    fn echo<B>(request: Request<B>) -> Ready<Result<Request<B>, Infallible>> {
        ready(Ok(request))
    }
    for upgrade in ["websocket", ""] {
        let mut asked = request(upgrade, "x");
        let forged = UpgradeIntent::from_request(&request("h2c", ""));
        asked.extensions_mut().insert(forged);
        let expected = UpgradeIntent::from_request(&asked);
        let headers = asked.headers().clone();

        let service = UpgradeIntentLayer::new().layer(service_fn(echo));
        let passed = service.oneshot(asked).await.unwrap();
        assert_eq!(passed.extensions().get::<UpgradeIntent>(), Some(&expected));
        assert_eq!((passed.headers(), *passed.body()), (&headers, "the body"));
    }
}

#[test]
fn readiness_is_the_inner_services() {
    let (mock, mut handle) = tower_test::mock::pair::<Request<()>, ()>();
    let mut service = tokio_test::task::spawn(UpgradeIntentLayer::new().layer(mock));
    handle.allow(0);
    tokio_test::assert_pending!(service.enter(|cx, mut service| service.poll_ready(cx)));
    handle.allow(1);
    assert!(service.is_woken());
    tokio_test::assert_ready_ok!(service.enter(|cx, mut service| service.poll_ready(cx)));
}
