//! The client's whole WebSocket: an upgrade request, masked frames that are built before,
//! and a skipper of headers.
use base64::{Engine, engine::general_purpose::STANDARD as B64};
use std::io::{self, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::h2::H2;
use crate::transport::{Place, Stream, Transport};

pub struct Conn {
    pub s: Stream,
    /// Bytes that arrived after the response's head.
    pub rest: Vec<u8>,
    /// The peer answered with the protocol `raw`, which has no framing.
    pub raw: bool,
}

pub async fn open(place: Place, target: &str, proto: &str) -> io::Result<Conn> {
    let conn = shake_hands(place, target, proto).await?;
    conn.s.set_nodelay()?;
    Ok(conn)
}

/// Makes an upgrade and does nothing else, because the client is the limit there.
///
/// There is no `User-Agent`, because a server of exec may hold output for some clients.
pub async fn shake_hands(place: Place, target: &str, proto: &str) -> io::Result<Conn> {
    let mut s = Stream::connect(place).await?;
    let Transport { tls, h2, .. } = place.transport;
    if h2 {
        s.set_nodelay()?;
        return Ok(Conn {
            s: Stream::H2(Box::new(H2::open(s, target, proto, tls).await?)),
            rest: vec![],
            raw: false,
        });
    }
    let req = format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {proto}\r\n\r\n",
        place.address.port()
    );
    let (head, rest) = ask(&mut s, &req).await?;
    if !head.contains("s3pplmbitxaq9kygzzhzrbk+xoo=") {
        return Err(io::Error::other("wrong accept key"));
    }
    let raw = head.contains("sec-websocket-protocol: raw");
    let wanted = format!("sec-websocket-protocol: {}", proto.to_ascii_lowercase());
    if !raw && !head.contains(&wanted) {
        return Err(io::Error::other(format!("protocol not echoed: {head}")));
    }
    Ok(Conn { s, rest, raw })
}

/// Sends a request for an upgrade. Returns the answer's head in lower case, and what follows
/// it.
pub async fn ask(s: &mut Stream, request: &str) -> io::Result<(String, Vec<u8>)> {
    s.write_all(request.as_bytes()).await?;
    let mut b = vec![0u8; 2048];
    let mut n = 0;
    let end = loop {
        let k = s.read(&mut b[n..]).await?;
        if k == 0 {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "closed in handshake",
            ));
        }
        n += k;
        if let Some(i) = b[..n].windows(4).position(|w| w == b"\r\n\r\n") {
            break i + 4;
        }
        if n == b.len() {
            return Err(io::Error::other("response head too long"));
        }
    };
    let head = String::from_utf8_lossy(&b[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 101") {
        return Err(io::Error::other(format!(
            "not upgraded: {}",
            head.lines().next().unwrap_or("")
        )));
    }
    Ok((head, b[end..n].to_vec()))
}

/// Returns a masked data frame with `payload` on `ch`: as base64 text with `b64`, and as bare
/// payload with `raw`.
pub fn frame(out: &mut Vec<u8>, ch: u8, payload: &[u8], b64: bool, raw: bool) {
    if raw {
        out.extend_from_slice(payload);
        return;
    }
    let body = if b64 {
        let mut v = vec![b'0' + ch];
        v.extend_from_slice(B64.encode(payload).as_bytes());
        v
    } else {
        let mut v = vec![ch];
        v.extend_from_slice(payload);
        v
    };
    ws_frame(out, if b64 { 1 } else { 2 }, &body);
}

pub fn ws_frame(out: &mut Vec<u8>, op: u8, body: &[u8]) {
    let mask = [0x37u8, 0xfa, 0x21, 0x3d];
    out.push(0x80 | op);
    match body.len() {
        n @ 0..=125 => out.push(0x80 | n as u8),
        n @ 126..=65535 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(n as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(body.iter().enumerate().map(|(i, b)| b ^ mask[i & 3]));
}

/// Walks over the server's frames without copying, and counts them.
#[derive(Default)]
pub struct Skip {
    skip: u64,
    hdr: [u8; 16],
    have: usize,
    /// Complete data messages.
    pub msgs: u64,
    /// Bytes of payload after the channel byte; for base64, the decoded size.
    pub bytes: u64,
    pub frames: u64,
    pub closed: bool,
    /// The first bytes of the last data frame, for the sink's answer.
    pub last: Vec<u8>,
    keep: usize,
    pub keep_last: bool,
    pub bad: u64,
    /// Checks the content against the sources' pattern, in the first frame of each message.
    pub raw: bool,
    raw_unit: u64,
    raw_seen: u64,
    b64: bool,
}

impl Skip {
    pub fn new(raw: bool, raw_unit: usize, b64: bool) -> Self {
        Skip {
            raw,
            raw_unit: raw_unit.max(1) as u64,
            b64,
            ..Default::default()
        }
    }

    /// Also needs the channel, which is one byte after the header of a data frame.
    #[inline(always)]
    fn header(&mut self, b: &[u8]) -> Option<usize> {
        if b.len() < 2 {
            return None;
        }
        let op = b[0] & 15;
        let (h, len) = match b[1] {
            n @ 0..=125 => (2, n as u64),
            126 if b.len() >= 4 => (4, u16::from_be_bytes([b[2], b[3]]) as u64),
            127 if b.len() >= 10 => (10, u64::from_be_bytes(b[2..10].try_into().unwrap())),
            126 | 127 => return None,
            _ => {
                self.bad += 1; // A server must not mask.
                (2, 0)
            }
        };
        match op {
            1 | 2 => {
                if len == 0 {
                    self.bad += 1;
                    return Some(h);
                }
                let ch = *b.get(h)?;
                // The channel is stdout or stderr, as a byte or as a digit.
                if !matches!(ch & 0xcf, 1 | 2) {
                    self.bad += 1;
                }
                self.frames += 1;
                self.msgs += (b[0] >> 7) as u64;
                self.bytes += if self.b64 { (len - 1) / 4 * 3 } else { len - 1 };
                self.skip = len - 1;
                if self.keep_last {
                    self.last.clear();
                    self.keep = (len - 1).min(64) as usize;
                }
                Some(h + 1)
            }
            0 => {
                self.frames += 1;
                self.msgs += (b[0] >> 7) as u64;
                self.bytes += len;
                self.skip = len;
                Some(h)
            }
            8 => {
                self.closed = true;
                self.skip = len;
                Some(h)
            }
            9 | 10 => {
                self.skip = len;
                Some(h)
            }
            _ => {
                self.bad += 1;
                Some(h)
            }
        }
    }

    pub fn feed(&mut self, mut b: &[u8]) {
        if self.raw {
            self.bytes += b.len() as u64;
            self.raw_seen += b.len() as u64;
            self.msgs = self.raw_seen / self.raw_unit;
            if self.keep_last {
                self.last.extend_from_slice(&b[..b.len().min(64)]);
            }
            return;
        }
        loop {
            if self.skip > 0 {
                let k = self.skip.min(b.len() as u64) as usize;
                if self.keep > 0 {
                    let t = self.keep.min(k);
                    self.last.extend_from_slice(&b[..t]);
                    self.keep -= t;
                }
                b = &b[k..];
                self.skip -= k as u64;
            }
            if b.is_empty() {
                return;
            }
            if self.have > 0 {
                let (mut t, had) = (self.hdr, self.have);
                let k = (16 - had).min(b.len());
                t[had..had + k].copy_from_slice(&b[..k]);
                match self.header(&t[..had + k]) {
                    Some(used) => {
                        self.have = 0;
                        b = &b[used - had..];
                    }
                    None => {
                        self.hdr = t;
                        self.have = had + k;
                        return;
                    }
                }
            } else {
                match self.header(b) {
                    Some(used) => b = &b[used..],
                    None => {
                        self.hdr[..b.len()].copy_from_slice(b);
                        self.have = b.len();
                        return;
                    }
                }
            }
        }
    }
}
