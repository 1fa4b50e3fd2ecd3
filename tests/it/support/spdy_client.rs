//! A client of SPDY that writes its frames by hand, alone or in the messages of a WebSocket.
//!
//! It compresses nothing: each header block is a stored block of deflate. It also reads by itself,
//! so that the crate's own decoder cannot hide a mistake of its encoder.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
};

use super::{
    head::Head,
    raw::{BINARY, Raw, frame},
    serve::{HttpService, serve},
};

/// The status of an RST_STREAM that takes the place of a reply.
pub(crate) const REFUSED: u32 = 3;

/// The status of an RST_STREAM that cancels a stream.
pub(crate) const CANCEL: u32 = 5;

/// The first header block of a server, and the blocks behind it. They have no headers.
const FIRST_REPLY: &[u8] = b"\x78\x01\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff";
const LATER_REPLY: &[u8] = b"\0\x04\0\xfb\xff\0\0\0\0\0\0\0\xff\xff";

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Reply(u32),
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
}

/// The client end of a session over SPDY.
#[derive(Debug)]
pub(crate) struct Spdy<T> {
    carrier: Carrier<T>,
    /// What was read of frames that are not complete.
    buf: BytesMut,
    has_opened: bool,
    has_reply: bool,
}

#[derive(Debug)]
enum Carrier<T> {
    Bare(T),
    Tunnel(Raw<T>),
}

/// Returns the head of a POST that asks for SPDY, with a line for each protocol.
pub(crate) fn post(path: &str, offers: &[&str]) -> Head {
    let head = Head::plain("/")
        .line(&format!("POST {path} HTTP/1.1"))
        .with("Connection", "Upgrade")
        .with("Upgrade", "SPDY/3.1")
        .with("Content-Length", "0");
    offers.iter().fold(head, |head, offer| {
        head.with("X-Stream-Protocol-Version", offer)
    })
}

/// Opens a session over SPDY in memory.
pub(crate) async fn open_spdy<S>(service: S, path: &str, offer: &str) -> Spdy<DuplexStream>
where
    S: HttpService,
{
    let (near, far) = tokio::io::duplex(256 * 1024);
    serve(far, service);
    let spdy = Spdy::handshake(near, &post(path, &[offer])).await;
    spdy.expect("no refusal")
}

impl<T: AsyncRead + AsyncWrite + Unpin> Spdy<T> {
    /// Sends the head of a POST. If the answer is not a 101, its head is the error.
    pub(crate) async fn handshake(io: T, head: &Head) -> Result<Self, String> {
        let mut io = BufReader::with_capacity(1024, io);
        let sent = io.write_all(&head.bytes()).await;
        sent.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        while !answer.ends_with("\r\n\r\n") {
            let read = io.read_line(&mut answer).await;
            if read.map_err(|error| error.to_string())? == 0 {
                break;
            }
        }
        if !answer.starts_with("HTTP/1.1 101 ") {
            return Err(answer);
        }
        let read = BytesMut::from(io.buffer());
        Ok(Self::over(Carrier::Bare(io.into_inner()), read))
    }

    /// Tunnels through a WebSocket.
    pub(crate) fn tunnel(raw: Raw<T>) -> Self {
        Self::over(Carrier::Tunnel(raw), BytesMut::new())
    }

    fn over(carrier: Carrier<T>, buf: BytesMut) -> Self {
        Self {
            carrier,
            buf,
            has_opened: false,
            has_reply: false,
        }
    }

    /// Sends bytes as they are: in a tunnel, as one message.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.carrier {
            Carrier::Bare(io) => io.write_all(bytes).await,
            Carrier::Tunnel(raw) => raw.bytes(&frame(true, BINARY, bytes)).await,
        }
    }

    /// Opens a stream.
    pub(crate) async fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> io::Result<()> {
        let syn = self.syn(stream, headers);
        self.bytes(&syn).await
    }

    /// Returns the frame that opens a stream.
    pub(crate) fn syn(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut block = (headers.len() as u32).to_be_bytes().to_vec();
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.extend((text.len() as u32).to_be_bytes());
            block.extend(text.as_bytes());
        }
        let mut payload = stream.to_be_bytes().to_vec();
        // No associated stream, no priority, no slot.
        payload.extend([0; 6]);
        if !self.has_opened {
            self.has_opened = true;
            // The head of zlib, and the checksum of SPDY's dictionary.
            payload.extend(*b"\x78\xf9\xe3\xc6\xa7\xc2");
        }
        let length = block.len() as u16;
        payload.push(0);
        payload.extend(length.to_le_bytes());
        payload.extend((!length).to_le_bytes());
        payload.extend(block);
        // The end of a sync flush.
        payload.extend(*b"\0\0\0\xff\xff");
        control(1, &payload)
    }

    /// Sends data.
    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        self.bytes(&data(stream, false, bytes)).await
    }

    /// Ends this direction of a stream.
    pub(crate) async fn fin(&mut self, stream: u32) -> io::Result<()> {
        self.bytes(&data(stream, true, b"")).await
    }

    pub(crate) async fn reset(&mut self, stream: u32, status: u32) -> io::Result<()> {
        let payload = [stream.to_be_bytes(), status.to_be_bytes()].concat();
        self.bytes(&control(3, &payload)).await
    }

    pub(crate) async fn ping(&mut self, id: u32) -> io::Result<()> {
        self.bytes(&control(6, &id.to_be_bytes())).await
    }

    pub(crate) async fn go_away(&mut self) -> io::Result<()> {
        self.bytes(&control(7, &[0; 8])).await
    }

    /// Receives the next frame, or `None` if the connection ended or broke.
    ///
    /// Probes, which are PINGs with even numbers, are answered.
    pub(crate) async fn next(&mut self) -> Option<Sent> {
        loop {
            while let Some(sent) = self.parse() {
                match sent {
                    Sent::Ping(id) if id % 2 == 0 => {
                        let _ = self.ping(id).await;
                    }
                    sent => return Some(sent),
                }
            }
            match &mut self.carrier {
                Carrier::Bare(io) => match io.read_buf(&mut self.buf).await {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                },
                Carrier::Tunnel(raw) => {
                    let frame = raw.next().await?;
                    match frame.opcode {
                        0 | BINARY => self.buf.extend_from_slice(&frame.payload),
                        super::raw::CLOSE => return None,
                        opcode => assert!(opcode > BINARY, "a tunnel has no text"),
                    }
                }
            }
        }
    }

    /// Takes a complete frame out of the buffer, and checks what is fixed about it.
    fn parse(&mut self) -> Option<Sent> {
        let head = self.buf.get(..8)?;
        let first = u32::from_be_bytes(head[..4].try_into().unwrap());
        let flags = head[4];
        let length = u32::from_be_bytes(head[4..8].try_into().unwrap()) as usize & 0xff_ffff;
        if self.buf.len() < 8 + length {
            return None;
        }
        self.buf.advance(8);
        let mut payload = self.buf.split_to(length).freeze();
        if first >> 31 == 0 {
            assert!(flags <= 1 && (length > 0 || flags == 1), "{flags} {length}");
            return Some(Sent::Data {
                stream: first,
                fin: flags == 1,
                bytes: payload,
            });
        }
        assert_eq!((first >> 16, flags), (0x8003, 0), "version 3, no flags");
        let sent = match first & 0xffff {
            2 => {
                let stream = payload.get_u32();
                let block = match std::mem::replace(&mut self.has_reply, true) {
                    false => FIRST_REPLY,
                    true => LATER_REPLY,
                };
                assert_eq!(payload, block, "no headers");
                return Some(Sent::Reply(stream));
            }
            3 => Sent::Reset {
                stream: payload.get_u32(),
                status: payload.get_u32(),
            },
            6 => Sent::Ping(payload.get_u32()),
            7 => Sent::GoAway {
                last: payload.get_u32(),
                status: payload.get_u32(),
            },
            kind => panic!("a server does not send frames of type {kind}"),
        };
        assert!(payload.is_empty(), "{sent:?}");
        Some(sent)
    }
}

/// Returns a control frame.
pub(crate) fn control(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3, 0, kind];
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame
}

/// Returns a frame of data.
pub(crate) fn data(stream: u32, fin: bool, bytes: &[u8]) -> Vec<u8> {
    let mut frame = stream.to_be_bytes().to_vec();
    frame.extend(((u32::from(fin) << 24) | bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
    frame
}
