//! A client of HTTP/2 that writes its frames by hand, with one stream that carries bytes.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// The preface of a connection, with SETTINGS that change nothing.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The flags of a frame.
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// The first byte of a header block that begins with `:status: 200`.
pub(super) const OK: u8 = 0x88;

/// The first byte of a header block that begins with `:status: 500`.
pub(super) const FAULT: u8 = 0x8e;

/// The time in which a server answers, unless something is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The bytes of a stream and of a connection that may be sent without a WINDOW_UPDATE.
const WINDOW: i64 = 65_535;

/// Returns a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// Returns a header block in which nothing is indexed or compressed (RFC 7541, section 6.2.2).
pub(super) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(mut rest) => {
                    block.push(127);
                    while rest >= 128 {
                        block.push(rest as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text.as_bytes());
        }
    }
    block
}

/// Returns the header block of a WebSocket handshake (RFC 8441), with more fields behind.
pub(super) fn handshake(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
    ];
    fields.extend(more);
    block(&fields)
}

/// Returns the frames of a header block, each of which has 16 KiB at most.
pub(super) fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    let pieces = block.chunks(16 * 1024);
    let last = pieces.len() - 1;
    let frames = pieces.enumerate().map(|(n, piece)| {
        let kind = if n == 0 { 1 } else { 9 };
        let flags = if n == last { END_HEADERS } else { 0 };
        frame(kind, flags, stream, piece)
    });
    frames.flatten().collect()
}

/// A connection, and what its first stream has received.
pub(super) struct Http2 {
    tcp: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// The bytes that may be sent on the connection, and on the stream.
    windows: [i64; 2],
    initial: i64,
    data: Vec<u8>,
    /// The first byte of the header block that answers each stream.
    pub(super) answers: Vec<(u32, u8)>,
    /// The number of streams that the server has reset.
    pub(super) resets: u32,
    /// Set once the server has sent GOAWAY with an error, or closed the connection.
    pub(super) is_over: bool,
    /// Set once the stream is over, in the direction to the client.
    ended: bool,
}

impl Http2 {
    pub(super) fn new(tcp: TcpStream) -> Self {
        tcp.set_nonblocking(true).unwrap();
        let mut connection = Self {
            tcp,
            out: Vec::new(),
            input: Vec::new(),
            windows: [WINDOW; 2],
            initial: WINDOW,
            data: Vec::new(),
            answers: Vec::new(),
            resets: 0,
            is_over: false,
            ended: false,
        };
        connection.put(PREFACE);
        connection
    }

    /// Opens a WebSocket on the stream that carries bytes.
    pub(super) fn open(&mut self, path: &str, protocol: &str) {
        let more = [
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", protocol),
        ];
        self.put(&headers(1, &handshake(path, &more)));
        self.until(|one| !one.answers.is_empty());
        assert_eq!(self.answers, [(1, OK)]);
    }

    /// Reads until something has happened.
    pub(super) fn until(&mut self, happened: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !happened(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "{} answers, {} resets, over: {}",
                self.answers.len(),
                self.resets,
                self.is_over,
            );
            self.hear();
            thread::yield_now();
        }
    }

    /// Returns whether everything is out.
    pub(super) fn is_clear(&self) -> bool {
        self.out.is_empty()
    }

    /// Queues frames, and sends what the server takes.
    pub(super) fn put(&mut self, frames: &[u8]) {
        self.out.extend_from_slice(frames);
        self.flush();
    }

    /// Sends what is queued. Returns whether all of it is out.
    pub(super) fn flush(&mut self) -> bool {
        while !self.out.is_empty() && !self.is_over {
            match self.tcp.write(&self.out) {
                Ok(n) => drop(self.out.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_over = true,
            }
        }
        self.out.is_empty()
    }

    /// Sends bytes on the stream, as many as the windows allow.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hear();
        if self.is_over || self.ended {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let room = self.windows[0].min(self.windows[1]).clamp(0, 16 * 1024);
        let n = bytes.len().min(room as usize);
        if !self.flush() || n == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.windows = self.windows.map(|window| window - n as i64);
        self.put(&frame(0, 0, 1, &bytes[..n]));
        Ok(n)
    }

    /// Reads bytes of the stream, and lets the server send as many again.
    pub(super) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.hear();
        let n = self.data.len().min(buf.len());
        if n == 0 {
            return match self.ended || self.is_over {
                true => Ok(0),
                false => Err(ErrorKind::WouldBlock.into()),
            };
        }
        buf[..n].copy_from_slice(&self.data[..n]);
        self.data.drain(..n);
        for stream in [0, 1] {
            self.put(&frame(8, 0, stream, &(n as u32).to_be_bytes()));
        }
        Ok(n)
    }

    /// Reads the frames that have come. Data of the stream is kept without a WINDOW_UPDATE.
    pub(super) fn hear(&mut self) {
        self.flush();
        let mut buf = [0; 16 * 1024];
        while !self.is_over {
            match self.tcp.read(&mut buf) {
                Ok(0) => self.is_over = true,
                Ok(n) => self.input.extend_from_slice(&buf[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.is_over = true,
            }
        }
        let mut at = 0;
        while let Some(&[a, b, c, kind, flags, s0, s1, s2, s3]) =
            self.input[at..].first_chunk::<9>()
        {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let stream = u32::from_be_bytes([s0, s1, s2, s3]);
            let Some(payload) = self.input.get(at + 9..at + 9 + len) else {
                break;
            };
            let payload = payload.to_vec();
            at += 9 + len;
            self.take(kind, flags, stream, &payload);
        }
        self.input.drain(..at);
        self.flush();
    }

    fn take(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        match kind {
            0 => self.data.extend_from_slice(payload),
            1 => {
                // Before it may stand an update of the table's size (RFC 7541, section 6.3).
                let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                self.answers.push((stream, *first.unwrap()));
            }
            3 => {
                self.resets += 1;
                self.ended |= stream == 1;
            }
            4 if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if setting[..2] == [0, 4] {
                        let initial = i64::from(number(&setting[2..]));
                        self.windows[1] += initial - self.initial;
                        self.initial = initial;
                    }
                }
                self.out.extend(frame(4, ACK, 0, &[]));
            }
            6 if flags & ACK == 0 => self.out.extend(frame(6, ACK, 0, payload)),
            // Without an error, streams that are open go on.
            7 => self.is_over |= payload[4..8] != [0; 4],
            8 if stream <= 1 => self.windows[stream as usize] += i64::from(number(payload)),
            _ => {}
        }
        if kind <= 1 && stream == 1 && flags & END_STREAM != 0 {
            self.ended = true;
        }
    }
}
