//! A session that carries a number of messages over a connection in memory, and ends. The
//! script `run` beside this file counts its instructions.
//!
//! It covers the whole path, HTTP handshake included: hyper, `WsStreamLayer` with its
//! defaults, the session's task, framing, channels, and a service that reads and
//! writes. There is no socket: the client's bytes are made before.

use std::{
    env, io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet, ChannelType, Encoding,
    WsStreamLayer, subprotocols,
};

#[cfg(feature = "spdy")]
mod spdy;
#[path = "../support/mod.rs"]
mod support;

#[derive(Clone, Copy, Debug)]
enum Work {
    /// Channel 0 is read to its end.
    Upload,
    /// Channel 1 is written.
    Download,
    /// Messages are sent back, one in flight.
    RoundTrip,
}

/// Bytes that the client sends again and again.
struct Repeated {
    bytes: Vec<u8>,
    at: usize,
    /// The number of bytes that it will still send.
    left: usize,
}

impl Repeated {
    fn new(bytes: Vec<u8>, left: usize) -> Self {
        Self { bytes, at: 0, left }
    }

    /// Sends `most` bytes at most, and returns how many.
    fn read(&mut self, buf: &mut ReadBuf<'_>, most: usize) -> usize {
        let n = self.left.min(most).min(buf.remaining());
        self.left -= n;
        let mut rest = n;
        while rest > 0 {
            let bytes = &self.bytes[self.at..];
            let bytes = &bytes[..rest.min(bytes.len())];
            buf.put_slice(bytes);
            self.at = (self.at + bytes.len()) % self.bytes.len();
            rest -= bytes.len();
        }
        n
    }
}

/// The connection: the client's bytes, in the steps in which it sends them.
struct Connection {
    handshake: Vec<u8>,
    messages: Repeated,
    /// Bytes that may be read before the next answer.
    allowed: usize,
    /// Bytes that each answer allows; `usize::MAX` for a client that does not wait.
    step: usize,
    /// The client's last frames, after all messages.
    end: Vec<u8>,
    reader: Option<Waker>,
    shut: bool,
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.handshake.is_empty() {
            buf.put_slice(&std::mem::take(&mut this.handshake));
            return Poll::Ready(Ok(()));
        }
        let n = this.messages.read(buf, this.allowed);
        if n > 0 {
            this.allowed -= n;
            return Poll::Ready(Ok(()));
        }
        if this.messages.left == 0 && !this.end.is_empty() {
            buf.put_slice(&std::mem::take(&mut this.end));
            return Poll::Ready(Ok(()));
        }
        if this.shut {
            return Poll::Ready(Ok(()));
        }
        this.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.allowed = this.allowed.saturating_add(this.step);
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.shut = true;
        if let Some(reader) = this.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }
}

/// Reads to the end.
async fn sink(mut input: impl AsyncBufRead + Unpin) -> io::Result<()> {
    loop {
        let n = input.fill_buf().await?.len();
        if n == 0 {
            return Ok(());
        }
        input.consume(n);
    }
}

/// Writes the payload so many times.
async fn source(
    mut output: impl AsyncWrite + Unpin,
    payload: &[u8],
    count: usize,
) -> io::Result<()> {
    for _ in 0..count {
        output.write_all(payload).await?;
    }
    Ok(())
}

async fn serve(
    mut channels: ChannelSet,
    work: Work,
    payload: Vec<u8>,
    count: usize,
) -> Result<(), BoxError> {
    let mut input = channels.take_reader(0).ok_or("channel 0")?;
    let mut output = channels.take_writer(1).ok_or("channel 1")?;
    drop(channels);
    match work {
        Work::Download => source(output, &payload, count).await?,
        Work::Upload => sink(input).await?,
        Work::RoundTrip => loop {
            let bytes = input.fill_buf().await?;
            let n = bytes.len();
            if n == 0 {
                break;
            }
            output.write_all(bytes).await?;
            input.consume(n);
        },
    }
    Ok(())
}

async fn session(work: Work, base64: bool, size: usize, count: usize) -> Result<(), BoxError> {
    let subprotocol = if base64 {
        subprotocols::V4_BASE64
    } else {
        subprotocols::V4
    };
    let encoding = if base64 {
        Encoding::Base64
    } else {
        Encoding::Binary
    };
    let config = ChannelProtocolConfig::new(encoding, [ChannelType::Read, ChannelType::Write]);
    let protocols = ChannelProtocols::builder()
        .protocol(subprotocol, config)
        .build()?;
    let handshake = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    let one = support::messages(size, base64, 1).len();
    let connection = Connection {
        handshake: handshake.into_bytes(),
        messages: Repeated::new(
            support::messages(size, base64, (64 * 1024 / one).max(1)),
            match work {
                Work::Download => 0,
                Work::Upload | Work::RoundTrip => one * count,
            },
        ),
        allowed: match work {
            Work::RoundTrip => 0, // the 101 allows the first
            Work::Upload | Work::Download => usize::MAX,
        },
        step: one,
        // A Close with 1000, which is the end of input on v4.
        end: vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8],
        reader: None,
        shut: false,
    };
    let (ended, end) = tokio::sync::oneshot::channel();
    let ended = std::sync::Mutex::new(Some(ended));
    let ended = std::sync::Arc::new(ended);
    let service = ServiceBuilder::new()
        .layer(WsStreamLayer::new(protocols))
        .service_fn(move |channels: ChannelSet| {
            let ended = std::sync::Arc::clone(&ended);
            async move {
                let result = serve(channels, work, vec![7; size], count).await;
                if let Some(ended) = ended.lock().expect("no panic").take() {
                    let _ = ended.send(());
                }
                result
            }
        });
    let http = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(service))
        .with_upgrades();
    http.await?;
    Ok(end.await?)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn main() -> Result<(), BoxError> {
    let args: Vec<String> = env::args().skip(1).collect();
    #[cfg(feature = "spdy")]
    let spdy = match args.first().map(String::as_str) {
        Some("spdy-upload") => Some(spdy::Work::Upload),
        Some("spdy-bytes") => Some(spdy::Work::Bytes),
        Some("spdy-download") => Some(spdy::Work::Download),
        Some("spdy-connect") => Some(spdy::Work::Connect),
        _ => None,
    };
    #[cfg(feature = "spdy")]
    if let (Some(work), [_, size, count]) = (spdy, &args[..]) {
        return runtime()?.block_on(spdy::session(work, size.parse()?, count.parse()?));
    }
    let (work, base64) = match args.first().map(String::as_str) {
        Some("upload") => (Work::Upload, false),
        Some("upload64") => (Work::Upload, true),
        Some("download") => (Work::Download, false),
        Some("download64") => (Work::Download, true),
        Some("round-trip") => (Work::RoundTrip, false),
        _ => {
            println!("benches/instructions/run counts what this does");
            return Ok(());
        }
    };
    let [_, size, count] = &args[..] else {
        return Err("want WORK SIZE COUNT".into());
    };
    runtime()?.block_on(session(work, base64, size.parse()?, count.parse()?))
}
