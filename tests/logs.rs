//! What nobody may find in a log. Alone in its program: `tracing` remembers for
//! all threads whether anybody listens.
#![cfg(all(feature = "remotecommand", feature = "testing"))]

use std::{
    io,
    sync::{Arc, Mutex},
};

use http::header::AUTHORIZATION;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, WsStreamLayer,
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::Connect,
};

const TOKEN: &str = "c2VjcmV0LXRva2Vu";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn logs_show_no_credential_argument_or_payload() -> Result<(), BoxError> {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |mut command: RemoteCommand| {
            let mut all = Vec::new();
            command.stdin.take().unwrap().read_to_end(&mut all).await?;
            command.stdout.take().unwrap().write_all(&all).await?;
            Ok::<_, BoxError>(ExitStatus::code(3))
        });
    let target = format!("/exec?command=login&command={TOKEN}&stdin=1&stdout=1");
    let connect = Connect::to(target)
        .offer(format!("base64url.bearer.authorization.k8s.io.{TOKEN}"))
        .header(AUTHORIZATION, format!("Bearer {TOKEN}"));
    let accepted = connect.clone().offer(subprotocols::V5);
    let mut client = accepted.connect(service.clone()).await?;
    client.send(0, TOKEN.as_bytes()).await?;
    // On no channel at all.
    client.send(9, TOKEN.as_bytes()).await?;
    client.close_channel(0).await?;
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.exit_code(), Some(3));
    connect.connect(service).await.unwrap_err();

    let log = String::from_utf8(log.0.lock().unwrap().clone())?;
    let events = ["upgrade refused", "session over", "the session ends"];
    assert!(events.iter().all(|event| log.contains(event)), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
    Ok(())
}
