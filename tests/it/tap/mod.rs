//! Taps: records, backpressure, loss, and the end of a recording.

mod end;
mod full;
mod layer;
mod random;
mod records;

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tokio_test::{assert_pending, assert_ready_ok};
use tower::{Layer, ServiceBuilder};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelReader, ChannelSet,
    ChannelType, ChannelWriter, Encoding, EndCause, Rejection, SessionConfig, WsStreamLayer,
    channel::{
        ChannelStream,
        tap::{Direction, Lost, Overflow, Payload, Record, Tap, TapLayer, TapReader},
    },
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Client, Connect, Received, Refused, Transcript},
};

use Direction::{Inbound, Outbound};

use crate::support::LONG;

/// The size of a record in the queue, beside its bytes.
const RECORD: usize = 128;

/// Returns a table with input on channel 0, output on 1, and both on 2.
fn protocols() -> ChannelProtocols {
    use ChannelType::{Read, ReadWrite, Write};
    let channels = |encoding| ChannelProtocolConfig::new(encoding, [Read, Write, ReadWrite]);
    let v5 = channels(Encoding::Binary).half_close(true);
    ChannelProtocols::builder()
        .protocol(subprotocols::V5, v5)
        .protocol(subprotocols::V4_BASE64, channels(Encoding::Base64))
        .build()
        .unwrap()
}

fn layer() -> WsStreamLayer {
    WsStreamLayer::new(protocols()).config(SessionConfig::default().keep_alive(None))
}

/// Returns a layer for one session.
fn with(tap: Tap) -> TapLayer<impl Fn(&ChannelSet) -> Option<Tap> + Clone + Send + Sync + 'static> {
    let tap = Arc::new(Mutex::new(Some(tap)));
    TapLayer::new(move |_: &ChannelSet| {
        let tap = tap.lock().unwrap().take();
        Some(tap.expect("there is one session"))
    })
}

/// Opens a session of a function with a tap.
async fn tapped_on<F, Fut>(subprotocol: &str, tap: Tap, function: F) -> Client
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let function = Arc::new(Mutex::new(Some(function)));
    let service = ServiceBuilder::new()
        .layer(layer())
        .layer(with(tap))
        .service_fn(move |channels| {
            let function = function.lock().unwrap().take();
            function.expect("there is one session")(channels)
        });
    let connect = Connect::to("/").offer(subprotocol).connect(service);
    within(connect).await.unwrap()
}

async fn tapped<F, Fut>(tap: Tap, function: F) -> Client
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    tapped_on(subprotocols::V5, tap, function).await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LONG, future).await.expect("it comes by itself")
}

async fn payload(records: &mut TapReader) -> Payload {
    match within(records.next()).await {
        Some(Record::Payload(payload)) => payload,
        other => panic!("{other:?}"),
    }
}

type Seen = (Direction, u8, Vec<u8>);

fn seen(payload: &Payload) -> Seen {
    (payload.direction, payload.channel, payload.bytes.to_vec())
}

fn is(direction: Direction, channel: u8, bytes: &[u8]) -> Seen {
    (direction, channel, bytes.to_vec())
}

/// Reads all records, the cause of the end, and the loss before it.
async fn rest(records: &mut TapReader) -> (Vec<Payload>, EndCause, Lost) {
    let mut all = Vec::new();
    let end = loop {
        match within(records.next()).await {
            Some(Record::Payload(payload)) => all.push(payload),
            Some(Record::End(end)) => break end,
            other => panic!("{other:?}"),
        }
    };
    assert!(within(records.next()).await.is_none(), "behind the end");
    (all, end.cause, end.lost)
}

async fn rest_seen(records: &mut TapReader) -> (Vec<Seen>, EndCause) {
    let (all, cause, lost) = rest(records).await;
    assert_eq!(lost, Lost::default());
    assert!(all.iter().all(|payload| payload.lost == Lost::default()));
    (all.iter().map(seen).collect(), cause)
}

async fn read_to_end(client: Client) -> Transcript {
    within(client.read_to_end()).await
}

async fn read(reader: &mut ChannelReader, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    reader.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Returns the status of a handshake that is refused.
async fn refused<F>(layer: TapLayer<F>, accept: AcceptMode) -> u16
where
    F: Fn(&ChannelSet) -> Option<Tap> + Clone + Send + Sync + 'static,
{
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols()).config(SessionConfig::default().accept(accept)))
        .layer(layer)
        .service_fn(async |_: ChannelSet| {
            Err::<(), BoxError>(Rejection::new(http::StatusCode::NOT_FOUND, "none").into())
        });
    let connect = Connect::to("/").offer(subprotocols::V5).connect(service);
    let error = within(connect).await.unwrap_err();
    error.downcast::<Refused>().unwrap().status().as_u16()
}
