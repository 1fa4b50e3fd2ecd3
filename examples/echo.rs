//! The smallest server: it sends the data of channel 0 back on channel 1.
//!
//!     cargo run --example echo
//!
//! Then, in another terminal:
//!
//!     curl -i http://127.0.0.1:8003/          426: this is not an upgrade
//!     npx wscat -s base64.channel.k8s.io -c ws://127.0.0.1:8003
//!
//! Type `0aGVsbG8=` ("hello" on channel 0): `1aGVsbG8=` ("hello" on channel 1) comes back. A
//! client that offers `channel.k8s.io` sends binary messages, whose first byte is the channel.
//! Ctrl-C ends the sessions with close code 1001, and then the server.

#[path = "support/serve.rs"]
mod serve;

use tokio::{io::AsyncWriteExt, net::TcpListener, signal::ctrl_c};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, Sessions, WsStreamLayer,
};

async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("no readable channel 0")?;
    let mut output = channels.take_writer(1).ok_or("no writable channel 1")?;
    tokio::io::copy_buf(&mut input, &mut output).await?;
    output.shutdown().await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
    let sessions = Sessions::default();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols).sessions(sessions.clone()))
        .service_fn(echo);
    let listener = TcpListener::bind("127.0.0.1:8003").await?;
    println!("listening on ws://{}", listener.local_addr()?);
    serve::serve(listener, service, sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use tower_wsstream::testing::{Connect, Received};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_comes_back() -> Result<(), BoxError> {
        let protocols = ChannelProtocols::standard([ChannelType::Read, ChannelType::Write])?;
        let service = ServiceBuilder::new()
            .layer(WsStreamLayer::new(protocols))
            .service_fn(echo);
        let connect = Connect::to("/").offer("channel.k8s.io");
        let mut client = connect.connect(service).await?;
        client.send(0, b"hello").await?;
        assert_eq!(client.receive().await, Received::Message(1, "hello".into()));
        // Its Close ends the input, and with it the service.
        client.close(Some(1000)).await?;
        assert_eq!(client.read_to_end().await.close_code, Some(1000));
        Ok(())
    }
}
