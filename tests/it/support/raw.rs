//! A client that writes its frames by hand.
//!
//! It uses no WebSocket library, so it can send what no library would send, and it shows frames
//! as they arrived.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Join, ReadHalf, Sink,
    WriteHalf,
};

use super::head::Head;

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame, as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// Returns the code of a Close, if it has one.
    pub(crate) fn close_code(&self) -> Option<u16> {
        assert_eq!(self.opcode, CLOSE);
        let code = self.payload.get(..2)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }
}

/// Returns a masked frame from a client.
pub(crate) fn frame(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x5a, 0x01, 0xff, 0x80];
    let mut frame = head(fin, opcode, payload.len() as u64);
    frame.extend_from_slice(&KEY);
    let masked = payload.iter().zip(KEY.iter().cycle()).map(|(b, k)| b ^ k);
    frame.extend(masked);
    frame
}

/// Returns the head of a frame, up to the mask.
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

/// Returns the payload of a binary message for a channel.
pub(crate) fn on(channel: u8, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![channel];
    message.extend_from_slice(payload);
    message
}

/// Returns the payload of a base64 message for a channel.
pub(crate) fn base64(channel: u8, payload: &[u8]) -> Vec<u8> {
    use ::base64::Engine;
    let mut message = vec![b'0' + channel];
    let text = ::base64::engine::general_purpose::STANDARD.encode(payload);
    message.extend_from_slice(text.as_bytes());
    message
}

/// The client end of a session.
#[derive(Debug)]
pub(crate) struct Raw<T> {
    pub(crate) io: T,
    pub(crate) buf: BytesMut,
    base64: bool,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Raw<T> {
    /// Wraps a stream whose handshake has been made.
    pub(crate) fn over(io: T, offer: &str) -> Self {
        Self {
            io,
            buf: BytesMut::new(),
            base64: offer.contains("base64"),
        }
    }

    /// Makes the handshake. If the answer is not a 101, its head is the error.
    pub(crate) async fn handshake(io: T, offer: &str) -> Result<Self, String> {
        Self::handshake_at(io, "/", offer).await
    }

    /// Makes the handshake at a path, which may have a query.
    pub(crate) async fn handshake_at(io: T, path: &str, offer: &str) -> Result<Self, String> {
        let mut io = tokio::io::BufReader::with_capacity(1024, io);
        let head = match offer {
            "" => Head::to(path),
            name => Head::to(path).offer(name),
        };
        io.write_all(&head.bytes())
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

    /// Splits the client, so that another task can write.
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

    /// Sends one message of a channel, encoded for the subprotocol.
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

    /// Receives the next frame, or `None` if the connection ended or broke.
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

    /// Takes a complete frame out of the buffer.
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

    /// Reads to the end of the connection, and answers a Close, as clients do.
    pub(crate) async fn read_to_end(&mut self) -> Told {
        let told = self.read_to_close().await;
        if let Some(code) = told.close {
            // A client that has sent its own Close is not read any more.
            let _ = self.close(code).await;
            let behind = self.next().await;
            assert_eq!(behind, None, "behind the Close");
        }
        told
    }

    /// Reads up to a Close, which is not answered, or to the end of the connection.
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
                    // Each base64 fragment has its own padding.
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

    /// Splits a message, or its first fragment, into channel and payload.
    pub(crate) fn split(&self, payload: &[u8]) -> (u8, Vec<u8>) {
        let (first, rest) = payload.split_first().expect("a channel");
        match self.base64 {
            true => (first - b'0', self.decode(rest)),
            false => (*first, rest.to_vec()),
        }
    }

    /// Decodes a fragment that is not the first one of its message.
    pub(crate) fn decode(&self, payload: &[u8]) -> Vec<u8> {
        use ::base64::Engine;
        match self.base64 {
            true => ::base64::engine::general_purpose::STANDARD
                .decode(payload)
                .expect("base64"),
            false => payload.to_vec(),
        }
    }
}

/// Everything that a client received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) messages: Vec<(u8, Vec<u8>)>,
    /// The Pings and Pongs.
    pub(crate) controls: Vec<Frame>,
    /// The Close, if there was one, and its code.
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
