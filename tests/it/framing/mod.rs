//! The rules of RFC 6455 on the wire, over HTTP/1.1 and HTTP/2: where frames may be cut, what may come
//! between fragments, where limits lie, and what follows from each fault.
//!
//! `tests/it/framing/CHECKLIST.md` names the tests of each rule.

mod closing;
mod control;
mod data;
mod fragments;
mod heads;
mod limits;
mod splits;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{ChannelSet, EndCause, subprotocols};

#[cfg(feature = "http2")]
use crate::support::http2::connect;
use crate::support::{
    BINARY, CLOSE, Frame, HttpService, LONG, PING, PONG, Raw, SOON, TEXT, Told, echo, frame, layer,
    millis, on, once, once_in, open_with, secs, session, within,
};

const CONTINUATION: u8 = 0;

/// The capacity of a connection in memory, which holds any message of these tests.
const CAPACITY: usize = 256 * 1024;

/// Any transport.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type Client = Raw<Box<dyn Io>>;

/// The version of HTTP that a session is opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Http {
    One,
    #[cfg(feature = "http2")]
    Two,
}

const EACH: &[Http] = &[
    Http::One,
    #[cfg(feature = "http2")]
    Http::Two,
];

impl Http {
    /// Opens a session on v5.channel.k8s.io.
    async fn open(self, service: impl HttpService) -> Client {
        self.open_offering(service, subprotocols::V5).await
    }

    async fn open_offering(self, service: impl HttpService, offer: &str) -> Client {
        let (io, buf): (Box<dyn Io>, _) = match self {
            Http::One => {
                let client = open_with(service, offer, CAPACITY).await;
                (Box::new(client.io), client.buf)
            }
            #[cfg(feature = "http2")]
            Http::Two => {
                let (mut connection, _wire) = connect(service).await;
                let client = connection.open(offer).await;
                (Box::new(client.io), client.buf)
            }
        };
        let mut client = Raw::over(io, offer);
        client.buf = buf;
        client
    }
}

/// Returns the bytes of a frame from a client, with this first byte, this length in its second byte
/// and behind it, and this key.
fn raw_frame(first: u8, length: &[u8], key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    frame.extend_from_slice(length);
    if let Some(key) = key {
        frame[1] |= 0x80;
        frame.extend(key);
    }
    let key = key.unwrap_or_default();
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    frame
}

/// Returns the frames that arrive until nothing moves any more.
async fn settle(client: &mut Client) -> Vec<Frame> {
    let mut frames = Vec::new();
    // Time is paused, and advances only once nothing else can happen.
    while let Ok(Some(frame)) = timeout(millis(1), client.next()).await {
        frames.push(frame);
    }
    frames
}

/// Returns the bytes of channel 1 in these frames, and the other frames.
fn echoed(frames: Vec<Frame>) -> (Vec<u8>, Vec<Frame>) {
    let (data, others): (Vec<_>, Vec<_>) = frames
        .into_iter()
        .partition(|frame| matches!(frame.opcode, BINARY | CONTINUATION));
    let mut bytes = Vec::new();
    for Frame {
        opcode, payload, ..
    } in data
    {
        match opcode {
            BINARY => {
                assert_eq!(payload[0], 1, "the channel of the echo");
                bytes.extend_from_slice(&payload[1..]);
            }
            _ => bytes.extend_from_slice(&payload),
        }
    }
    (bytes, others)
}

/// Checks that these bytes of a client fail the connection with this code, and that nothing behind
/// them is looked at. What came before them has been answered.
async fn fails(http: Http, fault: &[u8], code: u16) {
    let mut client = http.open(session(echo)).await;
    client.send(0, b"before").await.unwrap();
    let (before, _) = echoed(settle(&mut client).await);
    assert_eq!(before, b"before");
    let behind = [
        fault,
        &frame(true, PING, b"behind"),
        &frame(true, BINARY, &on(0, b"behind")),
    ];
    client.bytes(&behind.concat()).await.unwrap();
    let told = within(SOON, client.read_to_end()).await;
    let expected = Told {
        close: Some(Some(code)),
        reason: told.reason.clone(),
        ..Told::default()
    };
    assert_eq!(told, expected, "{http:?}: {fault:x?}");
}
