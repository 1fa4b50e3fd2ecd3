//! Terminal sizes, on the resize channel of each subprotocol.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, time::timeout};
use tower::{Layer, ServiceBuilder};
use tower_wsstream::{
    BoxError, WsStreamLayer,
    remotecommand::{
        ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer,
        channel::{ERROR, RESIZE},
    },
    subprotocols,
    testing::{Client, Connect, Received},
};

/// Prints each size until it receives 1x1.
async fn sizes(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let mut stdout = command.stdout.take().ok_or("no stdout")?;
    let mut sizes = command.resize.take().ok_or("no terminal")?;
    while let Some(size) = sizes.next().await {
        let size = size.to_string();
        stdout.write_all(size.as_bytes()).await?;
        stdout.flush().await?;
        if size == "1x1" {
            return Ok(ExitStatus::success());
        }
    }
    Err("no more sizes".into())
}

async fn connect(subprotocol: &str, query: &str) -> Client {
    let sessions = ServiceBuilder::new()
        .layer(RemoteCommandLayer::new())
        .service_fn(sizes);
    let service = WsStreamLayer::new(Protocols::default()).layer(sessions);
    let connect = Connect::to(format!("/?command=x&{query}")).offer(subprotocol);
    connect.connect(service).await.unwrap()
}

async fn resize(client: &mut Client, channel: u8, width: u16, height: u16) {
    let size = format!(r#"{{"Width":{width},"Height":{height}}}"#);
    client.send(channel, size.as_bytes()).await.unwrap();
}

async fn printed(client: &mut Client) -> String {
    loop {
        let next = timeout(Duration::from_secs(60), client.receive());
        match next.await.expect("the size is printed") {
            Received::Message(_, payload) if payload.is_empty() => {}
            Received::Message(1, payload) => {
                return String::from_utf8(payload.to_vec()).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn on_v3_a_size_on_channel_3_is_one() {
    let mut client = connect(subprotocols::V3, "stdin=1&stdout=1&tty=1").await;
    for (channel, width) in [(ERROR, 80), (RESIZE, 81), (ERROR, 82)] {
        resize(&mut client, channel, width, 24).await;
        assert_eq!(
            printed(&mut client).await,
            format!("{width}x24"),
            "{channel}"
        );
    }
    // A message that is not a size ends only the stream of sizes.
    client.send(ERROR, b"no size").await.unwrap();
    resize(&mut client, ERROR, 83, 24).await;
    resize(&mut client, RESIZE, 1, 1).await;
    assert_eq!(printed(&mut client).await, "1x1");
    // On v3, success is silence.
    let transcript = client.read_to_end().await;
    assert_eq!(transcript.channel(ERROR), b"");
}

#[tokio::test(start_paused = true)]
async fn elsewhere_channel_3_carries_no_sizes() {
    for subprotocol in [
        subprotocols::V5,
        subprotocols::V4,
        subprotocols::V2,
        subprotocols::CHANNEL,
    ] {
        let mut client = connect(subprotocol, "stdin=1&stdout=1&tty=1").await;
        resize(&mut client, ERROR, 80, 24).await;
        resize(&mut client, RESIZE, 1, 1).await;
        assert_eq!(printed(&mut client).await, "1x1", "{subprotocol}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_terminal_there_are_no_sizes_on_v3() {
    let mut client = connect(subprotocols::V3, "stdin=1&stdout=1").await;
    for channel in [ERROR, RESIZE] {
        resize(&mut client, channel, 80, 24).await;
    }
    let transcript = client.read_to_end().await;
    let told = String::from_utf8(transcript.channel(ERROR)).unwrap();
    assert!(told.contains("no terminal"), "{told}");
}
