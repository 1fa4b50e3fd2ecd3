//! Events that are logged, and secrets that are not.

use http::header::{AUTHORIZATION, COOKIE, ORIGIN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, SessionConfig, WsStreamLayer,
    policy::OriginPolicy,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::Connect,
};

use crate::support::{TOKEN, logs};

#[tokio::test(start_paused = true)]
async fn logs_show_no_credential_argument_or_payload() -> Result<(), BoxError> {
    logs::capture();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |mut command: RemoteCommand| {
            let mut all = Vec::new();
            command.stdin.take().unwrap().read_to_end(&mut all).await?;
            command.stdout.take().unwrap().write_all(&all).await?;
            Ok::<_, BoxError>(ExitStatus::from_code(3))
        });
    let target = format!("/exec?command=login&command={TOKEN}&stdin=1&stdout=1");
    let connect = Connect::to(target)
        .offer(format!("base64url.bearer.authorization.k8s.io.{TOKEN}"))
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"));
    let accepted = connect.clone().offer(subprotocols::V5);
    let mut client = accepted.connect(service.clone()).await?;
    client.send(0, TOKEN.as_bytes()).await?;
    // For a channel that does not exist.
    client.send(9, TOKEN.as_bytes()).await?;
    client.close_channel(0).await?;
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.exit_code(), Some(3));
    connect.connect(service).await.unwrap_err();

    let log = logs::captured();
    let events = ["upgrade refused", "session over", "the session ends"];
    assert!(events.iter().all(|event| log.contains(event)), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_trial_of_an_origin_policy_logs_the_page_and_no_credential() -> Result<(), BoxError> {
    logs::capture();
    let service = ServiceBuilder::new()
        .layer(
            WsStreamLayer::new(Protocols::default())
                .config(SessionConfig::default().origin(OriginPolicy::same_origin().report_only())),
        )
        .layer(RemoteCommandLayer::new())
        .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
    let secret = "aHVudGVyMg";
    let connect = Connect::to(format!("/exec?command={secret}&stdout=1"))
        .offer(subprotocols::V5)
        .offer(format!("base64url.bearer.authorization.k8s.io.{secret}"))
        .header(AUTHORIZATION, format!("Bearer {secret}"))
        .header(COOKIE, format!("session={secret}"));
    for origin in [
        "http://localhost".to_owned(),
        "https://trial.example:8443".to_owned(),
        format!("https://me:{secret}@trial.example"),
        format!("https://trial.example/{secret}"),
    ] {
        let connect = connect.clone().header(ORIGIN, origin);
        let client = connect.connect(service.clone()).await?;
        assert_eq!(client.read_to_end().await.close_code, Some(1000));
    }

    let log = logs::captured();
    let reports: Vec<_> = log
        .lines()
        .filter(|line| line.contains("report_only"))
        .collect();
    assert_eq!(reports.len(), 3, "{log}");
    assert!(reports.iter().all(|line| line.contains("WARN")), "{log}");
    assert!(
        reports[0].contains("https://trial.example:8443") && reports[0].contains("localhost"),
        "{log}"
    );
    assert!(!log.contains(secret), "{log}");
    Ok(())
}

/// The operator of a proxy in front sees from the log in what they differ.
#[tokio::test(start_paused = true)]
async fn a_page_that_is_refused_is_named_beside_the_host_it_asked() -> Result<(), BoxError> {
    logs::capture();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |_: RemoteCommand| Ok::<_, BoxError>(ExitStatus::success()));
    let connect = Connect::to("/exec?command=x&stdout=1")
        .offer(subprotocols::V5)
        .header(ORIGIN, "https://localhost:30443");
    connect.connect(service).await.unwrap_err();
    let log = logs::captured();
    let refusal = log
        .lines()
        .find(|line| line.contains("https://localhost:30443"));
    let refusal = refusal.expect("an event");
    assert!(
        refusal.contains("DEBUG") && refusal.contains("the host localhost:"),
        "{refusal}"
    );
    assert!(
        refusal.contains("OriginPolicy::forwarded_host"),
        "{refusal}"
    );
    Ok(())
}

/// The client of such a session sees only a close code, so the log is the only place that shows the
/// error.
#[tokio::test(start_paused = true)]
async fn the_error_of_a_session_is_logged_whenever_it_comes() -> Result<(), BoxError> {
    logs::capture();
    let channels = [ChannelType::Read, ChannelType::Write];
    let protocols = ChannelProtocols::standard(channels)?;
    for (waits, error) in [(false, "in its first poll"), (true, "in a later poll")] {
        let service = ServiceBuilder::new()
            .layer(WsStreamLayer::new(protocols.clone()))
            .service_fn(move |mut set: ChannelSet| async move {
                let mut output = set.take_writer(1).unwrap();
                output.write_all(b"so far").await?;
                if waits {
                    tokio::task::yield_now().await;
                }
                Err::<(), BoxError>(error.into())
            });
        let client = Connect::to("/").connect(service).await?;
        assert_eq!(client.read_to_end().await.close_code, Some(1011));
        let log = logs::captured();
        let line = log.lines().find(|line| line.contains(error));
        assert!(line.is_some_and(|line| line.contains("ERROR")), "{log}");
    }
    Ok(())
}
