//! Port-forward: each port calls the service, and its error channel reports how that ends.

mod calls;
mod data;
mod ends;
mod handshake;
mod refusals;
#[cfg(feature = "spdy")]
mod tunnel;

use std::{
    convert::Infallible,
    future::{pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tower::{Layer, Service, ServiceBuilder, service_fn, util::ServiceFn};
use tower_wsstream::{
    AcceptMode, BoxError, EndCause, Rejection, RejectionKind, SessionConfig, WsStream,
    WsStreamLayer,
    portforward::{ForwardedPort, PortForward, PortForwardLayer, Protocols},
    protocol::subprotocols::{self, V4, V4_BASE64, V5},
    testing::{Client, Connect, Received, Refused, Transcript},
};

use crate::support::{
    BINARY, BITE, CLOSE, End, LONG, Raw, TEXT, Watchdog, base64, frame, on, read_out, secs, serve,
    within,
};

const OFFERS: [&str; 3] = ["", V4, V4_BASE64];
const MIB: usize = 1 << 20;

/// A layer without Pings.
fn layer() -> WsStreamLayer {
    WsStreamLayer::new(Protocols::default()).config(SessionConfig::default().keep_alive(None))
}

type Forward<F> = WsStream<PortForward<ServiceFn<F>>>;

/// Returns a service whose ports run a function.
fn forward<F, Fut>(function: F) -> Forward<F>
where
    F: FnMut(ForwardedPort) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    forward_in(layer(), function)
}

fn forward_in<F, Fut>(layer: WsStreamLayer, function: F) -> Forward<F>
where
    F: FnMut(ForwardedPort) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    layer.layer(PortForwardLayer::new().layer(service_fn(function)))
}

/// Connects a client that reads and writes its frames by hand.
async fn open<F, Fut>(service: Forward<F>, query: &str, offer: &str) -> Raw<DuplexStream>
where
    F: FnMut(ForwardedPort) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let (near, far) = tokio::io::duplex(256 * 1024);
    serve(far, service);
    let path = format!("/?{query}");
    Raw::handshake_at(near, &path, offer)
        .await
        .expect("no refusal")
}

async fn refused(connecting: impl Future<Output = Result<Client, BoxError>>) -> (u16, String) {
    let error = within(LONG, connecting).await.unwrap_err();
    let refused = error.downcast::<Refused>().expect("an HTTP answer");
    let status = refused.refusal().expect("a Status");
    let message = status.message().expect("a message").to_owned();
    (refused.status().as_u16(), message)
}

/// Echoes until the client closes the session.
async fn echo(mut port: ForwardedPort) -> Result<(), BoxError> {
    let (mut from, mut to) = tokio::io::split(&mut port.stream);
    tokio::io::copy(&mut from, &mut to).await?;
    Ok(())
}

/// Receives the next message, and skips the Pongs of a paused session.
async fn message(client: &mut Raw<DuplexStream>) -> (u8, Vec<u8>) {
    loop {
        let frame = within(LONG, client.next()).await.expect("a frame");
        if matches!(frame.opcode, BINARY | TEXT) {
            return client.split(&frame.payload);
        }
    }
}

fn greeting(port: u16) -> Vec<u8> {
    port.to_le_bytes().to_vec()
}

/// Groups messages by channel.
fn by_channel(messages: &[(u8, Vec<u8>)], channels: usize) -> Vec<Vec<Vec<u8>>> {
    let mut sorted = vec![Vec::new(); channels];
    for (channel, payload) in messages {
        sorted[usize::from(*channel)].push(payload.clone());
    }
    sorted
}

/// Returns the messages on the error channel of a port as text, without the first one, which is the
/// port number.
fn texts(transcript: &Transcript, index: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for (channel, payload) in &transcript.messages {
        if usize::from(*channel) == 2 * index + 1 {
            texts.push(String::from_utf8_lossy(payload).into_owned());
        }
    }
    assert!(!texts.is_empty(), "a first message: {transcript:?}");
    texts.remove(0);
    texts
}

/// Returns bytes that differ between any two ports.
fn payload(port: u16, len: usize) -> Vec<u8> {
    let byte = |at: usize| (at.wrapping_mul(31) ^ (at >> 8) ^ usize::from(port)) as u8;
    (0..len).map(byte).collect()
}
