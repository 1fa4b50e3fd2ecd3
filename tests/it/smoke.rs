//! The shortest way through the whole crate: a command, a client, an exit code.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceBuilder;
use tower_wsstream::{remotecommand::*, testing::Connect, *};

#[tokio::test(start_paused = true)]
async fn echo_all() -> Result<(), BoxError> {
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()))
        .layer(RemoteCommandLayer::new())
        .service_fn(async |mut c: RemoteCommand| {
            let mut all = Vec::new();
            c.stdin.take().unwrap().read_to_end(&mut all).await?;
            c.stdout.take().unwrap().write_all(&all).await?;
            Ok::<_, BoxError>(ExitStatus::from_code(3))
        });
    for n in [0, 10, 100_000, 1_000_000] {
        let mut client = Connect::to("/exec?command=false&stdin=true&stdout=true")
            .offer(subprotocols::V5)
            .connect(service.clone())
            .await?;
        for piece in vec![7; n].chunks(30_000) {
            client.send(0, piece).await?;
        }
        client.close_channel(0).await?;
        let transcript = client.read_to_end().await;
        assert_eq!(transcript.channel(1).len(), n);
        assert_eq!(transcript.exit_code(), Some(3));
        assert_eq!(transcript.close_code, Some(1000));
    }
    Ok(())
}
