//! A tunnel of port-forward over a connection in memory. The client sends the frames that kubectl
//! sends, in messages of one field each.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, StreamingLayer,
    portforward::{ForwardedPort, PortForwardLayer, Protocols},
};

use super::{Repeated, sink, source};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Data of one connection is read to its end.
    Upload,
    /// The same, with every byte of a frame in a message of its own.
    Bytes,
    /// One connection is written.
    Download,
    /// Connections are made one after the other: a byte to the client, and the ends.
    Connect,
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// Appends a masked message.
fn message(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    out.push(0x80 | opcode);
    match payload.len() {
        len @ 0..126 => out.push(0x80 | len as u8),
        len => {
            out.push(0x80 | 126);
            out.extend((len as u16).to_be_bytes());
        }
    }
    out.extend(KEY);
    let keys = KEY.iter().cycle();
    out.extend(payload.iter().zip(keys).map(|(byte, key)| byte ^ key));
}

/// Appends a message for each field of a frame.
fn frame(out: &mut Vec<u8>, fields: &[&[u8]]) {
    for field in fields {
        message(out, 2, field);
    }
}

fn data(out: &mut Vec<u8>, stream: u32, payload: &[u8]) {
    let len = (payload.len() as u32).to_be_bytes();
    frame(out, &[&stream.to_be_bytes(), &len, payload]);
}

fn fin(out: &mut Vec<u8>, stream: u32) {
    frame(out, &[&stream.to_be_bytes(), &[1, 0, 0, 0], &[]]);
}

/// Packs with the fixed code of deflate, and ends the block with a flush.
fn pack(plain: &[u8], first: bool) -> Vec<u8> {
    let (mut out, mut bits, mut have) = (Vec::with_capacity(256), 0_u32, 0);
    if first {
        out.extend([0x78, 0xf9, 0xe3, 0xc6, 0xa7, 0xc2]);
    }
    let mut put = |value: u32, len: u32, out: &mut Vec<u8>| {
        bits |= value << have;
        have += len;
        while have >= 8 {
            out.push(bits as u8);
            bits >>= 8;
            have -= 8;
        }
    };
    put(0b010, 3, &mut out); // not the last block, the fixed code
    for byte in plain.iter().map(|byte| u32::from(*byte)) {
        // Codes begin with their highest bit.
        match byte {
            0..144 => put((0x30 + byte).reverse_bits() >> 24, 8, &mut out),
            _ => put((0x190 + byte - 144).reverse_bits() >> 23, 9, &mut out),
        }
    }
    put(0, 7, &mut out);
    put(0, 3, &mut out); // a stored block
    put(0, 7, &mut out);
    out.extend([0, 0, 0xff, 0xff]);
    out
}

fn open(out: &mut Vec<u8>, stream: u32, kind: &str, request: usize) {
    let request = request.to_string();
    let headers = ["streamtype", kind, "port", "9000", "requestid", &request];
    let mut plain = Vec::with_capacity(256);
    plain.extend(3_u32.to_be_bytes());
    for text in headers {
        plain.extend((text.len() as u32).to_be_bytes());
        plain.extend(text.bytes());
    }
    let block = pack(&plain, stream == 1);
    let len = (block.len() as u32 + 10).to_be_bytes();
    let stream = stream.to_be_bytes();
    frame(
        out,
        &[
            &[0x80, 3],
            &[0, 1],
            &len,
            &stream,
            &[0; 4],
            &[0],
            &[0],
            &block,
        ],
    );
}

/// The client.
struct Client {
    /// Bytes that it sends now.
    now: Vec<u8>,
    sent: usize,
    frames: Repeated,
    /// Connections that it has made, and those that it will make.
    made: usize,
    wanted: usize,
    /// The FINs of the server.
    fins: usize,
    /// What is left of the server's message, and the part of it that is looked at.
    skip: usize,
    head: Vec<u8>,
    reader: Option<Waker>,
    shut: bool,
    /// Dropped with the connection, which is the end of the session.
    _alive: oneshot::Sender<()>,
}

impl Client {
    /// Makes the next connection. Both streams are opened at once, which SPDY allows.
    fn connect(&mut self) {
        let stream = 4 * self.made as u32 + 1;
        open(&mut self.now, stream, "error", self.made);
        fin(&mut self.now, stream);
        open(&mut self.now, stream + 2, "data", self.made);
        self.made += 1;
        if self.frames.left == 0 {
            fin(&mut self.now, stream + 2);
        }
    }

    /// Looks at the heads of what the server sends.
    fn hear(&mut self, mut bytes: &[u8]) {
        // The answer to the handshake.
        if bytes.starts_with(b"HTTP") {
            return self.connect();
        }
        while !bytes.is_empty() {
            let n = self.skip.min(bytes.len());
            bytes = &bytes[n..];
            self.skip -= n;
            while self.skip == 0 && !bytes.is_empty() {
                self.head.push(bytes[0]);
                bytes = &bytes[1..];
                self.look();
            }
        }
    }

    fn look(&mut self) {
        let (len, at) = match self.head[..] {
            [_, 126, a, b, ..] => (usize::from(u16::from_be_bytes([a, b])), 4),
            [_, 127, ..] if self.head.len() >= 10 => {
                let len = self.head[2..10].iter();
                (len.fold(0, |sum, byte| sum << 8 | usize::from(*byte)), 10)
            }
            [_, 126 | 127, ..] => return,
            [_, len, ..] => (usize::from(len), 2),
            _ => return,
        };
        // Control frames and FINs are short.
        let looked = if len > 125 { 8 } else { len };
        if self.head.len() < at + looked {
            return;
        }
        let head = std::mem::take(&mut self.head);
        self.skip = len - looked;
        if head[0] & 15 == 2 {
            self.told(&head[at..]);
        }
        self.head = head;
        self.head.clear();
    }

    fn told(&mut self, mut frames: &[u8]) {
        while let [first, _, _, kind, flags, a, b, c, body @ ..] = frames {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            match (first & 0x80, kind) {
                (0x80, 6) => frame(
                    &mut self.now,
                    &[&[0x80, 3], &[0, 6], &[0, 0, 0, 4], &body[..4]],
                ),
                (0, _) if flags & 1 != 0 => self.ended(),
                _ => {}
            }
            frames = body.get(len..).unwrap_or_default();
        }
    }

    fn ended(&mut self) {
        self.fins += 1;
        if self.fins < 2 * self.made {
            return;
        }
        if self.made < self.wanted {
            return self.connect();
        }
        frame(
            &mut self.now,
            &[&[0x80, 3], &[0, 7], &[0, 0, 0, 8], &[0; 4], &[0; 4]],
        );
        message(&mut self.now, 8, &[3, 0xe8]);
    }
}

impl AsyncRead for Client {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.sent < this.now.len() {
            let n = buf.remaining().min(this.now.len() - this.sent);
            buf.put_slice(&this.now[this.sent..this.sent + n]);
            this.sent += n;
        } else if this.made > 0 && this.frames.left > 0 {
            this.now.clear();
            this.sent = 0;
            this.frames.read(buf, usize::MAX);
            if this.frames.left == 0 {
                fin(&mut this.now, 3);
            }
        } else if !this.shut {
            this.now.clear();
            this.sent = 0;
            this.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.hear(bytes);
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

async fn serve(
    port: ForwardedPort,
    work: Work,
    payload: Arc<[u8]>,
    count: usize,
) -> io::Result<()> {
    let (input, output) = port.stream.into_split();
    match work {
        Work::Upload | Work::Bytes => sink(input).await,
        Work::Download => source(output, &payload, count).await,
        Work::Connect => source(output, &payload[..1], 1).await,
    }
}

/// Runs one session. A message of [`Work::Bytes`] is one byte of a frame.
pub(crate) async fn session(work: Work, size: usize, count: usize) -> Result<(), BoxError> {
    let payload: Arc<[u8]> = vec![7; size].into();
    let mut one = vec![];
    data(&mut one, 3, &payload);
    if work == Work::Bytes {
        let mut plain = 3_u32.to_be_bytes().to_vec();
        plain.extend((size as u32).to_be_bytes());
        plain.extend(&payload[..]);
        one.clear();
        plain.iter().for_each(|byte| message(&mut one, 2, &[*byte]));
    }
    let left = match work {
        Work::Upload => one.len() * count,
        Work::Bytes => one.len() * count / (8 + size),
        Work::Download | Work::Connect => 0,
    };
    let (alive, end) = oneshot::channel();
    let client = Client {
        now: b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n\r\n"
            .to_vec(),
        sent: 0,
        frames: Repeated::new(one, left),
        made: 0,
        wanted: if work == Work::Connect { count } else { 1 },
        fins: 0,
        skip: 0,
        head: vec![],
        reader: None,
        shut: false,
        _alive: alive,
    };
    let service = ServiceBuilder::new()
        .layer(StreamingLayer::new(Protocols::default()))
        .layer(PortForwardLayer::new())
        .service_fn(move |port| serve(port, work, Arc::clone(&payload), count));
    hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(client), TowerToHyperService::new(service))
        .with_upgrades()
        .await?;
    let _ = end.await;
    Ok(())
}
