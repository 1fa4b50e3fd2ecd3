//! Tower's own layers, tower-http's and axum around a session and inside of it.
//!
//! What the table "Which side of the layer" in `src/docs/layers.md` says is
//! tested here, but for what other files prove already:
//!
//! | promise | where |
//! |---|---|
//! | a service that is never ready is 504 after the accept timeout | `refusal.rs` |
//! | `load_shed` inside is 503 with `Retry-After`, and nothing is spawned | `refusal.rs` |
//! | what is no upgrade, or refused by its head, takes no place of a session | `accept.rs` |
//! | readiness is the fallback's alone | `accept.rs` |
//! | a place comes back when the service is done, not when the client has left | `accept.rs` |

mod axum;
mod buffer;
#[cfg(feature = "axum08")]
mod extractor;
mod inside;
mod limit;
mod outside;
mod rate;
mod types;

use std::{future::pending, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use hyper::body::Incoming;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    BoxError, ChannelProtocols, ChannelSet, ChannelType, WsStreamLayer,
    testing::{Client, Connect, Received, Refused},
};

/// Longer than everything that ends by itself; what takes longer hangs.
const FOREVER: Duration = Duration::from_secs(3600);

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Timers of tokio are a millisecond late.
#[track_caller]
fn assert_after(start: Instant, expected: Duration) {
    let elapsed = start.elapsed();
    assert!(
        elapsed >= expected && elapsed <= expected + Duration::from_millis(5),
        "after {elapsed:?} instead of {expected:?}"
    );
}

/// Waits for what must come by itself; under paused time that costs nothing.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(FOREVER, future).await.expect("it comes by itself")
}

/// Channel 0 for the client, channel 1 for us.
fn layer() -> WsStreamLayer {
    let channels = [ChannelType::Read, ChannelType::Write];
    WsStreamLayer::new(ChannelProtocols::standard(channels).unwrap())
}

/// Sends back what comes, until the client ends it with a Close.
async fn echo(mut set: ChannelSet) -> Result<(), BoxError> {
    let mut input = set.take_reader(0).unwrap();
    let mut output = set.take_writer(1).unwrap();
    tokio::io::copy_buf(&mut input, &mut output).await?;
    output.shutdown().await?;
    Ok(())
}

async fn never(_set: ChannelSet) -> Result<(), BoxError> {
    pending().await
}

async fn hears_its_echo(client: &mut Client) {
    client.send(0, b"hello").await.unwrap();
    let expected = Received::Message(1, Bytes::from("hello"));
    assert_eq!(soon(client.receive()).await, expected);
}

/// Ends an [`echo`].
async fn finish(mut client: Client) {
    client.close(Some(1000)).await.unwrap();
    let transcript = soon(client.read_to_end()).await;
    assert_eq!(transcript.close_code, Some(1000));
}

/// A handshake that is refused.
async fn refused<S, B>(connect: Connect, service: S) -> Refused
where
    S: Service<http::Request<Incoming>, Response = http::Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let refused = soon(connect.connect(service)).await.unwrap_err();
    *refused.downcast::<Refused>().expect("an answer")
}
