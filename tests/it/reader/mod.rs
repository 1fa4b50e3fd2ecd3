//! The body of an HTTP response as messages: the cases of Go's reader, and abrupt ends.

mod body;
mod followed;
mod layer;

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncWriteExt, DuplexStream, ReadBuf},
    sync::mpsc,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, Encoding, SessionConfig, Sessions,
    policy::{ByteRate, Limits, PolicyLayer, TimeLimit},
    reader::{ReaderProtocols, WsReader, WsReaderLayer},
};

use crate::support::{self, BINARY, CLOSE, LONG, Raw, SOON, TEXT, frame, serve, within};

const TEXT_OF_30: &str = "this is a test string of bytes";

/// Returns a body of these pieces. An error ends it.
type Pieces =
    StreamBody<futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, io::Error>>>>;

fn pieces(pieces: Vec<Result<&'static [u8], io::Error>>) -> Pieces {
    let frames: Vec<_> = pieces
        .into_iter()
        .map(|piece| piece.map(|bytes| Frame::data(Bytes::from_static(bytes))))
        .collect();
    StreamBody::new(futures_util::stream::iter(frames))
}

/// Reads frames to the end, and the code of the Close.
async fn read_out(client: &mut Raw<DuplexStream>) -> (Vec<support::Frame>, Option<Option<u16>>) {
    let mut frames = Vec::new();
    while let Some(frame) = within(SOON, client.next()).await {
        if frame.opcode == CLOSE {
            return (frames, Some(frame.close_code()));
        }
        frames.push(frame);
    }
    (frames, None)
}

fn joined(frames: &[support::Frame]) -> Vec<u8> {
    frames
        .iter()
        .flat_map(|frame| frame.payload.to_vec())
        .collect()
}

async fn open<L, B>(layer: WsReaderLayer, offer: &str, make: L) -> Result<Raw<DuplexStream>, String>
where
    L: Fn() -> B + Clone + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let service = layer.layer(service_fn(move |_: Request<Incoming>| {
        let body = make();
        async move { Ok::<_, Infallible>(Response::new(body)) }
    }));
    let (near, far) = tokio::io::duplex(256 * 1024);
    serve(far, service);
    Raw::handshake(near, offer).await
}

/// A body whose pieces the test sends, and which notes its drop.
struct Followed {
    pieces: mpsc::UnboundedReceiver<Bytes>,
    _alive: Arc<()>,
}

impl Body for Followed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.pieces.poll_recv(cx);
        piece.map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Opens a session of such a body.
async fn follow(
    layer: WsReaderLayer,
) -> (Raw<DuplexStream>, mpsc::UnboundedSender<Bytes>, Arc<()>) {
    let (send, pieces) = mpsc::unbounded_channel();
    let alive = Arc::new(());
    let body = Arc::new(Mutex::new(Some(Followed {
        pieces,
        _alive: Arc::clone(&alive),
    })));
    let client = open(layer, "", move || body.lock().unwrap().take().unwrap()).await;
    (client.unwrap(), send, alive)
}
