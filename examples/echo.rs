//! The smallest server: it sends the data of channel 0 back on channel 1.
//!
//!     cargo run --example echo
//!
//! Then, with any WebSocket client that offers `channel.k8s.io`, send a binary
//! message that begins with a zero byte to ws://127.0.0.1:8003: it comes back with
//! a one as its first byte. A request that is not an upgrade is answered with 426.
//! Ctrl-C ends the sessions with close code 1001, and then the server.

#[path = "support/serve.rs"]
mod serve;

use tokio::{io::AsyncWriteExt, net::TcpListener, signal::ctrl_c};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, Sessions, WsStreamLayer,
};

async fn echo(mut channels: ChannelSet) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("channel 0 can be read")?;
    let mut output = channels.take_writer(1).ok_or("channel 1 can be written")?;
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
