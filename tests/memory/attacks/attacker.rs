//! A client that attacks. It writes its frames by hand, and reads when it is told to.

use std::{
    io::{ErrorKind, Write},
    net::TcpStream,
};

use tokio::net::TcpSocket;

use super::{
    http2::Http2,
    pipe::Pipe,
    target::{FROM_CLIENT, TO_CLIENT},
};
use crate::{
    frames::{fin, headers, ping, stored, syn},
    server::{self, Server},
};

/// The way of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// The messages of a WebSocket.
    Tunnel,
    /// A connection that was upgraded by a POST.
    Post,
    /// WebSocket over HTTP/1.1, in the clear and over TLS, and over HTTP/2.
    WebSocket,
    Tls,
    Http2,
}

impl Carrier {
    /// Returns which of a server's addresses is for this.
    pub(crate) fn address(self) -> usize {
        match self {
            Self::Tls => 2,
            Self::Tunnel | Self::Post | Self::WebSocket | Self::Http2 => 0,
        }
    }
}

/// One connection of an attacker.
pub(crate) struct Attacker {
    stream: Pipe,
    carrier: Carrier,
    /// Set once a header block was sent.
    begun: bool,
    /// The bytes that were sent after the handshake.
    pub(crate) sent: u64,
    /// The bytes that the server has not taken.
    waiting: Vec<u8>,
    given_up: bool,
    /// Set once the connection has ended.
    pub(crate) gone: bool,
    /// The status of the server's GOAWAY, or the code of its Close.
    pub(crate) go_away: Option<u32>,
    /// The last PING that the server has answered.
    pub(crate) answered: u32,
    /// Set to answer the server's PINGs, as Go's clients do.
    pub(crate) answers: bool,
    /// The number of PINGs of the server.
    pub(crate) asked: u32,
    /// Input that was not read: messages of a tunnel, and bytes of frames.
    messages: Vec<u8>,
    frames: Vec<u8>,
}

/// Connects with small buffers.
pub(crate) fn connect(address: &str) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(TO_CLIENT).unwrap();
        socket.set_send_buffer_size(FROM_CLIENT).unwrap();
        let stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream
    })
}

impl Attacker {
    /// Opens a session. By POST, `protocol` is what `X-Stream-Protocol-Version` offers.
    pub(crate) fn open(server: &Server, carrier: Carrier, path: &str, protocol: &str) -> Self {
        let mut stream = connect(&server.addresses[carrier.address()]);
        let stream = match carrier {
            Carrier::Tunnel => {
                let protocol = format!("SPDY/3.1+{protocol}");
                server::upgrade(&mut stream, path, &protocol);
                Pipe::Plain(stream)
            }
            Carrier::Post => {
                write!(
                    stream,
                    "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                     Upgrade: SPDY/3.1\r\nContent-Length: 0\r\n\
                     X-Stream-Protocol-Version: {protocol}\r\n\r\n",
                )
                .unwrap();
                server::read_101(&mut stream);
                Pipe::Plain(stream)
            }
            Carrier::WebSocket => {
                server::upgrade(&mut stream, path, protocol);
                Pipe::Plain(stream)
            }
            Carrier::Tls => Pipe::over_tls(stream, |tls| server::upgrade(tls, path, protocol)).0,
            Carrier::Http2 => {
                let mut stream = Http2::new(stream);
                stream.open(path, protocol);
                Pipe::Http2(Box::new(stream))
            }
        };
        Self::over(stream, carrier)
    }

    /// Attacks over a connection as it is.
    pub(crate) fn over(stream: Pipe, carrier: Carrier) -> Self {
        if let Pipe::Plain(tcp) = &stream {
            tcp.set_nonblocking(true).unwrap();
        }
        Self {
            stream,
            carrier,
            begun: false,
            sent: 0,
            waiting: Vec::new(),
            given_up: false,
            gone: false,
            go_away: None,
            answered: 0,
            answers: true,
            asked: 0,
            messages: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Returns a SYN_STREAM with these headers.
    pub(crate) fn syn(&mut self, stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.begun, true);
        syn(stream, &stored(&headers(fields), first))
    }

    /// Returns a header block.
    pub(crate) fn block(&mut self, fields: &[(&str, &str)]) -> Vec<u8> {
        let first = !std::mem::replace(&mut self.begun, true);
        stored(&headers(fields), first)
    }

    /// Returns the first stream of a connection.
    pub(crate) fn half(&mut self, error: u32, port: u16) -> Vec<u8> {
        self.stream_of(error, "error", error, port)
    }

    /// Returns both streams of a connection.
    pub(crate) fn pair(&mut self, error: u32, port: u16) -> Vec<u8> {
        let mut frames = self.half(error, port);
        frames.extend(fin(error));
        frames.extend(self.other_half(error, port));
        frames
    }

    /// Returns the second stream of a connection.
    pub(crate) fn other_half(&mut self, error: u32, port: u16) -> Vec<u8> {
        self.stream_of(error + 2, "data", error, port)
    }

    fn stream_of(&mut self, stream: u32, kind: &str, request: u32, port: u16) -> Vec<u8> {
        let (port, request) = (port.to_string(), request.to_string());
        self.syn(
            stream,
            &[
                ("streamtype", kind),
                ("port", &port),
                ("requestid", &request),
            ],
        )
    }

    /// Sends bytes of frames, in one message of a WebSocket.
    pub(crate) fn send(&mut self, frames: &[u8]) {
        match self.carrier {
            Carrier::Post => self.send_raw(frames),
            _ => self.send_raw(&message(frames)),
        }
    }

    /// Sends the PING of a session that is to show that it still works.
    pub(crate) fn ask(&mut self, number: u32) {
        match self.carrier {
            Carrier::Tunnel | Carrier::Post => self.send(&ping(number)),
            _ => {
                let payload = number.to_be_bytes();
                self.send_raw(&[&[0x89, 0x84, 0, 0, 0, 0][..], &payload].concat());
            }
        }
    }

    /// Sends bytes of frames, each in a message of its own in a tunnel.
    pub(crate) fn send_singly(&mut self, frames: &[u8]) {
        match self.carrier {
            Carrier::Post => self.send_raw(frames),
            _ => {
                let messages = frames.iter().flat_map(|byte| message(&[*byte]));
                self.send_raw(&messages.collect::<Vec<u8>>());
            }
        }
    }

    /// Sends bytes as they are. Those that the server does not take now wait.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.write();
    }

    /// Returns whether the server has taken everything.
    pub(crate) fn is_clear(&self) -> bool {
        self.waiting.is_empty() || self.gone
    }

    /// Returns whether the server is about to take something.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.is_clear() && !self.given_up
    }

    /// Returns whether the server has stopped taking anything.
    pub(crate) fn is_paused(&self) -> bool {
        !self.is_clear() && self.given_up
    }

    /// Notes that the server takes nothing any more.
    pub(crate) fn give_up(&mut self) {
        self.given_up = true;
    }

    /// Writes what waits. Returns whether the server has taken anything.
    pub(crate) fn write(&mut self) -> bool {
        self.stream.flush();
        let mut taken = 0;
        while taken < self.waiting.len() && !self.gone {
            match self.stream.write(&self.waiting[taken..]) {
                Ok(n) => taken += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.gone = true,
            }
        }
        self.waiting.drain(..taken);
        self.sent += taken as u64;
        taken > 0
    }

    /// Reads what has come, and answers the PINGs in it. Returns whether anything has come.
    pub(crate) fn hear(&mut self) -> bool {
        let mut buf = [0; 64 * 1024];
        let mut any = false;
        loop {
            match self.stream.read(&mut buf) {
                Ok(0) => self.gone = true,
                Ok(n) => {
                    any = true;
                    match self.carrier {
                        Carrier::Post => self.frames.extend_from_slice(&buf[..n]),
                        _ => self.messages.extend_from_slice(&buf[..n]),
                    }
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.gone = true,
            }
            break;
        }
        self.read_messages();
        let answers = self.read_frames();
        if self.answers && !answers.is_empty() {
            self.send(&answers);
        }
        any
    }

    fn read_messages(&mut self) {
        let mut at = 0;
        loop {
            let rest = &self.messages[at..];
            let (head, len) = match rest {
                [_, len @ ..126, ..] => (2, usize::from(*len)),
                [_, 126, a, b, ..] => (4, usize::from(u16::from_be_bytes([*a, *b]))),
                [_, 127, _, _, _, _, a, b, c, d, ..] => {
                    (10, u32::from_be_bytes([*a, *b, *c, *d]) as usize)
                }
                _ => break,
            };
            let Some(payload) = rest.get(head..head + len) else {
                break;
            };
            match (self.carrier, rest[0] & 0x0f) {
                (Carrier::Tunnel, 0..=2) => self.frames.extend_from_slice(payload),
                (Carrier::Tunnel | Carrier::Post, _) => {}
                (_, 8) => {
                    let code = payload.first_chunk().copied().map(u16::from_be_bytes);
                    self.go_away = Some(code.map_or(0, u32::from));
                }
                (_, 10) => {
                    if let Ok(number) = payload.try_into() {
                        self.answered = u32::from_be_bytes(number);
                    }
                }
                _ => {}
            }
            at += head + len;
        }
        self.messages.drain(..at);
    }

    /// Reads the frames that are complete, and returns the answers to them.
    fn read_frames(&mut self) -> Vec<u8> {
        let (mut at, mut answers) = (0, Vec::new());
        while let Some(head) = self.frames.get(at..at + 8) {
            let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
            let (first, len) = (number(&head[..4]), number(&head[4..]) & 0xff_ffff);
            let Some(body) = self.frames.get(at + 8..at + 8 + len as usize) else {
                break;
            };
            match first {
                0x8003_0006 if body[3].is_multiple_of(2) => {
                    self.asked += 1;
                    answers.extend(ping(number(body)));
                }
                0x8003_0006 => self.answered = number(body),
                0x8003_0007 => self.go_away = Some(number(&body[4..])),
                _ => {}
            }
            at += 8 + len as usize;
        }
        self.frames.drain(..at);
        answers
    }
}

/// Returns a message with the masking key 0.
pub(crate) fn message(payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0x82];
    match payload.len() {
        len @ ..126 => message.push(0x80 | len as u8),
        len @ 126..0x1_0000 => {
            message.push(0x80 | 126);
            message.extend((len as u16).to_be_bytes());
        }
        len => {
            message.push(0x80 | 127);
            message.extend((len as u64).to_be_bytes());
        }
    }
    message.extend([0; 4]);
    message.extend_from_slice(payload);
    message
}
