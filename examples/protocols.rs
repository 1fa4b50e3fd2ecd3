//! A protocol of your own: a table of channels, two versions of it, and an outcome.
//!
//!     cargo run --example protocols
//!     npx wscat -s v1.heating.example.com -c ws://127.0.0.1:8013/
//!
//! Each message begins with the number of its channel: type `0MjEK` ("21" and a newline on channel
//! 0, the wanted temperature), and `1MjEuMAo=` ("21.0" on channel 1, the measured one) comes back.
//! Type `0aG90Cg==` ("hot"), and the session ends with `2` and the reason in base64.
//!
//! | channel | direction | carries |
//! |---|---|---|
//! | 0 | to the server | wanted temperatures, one a line |
//! | 1 | to the client | measured temperatures, one a line |
//! | 2 | to the client | the outcome, as the last message: a Status as JSON |
//!
//! `v1` is text, for terminals and pages. `v2` is binary, and its clients can end channel 0
//! alone with the message `[255, 0]`.

#[path = "support/serve.rs"]
mod serve;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    signal::ctrl_c,
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, ConfigError,
    Encoding, Sessions, Status, WsStreamLayer,
    session::{LastWords, Outcome},
};

/// The channels, by number.
const WANTED: u8 = 0;
const MEASURED: u8 = 1;
const OUTCOME: u8 = 2;

/// The longest line of a client, in bytes.
const LINE: u64 = 64;

fn table() -> Result<ChannelProtocols, ConfigError> {
    let channels = [ChannelType::Read, ChannelType::Write, ChannelType::Write];
    let text = ChannelProtocolConfig::new(Encoding::Base64, channels);
    let binary = ChannelProtocolConfig::new(Encoding::Binary, channels).half_close(true);
    ChannelProtocols::builder()
        .protocol("v2.heating.example.com", binary)
        .protocol("v1.heating.example.com", text)
        .build()
}

/// Says how the session has ended, behind all of its output. Whatever ends the session, the client
/// is told: an error of the service, a panic, a timeout, a shutdown.
fn outcome(end: &Outcome<'_>) -> Option<LastWords> {
    let status = match end {
        Outcome::Returned => Status::success(),
        Outcome::Failed(error) => Status::failure("BadTemperature", error.to_string(), 400),
        Outcome::Ended(cause) => Status::failure("Ended", cause.to_string(), 504),
        _ => Status::internal_error("the heating has failed: call for help"),
    };
    Some(LastWords::new(OUTCOME, status.to_json()).with_status(status))
}

/// Heats, and says how warm it is.
async fn heat(mut channels: ChannelSet) -> Result<(), BoxError> {
    channels.session().say_last(outcome);
    let mut wanted = channels
        .take_reader(WANTED)
        .ok_or("no readable channel 0")?;
    let mut measured = channels
        .take_writer(MEASURED)
        .ok_or("no writable channel 1")?;
    loop {
        // The boundaries of messages are not kept, so lines separate the values. A client that
        // sends no newline must not fill the memory.
        let mut line = String::new();
        let mut bounded = (&mut wanted).take(LINE);
        if bounded.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let degrees: f32 = match line.strip_suffix('\n').map(str::parse) {
            Some(Ok(degrees)) => degrees,
            _ => return Err(format!("{line:?} is not a line with a number").into()),
        };
        measured
            .write_all(format!("{degrees:.1}\n").as_bytes())
            .await?;
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sessions = Sessions::default();
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(table()?).sessions(sessions.clone()))
        .service_fn(heat);
    let listener = TcpListener::bind("127.0.0.1:8013").await?;
    println!("listening on ws://{}", listener.local_addr()?);
    serve::serve(listener, service, sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use tower_wsstream::testing::{Client, Connect, Refused};

    use super::*;

    async fn connected(version: &str) -> Result<Client, BoxError> {
        let service = ServiceBuilder::new()
            .layer(WsStreamLayer::new(table()?))
            .service_fn(heat);
        let offer = format!("{version}.heating.example.com");
        Connect::to("/").offer(offer).connect(service).await
    }

    fn status(told: &[u8]) -> Result<Status, BoxError> {
        Ok(Status::from_json(told)?)
    }

    #[tokio::test(start_paused = true)]
    async fn both_versions_heat_until_the_input_ends() -> Result<(), BoxError> {
        for version in ["v1", "v2"] {
            let mut client = connected(version).await?;
            client.send(WANTED, b"2").await?;
            client.send(WANTED, b"1\n19.5\n").await?;
            match version {
                "v2" => client.close_channel(WANTED).await?,
                _ => client.close(Some(1000)).await?,
            }
            let told = client.read_to_end().await;
            assert_eq!(told.channel(MEASURED), b"21.0\n19.5\n", "{version}");
            assert!(status(&told.channel(OUTCOME))?.is_success());
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_ends_the_session_with_a_reason() -> Result<(), BoxError> {
        for nonsense in ["hot\n".to_owned(), "1".repeat(1000)] {
            let mut client = connected("v2").await?;
            client.send(WANTED, nonsense.as_bytes()).await?;
            let told = client.read_to_end().await;
            let status = status(&told.channel(OUTCOME))?;
            assert_eq!(status.reason(), Some("BadTemperature"));
            // The outcome was told in full, although it is a failure.
            assert_eq!(told.close_code, Some(1000));
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn other_versions_are_refused() -> Result<(), BoxError> {
        let error = connected("v3").await.unwrap_err();
        assert_eq!(
            error.downcast_ref::<Refused>().ok_or("no answer")?.status(),
            403
        );
        Ok(())
    }
}
