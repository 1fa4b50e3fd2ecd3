//! The extractor in handlers of axum.

use ::axum::{
    Router,
    extract::{FromRequestParts, State},
    response::Response,
    routing::any,
};
use hyper::upgrade::OnUpgrade;
use tower_wsstream::{AcceptMode, Rejection, SessionConfig, Sessions, axum08::WsStreamUpgrade};

use super::*;

fn app(layer: WsStreamLayer) -> Router {
    async fn accept(State(layer): State<WsStreamLayer>, upgrade: WsStreamUpgrade) -> Response {
        upgrade.layer(&layer).on_upgrade(echo).await
    }
    async fn look_up(State(layer): State<WsStreamLayer>, upgrade: WsStreamUpgrade) -> Response {
        let nobody = async |_: ChannelSet| {
            sleep(secs(1)).await;
            Err::<(), BoxError>(Rejection::new(StatusCode::NOT_FOUND, "no such pod").into())
        };
        upgrade.layer(&layer).on_upgrade(nobody).await
    }
    async fn forget(upgrade: WsStreamUpgrade) -> Response {
        upgrade.on_upgrade(echo).await
    }
    async fn decline(_upgrade: WsStreamUpgrade) -> &'static str {
        "a page"
    }
    Router::new()
        .route("/accept", any(accept))
        .route("/look-up", any(look_up))
        .route("/forget", any(forget))
        .route("/decline", any(decline))
        .with_state(layer)
}

#[tokio::test(start_paused = true)]
async fn a_handlers_session_is_one_of_its_layers() {
    let sessions = Sessions::default();
    let app = app(standard().sessions(sessions.clone()));
    let mut client = soon(Connect::to("/accept").connect(app)).await.unwrap();
    hears_its_echo(&mut client).await;
    assert_eq!(sessions.len(), 1);
    finish(client).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_refuses_is_an_answer() {
    let explicit = standard().config(SessionConfig::default().accept(AcceptMode::Explicit));
    let answer = refused_by(Connect::to("/look-up"), app(explicit)).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let answer = refused_by(Connect::to("/decline"), app(standard())).await;
    assert_eq!(
        (answer.status(), answer.body()),
        (StatusCode::OK, &b"a page"[..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_names_no_subprotocols_is_told_so() {
    let answer = refused_by(Connect::to("/forget"), app(standard())).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let told = answer.refusal().unwrap();
    assert!(
        told.message()
            .unwrap()
            .contains("WsStreamUpgrade::protocols"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_upgrade_never_reaches_the_handler() {
    let (request, _wire) = hold(&Head::plain("/decline")).await;
    let answer = app(standard()).oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UPGRADE_REQUIRED);
}

/// A handler that takes a `Result` from the extractor can serve SPDY itself.
#[tokio::test(start_paused = true)]
async fn an_upgrade_of_another_kind_stays_for_the_handler() {
    for (upgrade, refused) in [("SPDY/3.1", true), ("websocket", false)] {
        let head = Head::plain("/")
            .with("Connection", "Upgrade")
            .with("Upgrade", upgrade);
        let (request, _wire) = hold(&head).await;
        let (mut parts, _body) = request.into_parts();
        let extracted = WsStreamUpgrade::from_request_parts(&mut parts, &()).await;
        assert_eq!(extracted.is_err(), refused, "{upgrade}");
        let left = parts.extensions.get::<OnUpgrade>();
        assert_eq!(left.is_some(), refused, "{upgrade}");
    }
}

#[test]
fn an_upgrade_can_be_held_across_an_await() {
    assert_eq!(types::traits!(WsStreamUpgrade), "Send Sync Unpin");
}
