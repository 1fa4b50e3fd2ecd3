//! Clients of `tower_wsstream::testing`.

use std::time::Duration;

use bytes::Bytes;
use tower_wsstream::testing::{Client, Connect, Received, Refused};

use super::{serve::HttpService, time::soon};

/// Longer than the grace of a service, and longer than it takes until a lost connection is gone.
pub(crate) const AFTERWARDS: Duration = Duration::from_secs(10);

/// Returns a request for a session over each version of HTTP.
#[cfg(feature = "http2")]
pub(crate) fn transports(path: &str) -> [Connect; 2] {
    [Connect::to(path), Connect::to(path).http2()]
}

/// Makes a handshake that is refused.
pub(crate) async fn refused_by<S: HttpService>(connect: Connect, service: S) -> Refused {
    let refused = soon(connect.connect(service)).await.unwrap_err();
    *refused.downcast::<Refused>().expect("an answer")
}

/// Sends a message on channel 0, and receives it back on channel 1.
pub(crate) async fn hears_its_echo(client: &mut Client) {
    client.send(0, b"hello").await.unwrap();
    let hello = Received::Message(1, Bytes::from("hello"));
    assert_eq!(soon(client.receive()).await, hello);
}
