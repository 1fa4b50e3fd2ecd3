//! A server over any stream, and a client that writes its frames by hand.
//!
//! Nothing of a WebSocket library stands between the test and the wire, so that
//! what no library would send can be sent, and what came is seen as it came.
#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{
        AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, Join,
        ReadBuf, ReadHalf, Sink, WriteHalf,
    },
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
};
use tower::{Layer, Service, util::ServiceFn};
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelReader, ChannelSet,
    ChannelType::{Read, Write},
    Encoding, EndCause, SessionConfig, WsStream, WsStreamLayer,
    policy::Limits,
    subprotocols,
};

/// No subprotocol offered, and all with different rules.
pub(crate) const ALL: [&str; 6] = [
    "",
    subprotocols::CHANNEL,
    subprotocols::BASE64_CHANNEL,
    subprotocols::V4,
    subprotocols::V4_BASE64,
    subprotocols::V5,
];

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// Channels 0 and 4 come in, 1 to 3 go out: as for a command with a terminal.
pub(crate) fn protocols() -> ChannelProtocols {
    let channels = [Read, Write, Write, Write, Read];
    let raw = ChannelProtocolConfig::new(Encoding::Binary, channels);
    let base64 = ChannelProtocolConfig::new(Encoding::Base64, channels);
    ChannelProtocols::builder()
        .protocol(subprotocols::V5, raw.clone().half_close(true))
        .protocol(subprotocols::V4, raw.clone())
        .protocol(subprotocols::V4_BASE64, base64.clone())
        .protocol(subprotocols::CHANNEL, raw.clone())
        .protocol(subprotocols::BASE64_CHANNEL, base64)
        .protocol("", raw)
        .build()
        .expect("a table like that of exec")
}

/// A layer over [`protocols`] that says nothing of its own, and takes no more than its windows:
/// Pings and the stall reserve have tests of their own.
pub(crate) fn layer() -> WsStreamLayer {
    WsStreamLayer::new(protocols()).config(config())
}

/// Without Pings, and without a reserve for channels that stall.
pub(crate) fn config() -> SessionConfig {
    SessionConfig::default()
        .keep_alive(None)
        .limits(Limits::default().stall_reserve(0))
}

/// The sessions of a function.
pub(crate) fn session<F, Fut>(function: F) -> WsStream<ServiceFn<F>>
where
    F: FnMut(ChannelSet) -> Fut,
    Fut: Future<Output = Result<(), BoxError>>,
{
    layer().layer(tower::service_fn(function))
}

/// The sessions of a function that takes what it needs only once: there will be
/// one session.
pub(crate) fn once<F, Fut>(
    function: F,
) -> WsStream<ServiceFn<impl FnMut(ChannelSet) -> Fut + Clone + Send + 'static>>
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    once_in(layer(), function)
}

/// The same inside a layer of one's own.
pub(crate) fn once_in<F, Fut>(
    layer: WsStreamLayer,
    function: F,
) -> WsStream<ServiceFn<impl FnMut(ChannelSet) -> Fut + Clone + Send + 'static>>
where
    F: FnOnce(ChannelSet) -> Fut + Send + 'static,
    Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let function = Arc::new(std::sync::Mutex::new(Some(function)));
    layer.layer(tower::service_fn(move |set| {
        let function = function.lock().unwrap().take();
        function.expect("there is one session")(set)
    }))
}

/// Serves one connection.
pub(crate) fn serve<T, S, B>(io: T, service: S)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    tokio::spawn(async move {
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
            .with_upgrades()
            .await;
    });
}

/// A session over memory that holds `capacity` bytes in each direction.
pub(crate) async fn open_with<S, B>(service: S, offer: &str, capacity: usize) -> Raw<DuplexStream>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (near, far) = tokio::io::duplex(capacity);
    serve(far, service);
    Raw::handshake(near, offer).await.expect("no refusal")
}

/// The same with room for any message of a test.
pub(crate) async fn open<S, B>(service: S, offer: &str) -> Raw<DuplexStream>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    open_with(service, offer, 256 * 1024).await
}

/// A session over memory, and when the server let go of its end.
pub(crate) async fn open_watched<S, B>(
    service: S,
    offer: &str,
    capacity: usize,
) -> (Raw<DuplexStream>, oneshot::Receiver<()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (near, far) = tokio::io::duplex(capacity);
    let (dropped, watch) = oneshot::channel();
    serve(
        Watched {
            io: far,
            _dropped: dropped,
        },
        service,
    );
    let raw = Raw::handshake(near, offer).await.expect("no refusal");
    (raw, watch)
}

/// Kernel buffers of a TCP session, so small that both sides wait often.
const SMALL: u32 = 4 * 1024;

/// A session over TCP on loopback; with `small`, over the smallest buffers.
pub(crate) async fn open_tcp<S, B>(service: S, offer: &str, small: bool) -> Raw<TcpStream>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let socket = || {
        let socket = TcpSocket::new_v4().unwrap();
        if small {
            socket.set_send_buffer_size(SMALL).unwrap();
            socket.set_recv_buffer_size(SMALL).unwrap();
        }
        socket
    };
    let listener = socket();
    listener.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listener.listen(1).unwrap();
    let near = socket().connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    serve(far.unwrap().0, service);
    Raw::handshake(near.unwrap(), offer)
        .await
        .expect("no refusal")
}

/// Tells when it is dropped.
struct Watched<T> {
    io: T,
    _dropped: oneshot::Sender<()>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// One frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// The code of a Close, if it has one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE);
        let code = self.payload.get(..2)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }
}

/// A frame of a client, masked.
pub(crate) fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x5a, 0x01, 0xff, 0x80];
    let mut frame = head(fin, opcode, payload.len() as u64);
    frame.extend_from_slice(&KEY);
    let masked = payload.iter().zip(KEY.iter().cycle()).map(|(b, k)| b ^ k);
    frame.extend(masked);
    frame
}

/// Its head up to the mask.
fn head(fin: bool, opcode: u8, len: u64) -> Vec<u8> {
    let mut head = vec![u8::from(fin) << 7 | opcode];
    match len {
        0..=125 => head.push(0x80 | len as u8),
        126..=0xffff => {
            head.push(0x80 | 126);
            head.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend_from_slice(&len.to_be_bytes());
        }
    }
    head
}

/// What a binary message of this channel is made of.
pub(crate) fn on(channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![channel];
    message.extend_from_slice(payload);
    message
}

/// The same for a base64 subprotocol.
pub(crate) fn base64(channel: u8, payload: &[u8]) -> Vec<u8> {
    use ::base64::Engine;
    let mut message = vec![b'0' + channel];
    let text = ::base64::engine::general_purpose::STANDARD.encode(payload);
    message.extend_from_slice(text.as_bytes());
    message
}

/// The client end.
#[derive(Debug)]
pub(crate) struct Raw<T> {
    pub(crate) io: T,
    pub(crate) buf: BytesMut,
    base64: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    /// A client end whose handshake was made already.
    pub(crate) fn over(io: T, offer: &str) -> Self {
        Self {
            io,
            buf: BytesMut::new(),
            base64: offer.contains("base64"),
        }
    }

    /// Makes the handshake; the head of the answer where that is not 101.
    pub(crate) async fn handshake(io: T, offer: &str) -> Result<Self, String> {
        Self::handshake_at(io, "/", offer).await
    }

    /// The same with a path and query.
    pub(crate) async fn handshake_at(io: T, path: &str, offer: &str) -> Result<Self, String> {
        let mut io = tokio::io::BufReader::with_capacity(1024, io);
        let offered = match offer {
            "" => String::new(),
            name => format!("Sec-WebSocket-Protocol: {name}\r\n"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{offered}\r\n"
        );
        io.write_all(request.as_bytes())
            .await
            .map_err(|e| e.to_string())?;
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            let read = io.read_line(&mut answer).await.map_err(|e| e.to_string())?;
            if read == 0 {
                break;
            }
        }
        if !answer.starts_with("HTTP/1.1 101 ") {
            return Err(answer);
        }
        Ok(Self {
            buf: BytesMut::from(io.buffer()),
            io: io.into_inner(),
            base64: offer.contains("base64"),
        })
    }

    /// Reading here, writing from another task.
    pub(crate) fn into_halves(self) -> (Raw<Join<ReadHalf<T>, Sink>>, WriteHalf<T>) {
        let (read, write) = tokio::io::split(self.io);
        let raw = Raw {
            io: tokio::io::join(read, tokio::io::sink()),
            buf: self.buf,
            base64: self.base64,
        };
        (raw, write)
    }

    /// Sends bytes as they are.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.io.write_all(bytes).await
    }

    /// Sends one message of a channel, as the subprotocol wants it.
    pub(crate) async fn send(&mut self, channel: u8, payload: &[u8]) -> io::Result<()> {
        let frame = match self.base64 {
            true => frame(true, TEXT, &base64(channel, payload)),
            false => frame(true, BINARY, &on(channel, payload)),
        };
        self.bytes(&frame).await
    }

    /// Sends the CLOSE of a channel.
    pub(crate) async fn close_channel(&mut self, channel: u8) -> io::Result<()> {
        self.bytes(&frame(true, BINARY, &[255, channel])).await
    }

    /// Sends a Close frame.
    pub(crate) async fn close(&mut self, code: Option<u16>) -> io::Result<()> {
        let payload = code.map(u16::to_be_bytes);
        let payload = payload.as_ref().map_or(&[][..], |code| code);
        self.bytes(&frame(true, CLOSE, payload)).await
    }

    /// The next frame; `None` where the connection ended or broke.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.parse() {
                return Some(frame);
            }
            match self.io.read_buf(&mut self.buf).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// A frame that is complete.
    fn parse(&mut self) -> Option<Frame> {
        let head = self.buf.get(..2)?;
        let (first, len) = (head[0], head[1]);
        assert_eq!(first & 0x70, 0, "reserved bits are not ours to set");
        let (head, len) = match len {
            0..=125 => (2, u64::from(len)),
            126 => (4, self.buf.get(2..4)?.get_u16().into()),
            127 => (10, self.buf.get(2..10)?.get_u64()),
            _ => panic!("a server does not mask"),
        };
        let len = usize::try_from(len).unwrap();
        if self.buf.len() < head + len {
            return None;
        }
        self.buf.advance(head);
        Some(Frame {
            fin: first & 0x80 != 0,
            opcode: first & 0x0f,
            payload: self.buf.split_to(len).freeze(),
        })
    }

    /// Everything up to the end of the connection. A Close is answered, as clients do.
    pub(crate) async fn read_to_end(&mut self) -> Told {
        let told = self.read_to_close().await;
        if let Some(code) = told.close {
            // A client that has said its own is not heard any more.
            let _ = self.close(code).await;
            let behind = self.next().await;
            assert_eq!(behind, None, "behind the Close");
        }
        told
    }

    /// Everything up to the Close, which is not answered, or to the end without one.
    pub(crate) async fn read_to_close(&mut self) -> Told {
        let mut told = Told::default();
        let mut message = None;
        while told.close.is_none() {
            let Some(frame) = self.next().await else {
                break;
            };
            match frame.opcode {
                CLOSE => {
                    told.close = Some(frame.close_code());
                    let reason = frame.payload.get(2..).unwrap_or_default();
                    told.reason = String::from_utf8(reason.to_vec()).unwrap();
                }
                PING | PONG => told.controls.push(frame),
                opcode => {
                    assert_eq!(opcode == 0, message.is_some(), "fragments in order");
                    // What a base64 fragment ends with is padded alone.
                    let (channel, payload) = match message.take() {
                        None => self.split(&frame.payload),
                        Some((channel, mut payload)) => {
                            Vec::extend(&mut payload, self.decode(&frame.payload));
                            (channel, payload)
                        }
                    };
                    match frame.fin {
                        true => told.messages.push((channel, payload)),
                        false => message = Some((channel, payload)),
                    }
                }
            }
        }
        told
    }

    /// A message, or its first fragment, as channel and payload.
    pub(crate) fn split(&self, payload: &[u8]) -> (u8, Vec<u8>) {
        let (first, rest) = payload.split_first().expect("a channel");
        match self.base64 {
            true => (first - b'0', self.decode(rest)),
            false => (*first, rest.to_vec()),
        }
    }

    fn decode(&self, payload: &[u8]) -> Vec<u8> {
        use ::base64::Engine;
        match self.base64 {
            true => ::base64::engine::general_purpose::STANDARD
                .decode(payload)
                .expect("base64"),
            false => payload.to_vec(),
        }
    }
}

/// What a client was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) messages: Vec<(u8, Vec<u8>)>,
    /// Pings and Pongs.
    pub(crate) controls: Vec<Frame>,
    /// Whether a Close came, and its code.
    pub(crate) close: Option<Option<u16>>,
    pub(crate) reason: String,
}

impl Told {
    pub(crate) fn channel(&self, channel: u8) -> Vec<u8> {
        let messages = self.messages.iter().filter(|(id, _)| *id == channel);
        messages.flat_map(|(_, payload)| payload).copied().collect()
    }

    pub(crate) fn text(&self, channel: u8) -> String {
        String::from_utf8(self.channel(channel)).unwrap()
    }
}

/// How a channel ended for its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Error(io::ErrorKind, EndCause),
}

impl End {
    /// What an error says: its kind, and its cause in words.
    pub(crate) fn of(error: &io::Error) -> Self {
        let cause = error.get_ref().and_then(|inner| inner.downcast_ref());
        let cause: &EndCause = cause.expect("the cause is the payload");
        Self::Error(error.kind(), cause.clone())
    }
}

/// Reads all there is, and how it ended; a second read must say the same.
pub(crate) async fn read_out(reader: &mut ChannelReader) -> (Vec<u8>, End) {
    let mut all = Vec::new();
    let end = match reader.read_to_end(&mut all).await {
        Ok(_) => End::Eof,
        Err(error) => End::of(&error),
    };
    let again = match reader.read(&mut [0; 8]).await {
        Ok(n) => {
            assert_eq!(n, 0, "bytes behind the end");
            End::Eof
        }
        Err(error) => End::of(&error),
    };
    assert_eq!(again, end, "an end stays what it was");
    (all, end)
}

/// Fails where time (paused, or real) passes and nothing comes.
pub(crate) async fn within<F: Future>(time: Duration, future: F) -> F::Output {
    match tokio::time::timeout(time, future).await {
        Ok(output) => output,
        Err(_) => panic!("nothing came within {time:?}"),
    }
}

/// Ends the process where a test takes real time: with paused time a session
/// that spins keeps the clock from moving, and the test from failing.
#[must_use = "it watches until it is dropped"]
pub(crate) struct Watchdog(Arc<AtomicBool>);

impl Watchdog {
    pub(crate) fn bites_after(time: Duration) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&done);
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        std::thread::spawn(move || {
            let until = std::time::Instant::now() + time;
            while std::time::Instant::now() < until {
                std::thread::sleep(Duration::from_millis(20));
                if watched.load(Ordering::Relaxed) {
                    return;
                }
            }
            eprintln!("{test}: still running after {time:?}");
            std::process::abort();
        });
        Self(done)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
