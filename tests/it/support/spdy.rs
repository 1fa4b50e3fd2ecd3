//! A client of SPDY that writes its frames by hand, with a reader of its own.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

pub(crate) use super::frames::{
    bomb, control, data, fin, go_away, headers, ping, reset, stored, syn,
};
use super::{
    head::Head,
    raw::{BINARY, CLOSE, Raw, frame},
    serve::{HttpService, serve},
    time::soon,
};

/// The subprotocol of `kubectl port-forward`.
pub(crate) const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

pub(crate) const REFUSED: u32 = 3;
pub(crate) const CANCEL: u32 = 5;

/// The header block of a reply without headers, which follows on the first one of a session.
const NO_HEADERS: &[u8] = b"\x00\x04\x00\xfb\xff\x00\x00\x00\x00\x00\x00\x00\xff\xff";

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Reply(u32),
    Data(u32, Bytes),
    /// An empty DATA frame that ends the server's direction of a stream.
    Fin(u32),
    /// An RST_STREAM, with its status.
    Reset(u32, u32),
    Ping(u32),
    /// A GOAWAY, with the last stream and the status.
    GoAway(u32, u32),
    /// The Close frame of a tunnel, with its code.
    Close(Option<u16>),
}

impl Said {
    pub(crate) fn data(stream: u32, data: &'static str) -> Self {
        Self::Data(stream, Bytes::from_static(data.as_bytes()))
    }
}

/// The client end of a session.
pub(crate) struct Spdy<T> {
    pub(crate) raw: Raw<T>,
    tunnel: bool,
    /// Set to answer the server's PINGs, as Go's clients do.
    pub(crate) answers: bool,
    /// Set once a block of headers was sent.
    begun: bool,
    /// Set once a reply has come.
    replied: bool,
    /// Bytes of frames that have not been read.
    bytes: BytesMut,
}

impl Spdy<DuplexStream> {
    /// Opens a tunnel in memory, in the messages of a WebSocket.
    pub(crate) async fn tunnel(service: impl HttpService) -> Self {
        Self::tunnel_with(service, 256 * 1024).await
    }

    /// Opens a tunnel in memory that holds `capacity` bytes in each direction.
    pub(crate) async fn tunnel_with(service: impl HttpService, capacity: usize) -> Self {
        let (near, far) = duplex(capacity);
        serve(far, service);
        let raw = Raw::handshake(near, TUNNEL).await.expect("no refusal");
        Self::over(raw, true)
    }

    /// Opens a session in memory by a POST.
    pub(crate) async fn post(service: impl HttpService, target: &str, protocol: &str) -> Self {
        let (near, far) = duplex(256 * 1024);
        serve(far, service);
        Self::post_over(near, target, protocol).await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Spdy<T> {
    /// Opens a session by a POST over a connection to a server.
    pub(crate) async fn post_over(near: T, target: &str, protocol: &str) -> Self {
        let opened = Self::try_post_over(near, target, protocol).await;
        opened.unwrap_or_else(|answer| panic!("{answer}"))
    }

    /// Opens a session over a connection that may break. An answer that is not a 101 is the error.
    pub(crate) async fn try_post_over(
        mut near: T,
        target: &str,
        protocol: &str,
    ) -> Result<Self, String> {
        let head = Head::plain(target)
            .line(&format!("POST {target} HTTP/1.1"))
            .with("Connection", "Upgrade")
            .with("Upgrade", "SPDY/3.1")
            .with("Content-Length", "0")
            .with("X-Stream-Protocol-Version", protocol);
        let sent = near.write_all(&head.bytes()).await;
        sent.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(near.read_u8().await.map_err(|error| error.to_string())?);
        }
        let text = String::from_utf8_lossy(&answer);
        match text.starts_with("HTTP/1.1 101 ") {
            true => Ok(Self::over(Raw::over(near, ""), false)),
            false => Err(text.into_owned()),
        }
    }

    /// Wraps a session whose handshake has been made.
    pub(crate) fn over(raw: Raw<T>, tunnel: bool) -> Self {
        Self {
            raw,
            tunnel,
            answers: true,
            begun: false,
            replied: false,
            bytes: BytesMut::new(),
        }
    }

    /// Returns whether the frames are in messages of a WebSocket.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Drops the connection, without a word.
    pub(crate) fn into_inner(self) -> T {
        self.raw.io
    }

    /// Sends bytes of frames, in one message of a tunnel.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        self.try_bytes(bytes).await.expect("the server reads");
    }

    /// Sends bytes of frames to a server that may have gone.
    pub(crate) async fn try_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.tunnel {
            true => self.raw.bytes(&frame(true, BINARY, bytes)).await,
            false => self.raw.bytes(bytes).await,
        }
    }

    /// Sends bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.raw.bytes(bytes).await
    }

    /// Sends a Close frame of a tunnel.
    pub(crate) async fn close(&mut self, code: u16) {
        self.raw.close(Some(code)).await.expect("the server reads");
    }

    /// Returns a SYN_STREAM with these headers.
    pub(crate) fn syn(&mut self, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.begun, true);
        syn(stream, &stored(&headers(fields), first))
    }

    /// Returns the two streams of a connection, of which `error` is the first.
    pub(crate) fn pair(&mut self, error: u32, port: u16) -> Vec<u8> {
        let (port, request) = (port.to_string(), error.to_string());
        let fields = |kind| {
            [
                ("streamtype", kind),
                ("port", &*port),
                ("requestid", &*request),
            ]
        };
        let mut frames = self.syn(error, &fields("error"));
        frames.extend(fin(error));
        frames.extend(self.syn(error + 2, &fields("data")));
        frames
    }

    /// Opens a connection in the steps of kubectl, and returns its data stream, which the server has
    /// not answered yet.
    pub(crate) async fn connect(&mut self, error: u32, port: u16) -> u32 {
        let frames = self.pair(error, port);
        self.bytes(&frames).await;
        assert_eq!(self.next().await, Some(Said::Reply(error)));
        error + 2
    }

    /// Receives the next frame, or `None` if the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        loop {
            match soon(self.next_at_any_time()).await {
                Some(Said::Ping(id)) if id.is_multiple_of(2) && self.answers => {
                    self.bytes(&ping(id)).await;
                }
                said => return said,
            }
        }
    }

    async fn next_at_any_time(&mut self) -> Option<Said> {
        loop {
            if let Some(said) = self.parse() {
                return Some(said);
            }
            if !self.tunnel {
                match self.raw.io.read_buf(&mut self.bytes).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => continue,
                }
            }
            let message = self.raw.next().await?;
            match message.opcode {
                CLOSE => return Some(Said::Close(message.close_code())),
                // Fragments and messages are the same: bytes.
                0 | BINARY => self.bytes.extend_from_slice(&message.payload),
                _ => {}
            }
        }
    }

    fn parse(&mut self) -> Option<Said> {
        let mut head = self.bytes.get(..8)?;
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, len) = (second >> 24, (second & 0xff_ffff) as usize);
        if self.bytes.len() < 8 + len {
            return None;
        }
        self.bytes.advance(8);
        let mut body = self.bytes.split_to(len).freeze();
        Some(match (first, flags, len) {
            (0x8003_0002, 0, _) => {
                let stream = body.get_u32();
                if !std::mem::replace(&mut self.replied, true) {
                    assert_eq!(body.get_u16(), 0x7801, "the head of a zlib stream");
                }
                assert_eq!(body, NO_HEADERS);
                Said::Reply(stream)
            }
            (0x8003_0003, 0, 8) => Said::Reset(body.get_u32(), body.get_u32()),
            (0x8003_0006, 0, 4) => Said::Ping(body.get_u32()),
            (0x8003_0007, 0, 8) => Said::GoAway(body.get_u32(), body.get_u32()),
            (1..=0x7fff_ffff, 1, 0) => Said::Fin(first),
            (1..=0x7fff_ffff, 0, 1..) => Said::Data(first, body),
            other => panic!("a frame that this end never sends: {other:x?}"),
        })
    }

    /// Receives as many frames.
    pub(crate) async fn take<const N: usize>(&mut self) -> [Said; N] {
        let mut said = VecDeque::new();
        for _ in 0..N {
            said.push_back(self.next().await.expect("another frame"));
        }
        std::array::from_fn(|_| said.pop_front().expect("as many"))
    }

    /// Receives the data of a stream up to its end, and skips everything else.
    pub(crate) async fn read_stream(&mut self, stream: u32) -> Vec<u8> {
        let mut data = Vec::new();
        loop {
            match self.next().await.expect("the end of the stream") {
                Said::Data(from, piece) if from == stream => data.extend_from_slice(&piece),
                Said::Fin(from) if from == stream => return data,
                Said::Reset(from, status) if from == stream => panic!("reset with {status}"),
                _ => {}
            }
        }
    }

    /// Receives everything up to the end of the connection. A Close is answered.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Said> {
        let mut all = Vec::new();
        while let Some(said) = self.next().await {
            if let Said::Close(code) = said {
                // Fails if the server has seen a fault, and waits for nothing.
                let _ = self.raw.close(code).await;
            }
            all.push(said);
        }
        all
    }
}
