//! The head of a request for SPDY, and its answer.

use tower::ServiceExt;
use tower_wsstream::{ChannelProtocols, ChannelType, Rejection};

use super::*;

async fn refused_head(head: &Head, status: u16, kind: RejectionKind) -> crate::support::Refusal {
    refused(layer().layer(Kept::default().service()), head, status, kind).await
}

#[tokio::test(start_paused = true)]
async fn the_first_offered_protocol_of_ours_is_accepted() {
    for (offers, selected) in [
        (&CLIENT_GO[..], "v4.channel.k8s.io"),
        (
            &["v2.channel.k8s.io", "v4.channel.k8s.io"],
            "v2.channel.k8s.io",
        ),
        (&["x, channel.k8s.io"], "channel.k8s.io"),
    ] {
        for method in ["POST", "GET"] {
            let kept = Kept::default();
            let service = layer().layer(kept.service());
            let head = post(offers).line(&format!("{method} {EXEC} HTTP/1.1"));
            let (request, wire) = hold(&head).await;
            let response = service.oneshot(request).await.unwrap();
            assert_eq!(response.status(), 101);
            assert_eq!(
                sorted(response.headers()),
                [
                    ("connection", "Upgrade"),
                    ("upgrade", "SPDY/3.1"),
                    ("x-stream-protocol-version", selected),
                ]
            );
            let set = kept.take();
            assert_eq!(set.subprotocol(), selected);
            assert_eq!(set.request().unwrap().uri, EXEC);
            assert!(set.config().supports_half_close());
            drop(wire);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_offer_it_is_400() {
    for offers in [&[][..], &[", ,"]] {
        let told = refused_head(&post(offers), 400, RejectionKind::BadRequest).await;
        assert!(
            told.message.contains("X-Stream-Protocol-Version"),
            "{told:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn no_common_protocol_is_403_with_those_that_are_accepted() {
    // v5 is never accepted over SPDY, nor are the names that need a WebSocket.
    let offers = [
        "v5.channel.k8s.io, base64.channel.k8s.io",
        "v4.base64.channel.k8s.io",
    ];
    let told = refused_head(&post(&offers), 403, RejectionKind::NoCommonSubprotocol).await;
    let accepted = told.headers.get_all("x-accepted-stream-protocol-versions");
    assert_eq!(accepted.iter().collect::<Vec<_>>(), CLIENT_GO[1..]);
    assert_eq!(told.headers.len(), CLIENT_GO.len() - 1, "nothing else");
    assert_eq!(told.reason, "Forbidden");
}

#[tokio::test(start_paused = true)]
async fn a_table_without_streams_is_403() {
    let table = ChannelProtocols::standard([ChannelType::Read]).unwrap();
    let layer = StreamingLayer::new(table).spdy_only();
    let service = layer.layer(Kept::default().service());
    let head = post(&["channel.k8s.io"]);
    let told = refused(service, &head, 403, RejectionKind::NoCommonSubprotocol).await;
    assert!(told.message.contains("connect with WebSocket"), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_invalid_handshake_is_refused_and_never_passed_on() {
    let good = post(&CLIENT_GO);
    for (head, status, kind) in [
        (
            good.clone().line("PUT / HTTP/1.1"),
            405,
            RejectionKind::MethodNotAllowed,
        ),
        (
            good.clone().line("POST / HTTP/1.0"),
            400,
            RejectionKind::BadRequest,
        ),
        (
            good.clone().with("Connection", "close"),
            400,
            RejectionKind::BadRequest,
        ),
        (
            good.clone()
                .without("Content-Length")
                .with("Content-Length", "1"),
            400,
            RejectionKind::BadRequest,
        ),
        (
            good.clone()
                .without("Content-Length")
                .with("Transfer-Encoding", "chunked"),
            400,
            RejectionKind::BadRequest,
        ),
        (
            good.clone().with("Origin", "http://evil.example"),
            403,
            RejectionKind::Origin,
        ),
        // The query asks for no stream.
        (
            good.line("POST /exec?command=ls HTTP/1.1"),
            400,
            RejectionKind::BadRequest,
        ),
    ] {
        let told = refused_head(&head, status, kind).await;
        if status == 405 {
            assert_eq!(sorted(&told.headers), [("allow", "GET, POST")]);
            assert!(told.message.ends_with("and not PUT"), "{told:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_ask_for_spdy_is_426() {
    let good = post(&CLIENT_GO);
    for head in [
        Head::plain("/"),
        Head::to("/"),
        good.clone().without("Connection"),
        good.clone().without("Upgrade"),
        // A client that names both gets a WebSocket, where there is one.
        good.without("Upgrade")
            .with("Upgrade", "SPDY/3.1, websocket"),
    ] {
        let told = refused_head(&head, 426, RejectionKind::NotAnUpgrade).await;
        assert_eq!(
            sorted(&told.headers),
            [("connection", "Upgrade"), ("upgrade", "SPDY/3.1")]
        );
    }
}

/// A failure in the first poll is the answer to the POST.
#[tokio::test(start_paused = true)]
async fn a_service_can_refuse_a_post() {
    let service = layer().layer(tower::service_fn(async |_: ChannelSet| {
        let refusal = Rejection::new(http::StatusCode::NOT_FOUND, "no such container");
        Err::<(), BoxError>(refusal.into())
    }));
    let told = refused(service, &post(&CLIENT_GO), 404, RejectionKind::Custom).await;
    assert_eq!(told.message, "no such container");
}
