//! Clients for which the layer of exec and attach holds output, and the choice of the user.

use std::time::Duration;

use http::{header::USER_AGENT, request::Parts};
use tokio::{io::AsyncWriteExt, time::Instant};
use tower::{Layer, ServiceBuilder};
use tower_wsstream::{
    BoxError, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer, hold_by_user_agent},
    session::Hold,
    subprotocols,
    testing::Connect,
};

const OLD: &str = "kubectl/v1.33.1 (linux/amd64) kubernetes/8adc0f0";
const NEW: &str = "kubectl/v1.34.1 (linux/amd64) kubernetes/93248f9";

async fn greet(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let stdout = command.stdout.as_mut().ok_or("no stdout")?;
    stdout.write_all(b"hello").await?;
    Ok(ExitStatus::from_code(3))
}

/// Runs a session, checks that nothing is lost, and returns how long it took.
async fn time(layer: RemoteCommandLayer, agent: Option<&str>) -> Duration {
    let sessions = ServiceBuilder::new().layer(layer).service_fn(greet);
    let service = WsStreamLayer::new(Protocols::default()).layer(sessions);
    let mut connect = Connect::to("/?command=x&stdout=1").offer(subprotocols::V5);
    if let Some(agent) = agent {
        connect = connect.header(USER_AGENT, agent);
    }
    let start = Instant::now();
    let transcript = connect.connect(service).await.unwrap().read_to_end().await;
    assert_eq!(transcript.channel(1), b"hello");
    assert_eq!(transcript.exit_code(), Some(3));
    start.elapsed()
}

/// tokio's timers are up to a millisecond late.
fn is_held(time: Duration) -> bool {
    let held = time >= Duration::from_millis(20) && time < Duration::from_millis(25);
    assert!(held || time < Duration::from_millis(5), "{time:?}");
    held
}

#[tokio::test(start_paused = true)]
async fn kubectl_up_to_1_33_and_unknown_clients_are_waited_for() {
    for agent in [
        OLD,
        "kubectl/v1.29.15 (linux/amd64) kubernetes/0d0f172",
        "program/v2.0.0 (linux/amd64) kubernetes/93248f9",
        "Go-http-client/1.1",
        "curl/8.5.0",
        "",
    ] {
        assert!(
            is_held(time(RemoteCommandLayer::new(), Some(agent)).await),
            "{agent:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_are_ready_are_not_waited_for() {
    for agent in [
        None,
        Some(NEW),
        Some("Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0.0.0"),
        Some("Python/3.11 websockets/17.4"),
    ] {
        assert!(
            !is_held(time(RemoteCommandLayer::new(), agent).await),
            "{agent:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_choice_is_the_users() {
    let none = || RemoteCommandLayer::new().hold(|_| None);
    let all = || RemoteCommandLayer::new().hold(|_| Some(Hold::default()));
    assert!(!is_held(time(none(), Some(OLD)).await));
    assert!(is_held(time(all(), None).await));

    fn ours_is_ready(head: &Parts) -> Option<Hold> {
        match head.headers.get(USER_AGENT) {
            Some(agent) if agent == "ours/1" => None,
            _ => hold_by_user_agent(head),
        }
    }
    let ours = || RemoteCommandLayer::new().hold(ours_is_ready);
    assert!(!is_held(time(ours(), Some("ours/1")).await));
    assert!(is_held(time(ours(), Some(OLD)).await));
    assert!(!is_held(time(ours(), Some(NEW)).await));

    let longer = Hold::until_peer_reads(Duration::from_millis(70), Duration::from_secs(1));
    let longer = RemoteCommandLayer::new().hold(move |_| Some(longer));
    let time = time(longer, None).await;
    assert!(time >= Duration::from_millis(70) && time < Duration::from_millis(75));
}

#[tokio::test(start_paused = true)]
async fn a_choice_that_panics_holds() {
    let layer = RemoteCommandLayer::new().hold(|_| panic!("on purpose"));
    assert!(is_held(time(layer, None).await));
}
