//! The client's whole HTTP/2: one stream of one connection, made by an extended CONNECT.
//!
//! It grants the largest windows, so that only the server's bound what is in flight.

use std::{
    io::{self, ErrorKind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The head of a frame.
const HEAD: usize = 9;

/// The window that each of a connection and a stream begins with.
const WINDOW: i64 = 65_535;

/// The largest window.
const MOST: u32 = (1 << 31) - 1;

/// The bytes that one read takes, and the most that wait to be written.
const PIECE: usize = 128 * 1024;

/// The stream.
pub struct H2<S> {
    io: S,
    /// Bytes that were read, up to a frame that is not complete.
    raw: Vec<u8>,
    spare: Box<[u8]>,
    /// Data for the reader.
    data: Vec<u8>,
    at: usize,
    ended: bool,
    /// The status of the response.
    answered: Option<bool>,
    settled: bool,
    /// Received bytes that no WINDOW_UPDATE has returned.
    taken: u32,
    stream_window: i64,
    window: i64,
    initial: i64,
    largest: usize,
    out: Vec<u8>,
    out_at: usize,
}

fn head(out: &mut Vec<u8>, len: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// A header that is not indexed and not packed.
fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        assert!(text.len() < 127, "{text} needs a longer length");
        block.push(text.len() as u8);
        block.extend_from_slice(text.as_bytes());
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> H2<S> {
    /// Makes the WebSocket. The answer's subprotocol is not looked at, because that needs the
    /// whole of HPACK.
    pub async fn open(io: S, target: &str, proto: &str, tls: bool) -> io::Result<Self> {
        let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        head(&mut out, 6, SETTINGS, 0, 0);
        out.extend_from_slice(&[0, 4]); // SETTINGS_INITIAL_WINDOW_SIZE
        out.extend_from_slice(&MOST.to_be_bytes());
        head(&mut out, 4, WINDOW_UPDATE, 0, 0);
        out.extend_from_slice(&(MOST - WINDOW as u32).to_be_bytes());
        let mut this = Self {
            io,
            raw: Vec::new(),
            spare: vec![0; PIECE].into(),
            data: Vec::new(),
            at: 0,
            ended: false,
            answered: None,
            settled: false,
            taken: 0,
            stream_window: WINDOW,
            window: WINDOW,
            initial: WINDOW,
            largest: 16 * 1024,
            out,
            out_at: 0,
        };
        this.flush().await?;
        // The server's settings allow an extended CONNECT.
        while !this.settled {
            this.more().await?;
        }
        let mut block = vec![];
        field(&mut block, ":method", "CONNECT");
        field(&mut block, ":protocol", "websocket");
        field(&mut block, ":scheme", if tls { "https" } else { "http" });
        field(&mut block, ":path", target);
        field(&mut block, ":authority", "localhost");
        field(&mut block, "sec-websocket-version", "13");
        field(&mut block, "sec-websocket-protocol", proto);
        head(&mut this.out, block.len(), HEADERS, END_HEADERS, 1);
        this.out.extend(block);
        this.flush().await?;
        loop {
            match this.answered {
                Some(true) => return Ok(this),
                Some(false) => return Err(io::Error::other("not upgraded")),
                None => this.more().await?,
            }
        }
    }

    async fn more(&mut self) -> io::Result<()> {
        let n = self.io.read(&mut self.spare).await?;
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.take(n)
    }

    /// Takes the bytes that were read.
    fn take(&mut self, n: usize) -> io::Result<()> {
        let spare = std::mem::take(&mut self.spare);
        let mut raw = std::mem::take(&mut self.raw);
        let result = if raw.is_empty() {
            let used = self.frames(&spare[..n]);
            used.map(|used| raw.extend_from_slice(&spare[used..n]))
        } else {
            raw.extend_from_slice(&spare[..n]);
            self.frames(&raw).map(|used| drop(raw.drain(..used)))
        };
        self.spare = spare;
        self.raw = raw;
        result
    }

    /// Takes all complete frames, and returns their length.
    fn frames(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let [a, b, c, kind, flags, s @ ..] = rest
            && let Some((stream, body)) = s.split_first_chunk::<4>()
            && let Some(body) = body.get(..u32::from_be_bytes([0, *a, *b, *c]) as usize)
        {
            let stream = u32::from_be_bytes(*stream);
            rest = &rest[HEAD + body.len()..];
            self.frame(*kind, *flags, stream, body)?;
        }
        Ok(bytes.len() - rest.len())
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, body: &[u8]) -> io::Result<()> {
        let word = |at: usize| {
            body.get(at..at + 4)
                .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        };
        match kind {
            DATA => {
                self.data.extend_from_slice(body);
                self.ended |= flags & END_STREAM != 0;
                self.taken += body.len() as u32;
                if self.taken > MOST / 4 {
                    for stream in [0, 1] {
                        head(&mut self.out, 4, WINDOW_UPDATE, 0, stream);
                        self.out.extend_from_slice(&self.taken.to_be_bytes());
                    }
                    self.taken = 0;
                }
            }
            // The entry of HPACK's table for the status 200.
            HEADERS if self.answered.is_none() => self.answered = Some(body.first() == Some(&0x88)),
            HEADERS => self.ended |= flags & END_STREAM != 0,
            SETTINGS if flags & ACK == 0 => {
                for setting in body.chunks_exact(6) {
                    let value = u32::from_be_bytes(setting[2..].try_into().unwrap());
                    match setting[1] {
                        4 => {
                            self.stream_window += i64::from(value) - self.initial;
                            self.initial = i64::from(value);
                        }
                        5 => self.largest = value as usize,
                        _ => {}
                    }
                }
                self.settled = true;
                head(&mut self.out, 0, SETTINGS, ACK, 0);
            }
            PING if flags & ACK == 0 => {
                head(&mut self.out, body.len(), PING, ACK, 0);
                self.out.extend_from_slice(body);
            }
            WINDOW_UPDATE => {
                let more = i64::from(word(0).unwrap_or(0));
                match stream {
                    0 => self.window += more,
                    _ => self.stream_window += more,
                }
            }
            RST_STREAM | GOAWAY => {
                return Err(io::Error::other(format!(
                    "frame {kind}: {:?}",
                    word(body.len().saturating_sub(4))
                )));
            }
            _ => {}
        }
        Ok(())
    }

    fn poll_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out_at < self.out.len() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out[self.out_at..]))?;
            if n == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.out_at += n;
        }
        self.out.clear();
        self.out_at = 0;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads once. `false` is the end.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut buf = ReadBuf::new(&mut self.spare);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf))?;
        let n = buf.filled().len();
        self.take(n)?;
        Poll::Ready(Ok(n > 0))
    }
}

impl<S> H2<S> {
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for H2<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.at == this.data.len() {
            this.data.clear();
            this.at = 0;
            // Answers to frames of the connection.
            if let Poll::Ready(Err(error)) = this.poll_out(cx) {
                return Poll::Ready(Err(error));
            }
            if this.ended || !ready!(this.poll_more(cx))? {
                return Poll::Ready(Ok(()));
            }
        }
        let n = buf.remaining().min(this.data.len() - this.at);
        buf.put_slice(&this.data[this.at..this.at + n]);
        this.at += n;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for H2<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_out(cx))?;
            let mut taken = 0;
            while taken < bytes.len() && this.out.len() < PIECE {
                let window = this.window.min(this.stream_window).max(0) as usize;
                let n = (bytes.len() - taken).min(window).min(this.largest);
                if n == 0 {
                    break;
                }
                head(&mut this.out, n, DATA, 0, 1);
                this.out.extend_from_slice(&bytes[taken..taken + n]);
                taken += n;
                this.window -= n as i64;
                this.stream_window -= n as i64;
            }
            if taken > 0 {
                if let Poll::Ready(Err(error)) = this.poll_out(cx) {
                    return Poll::Ready(Err(error));
                }
                return Poll::Ready(Ok(taken));
            }
            // Only the server can open the window.
            if !ready!(this.poll_more(cx))? {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_out(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
