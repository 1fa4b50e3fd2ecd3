//! The client's end of a session.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream},
    time::sleep,
};

use super::{
    carrier::{Carrier, Kind, Transport},
    end::End,
};
use crate::support::{
    BINARY, CLOSE, PING, PONG, Raw, TEXT, base64, frame, http2, on,
    proxy::{Proxy, Way},
    secs,
    spdy::{Said, Spdy, control, data, fin, go_away, reset},
};

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

type BoxIo = Box<dyn Io>;

/// The largest frame that the server takes.
pub(super) const LARGEST: u64 = 100_000;

/// The part of its input that the client has sent before the end.
pub(super) const INPUT: &[u8] = b"before the end";

/// Further input, of which only a part is sent.
pub(super) const REST: &[u8] = &[b'7'; 300];

/// The streams of a session over SPDY.
#[derive(Clone, Copy, Debug, Default)]
struct Streams {
    error: u32,
    input: u32,
    output: u32,
}

/// The end of a stream of SPDY by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum StreamEnd {
    Fin,
    Reset(u32),
}

/// Everything that the client has received.
#[derive(Clone, Debug, Default)]
pub(super) struct Received {
    pub(super) output: Vec<u8>,
    /// The ends of its stream over SPDY. A reset may follow a FIN.
    pub(super) output_end: Vec<StreamEnd>,
    /// The data of the error channel.
    pub(super) error: Vec<u8>,
    pub(super) error_end: Vec<StreamEnd>,
    pub(super) close: Option<Option<u16>>,
    pub(super) go_away: Option<u32>,
}

enum Wire {
    Messages(Raw<BoxIo>),
    Streams(Spdy<BoxIo>, Streams),
}

pub(super) struct Client {
    carrier: Carrier,
    wire: Wire,
    /// Keeps a connection over HTTP/2 usable.
    _connection: Option<http2::Connection>,
}

fn path(kind: Kind) -> &'static str {
    match kind {
        Kind::Command | Kind::Plain => "/exec?command=x&stdin=1&stdout=1",
        Kind::Port => "/forward?ports=80",
        Kind::Reader => "/log",
    }
}

impl Client {
    /// Opens a session, and all channels of it that the end lets exist. There is none if the
    /// upgrade was not answered.
    pub(super) async fn open(near: DuplexStream, carrier: Carrier, end: End) -> Option<Self> {
        let (path, protocol) = (path(carrier.kind), carrier.protocol);
        let mut connection = None;
        let near: BoxIo = Box::new(near);
        let wire = match carrier.transport {
            Transport::Http1 => {
                let raw = Raw::handshake_at(near, path, protocol).await;
                raw.ok().map(|raw| Self::wire(raw, carrier))
            }
            Transport::Http2 => {
                let mut made = http2::handshake(near).await;
                let answer = made.try_ask(http2::request(path, protocol)).await;
                connection = Some(made);
                match answer {
                    Err(_) => None,
                    Ok(answer) => {
                        let raw = http2::upgraded(answer.expect("no refusal"), protocol).await;
                        let raw = Raw::over(Box::new(raw.io) as BoxIo, protocol);
                        Some(Self::wire(raw, carrier))
                    }
                }
            }
            Transport::Post if end == End::UpgradeFailed => {
                // Nothing is answered, and so this never returns.
                let post = Spdy::post_over(near, path, protocol);
                let post = tokio::spawn(tokio::time::timeout(secs(60), post));
                assert!(!matches!(post.await, Ok(Ok(_))), "there is no answer");
                None
            }
            Transport::Post => Some(Wire::Streams(
                Spdy::post_over(near, path, protocol).await,
                Streams::default(),
            )),
        };
        let wire = match wire {
            Some(_) if end == End::UpgradeFailed => panic!("there is no answer"),
            Some(wire) => wire,
            None => {
                assert_eq!(end, End::UpgradeFailed, "{carrier:?}");
                return None;
            }
        };
        let mut client = Self {
            carrier,
            wire,
            _connection: connection,
        };
        client.open_streams(end).await;
        Some(client)
    }

    fn wire(raw: Raw<BoxIo>, carrier: Carrier) -> Wire {
        match carrier.is_spdy() {
            true => Wire::Streams(Spdy::over(raw, true), Streams::default()),
            false => Wire::Messages(raw),
        }
    }

    async fn open_streams(&mut self, end: End) {
        let Wire::Streams(spdy, streams) = &mut self.wire else {
            return;
        };
        if self.carrier.kind == Kind::Port {
            let stream = spdy.connect(1, 80).await;
            *streams = Streams {
                error: 1,
                input: stream,
                output: stream,
            };
            return;
        }
        for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout")] {
            match kind {
                "error" => streams.error = stream,
                "stdin" if end == End::StreamsMissing => continue,
                "stdin" => streams.input = stream,
                _ => streams.output = stream,
            }
            let syn = spdy.syn(stream, &[("streamtype", kind)]);
            spdy.bytes(&syn).await;
            assert_eq!(spdy.next().await, Some(Said::Reply(stream)));
        }
    }

    /// Sends the first input.
    pub(super) async fn begin(&mut self) {
        match &mut self.wire {
            Wire::Messages(raw) => raw.send(0, INPUT).await.unwrap(),
            Wire::Streams(spdy, streams) => spdy.bytes(&data(streams.input, INPUT)).await,
        }
    }

    /// Returns a whole frame with the rest of the input, as it goes over the connection.
    fn rest(&self) -> Vec<u8> {
        match &self.wire {
            Wire::Messages(_) if self.carrier.is_base64() => frame(true, TEXT, &base64(0, REST)),
            Wire::Messages(_) => frame(true, BINARY, &on(0, REST)),
            Wire::Streams(_, streams) => {
                let data = data(streams.input, REST);
                match self.carrier.is_websocket() {
                    true => frame(true, BINARY, &data),
                    false => data,
                }
            }
        }
    }

    /// Returns a fragment that ends inside a message, or inside a frame of a tunnel.
    fn fragment(&self) -> Vec<u8> {
        match &self.wire {
            Wire::Messages(_) if self.carrier.is_base64() => frame(false, TEXT, &base64(0, REST)),
            Wire::Messages(_) => frame(false, BINARY, &on(0, REST)),
            Wire::Streams(_, streams) => {
                let data = data(streams.input, REST);
                frame(false, BINARY, &data[..data.len() / 2])
            }
        }
    }

    fn raw(&mut self) -> &mut Raw<BoxIo> {
        match &mut self.wire {
            Wire::Messages(raw) => raw,
            Wire::Streams(spdy, _) => &mut spdy.raw,
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.raw().bytes(bytes).await.expect("the server reads");
    }

    async fn half_a_frame(&mut self) {
        let rest = self.rest();
        self.say(&rest[..rest.len() / 2]).await;
        // It arrives before what follows.
        sleep(secs(1)).await;
    }

    async fn fin(&mut self) {
        if let Wire::Streams(spdy, _) = &mut self.wire {
            // It sends nothing any more, and so no answer to a PING.
            spdy.answers = false;
        }
        self.raw().io.shutdown().await.expect("a connection");
    }

    async fn close(&mut self, code: Option<u16>) {
        self.raw().close(code).await.expect("the server reads");
    }

    /// Does the client's part of the end. Returns the client if it reads what comes.
    pub(super) async fn act(mut self, end: End, proxy: &Proxy) -> Option<Self> {
        match end {
            End::EndsInput | End::KubectlsAbort => match &mut self.wire {
                Wire::Messages(raw) => raw.close_channel(0).await.unwrap(),
                Wire::Streams(spdy, streams) => spdy.bytes(&fin(streams.input)).await,
            },
            End::ResetsInput => self.frames(reset).await,
            End::Close1000 | End::CloseBothClose => self.close(Some(1000)).await,
            End::CloseWithoutCode => self.close(None).await,
            End::Close1001 => self.close(Some(1001)).await,
            // In one write, as kubectl does it.
            End::GoAway if self.carrier.is_websocket() => {
                let code = 1000_u16.to_be_bytes();
                let frames = [frame(true, BINARY, &go_away()), frame(true, CLOSE, &code)];
                self.say(&frames.concat()).await;
            }
            End::GoAway => self.say(&go_away()).await,
            End::Close1000InMessage => {
                let fragment = self.fragment();
                self.say(&fragment).await;
                self.close(Some(1000)).await;
            }
            End::Fin | End::SwallowFin | End::CloseBothFin => self.fin().await,
            End::FinInFrame => {
                self.half_a_frame().await;
                self.fin().await;
            }
            End::Cut => proxy.cut(),
            End::CutInFrame => {
                self.half_a_frame().await;
                proxy.cut();
            }
            End::Reset => proxy.reset(),
            End::StreamReset => return None,
            End::Vanishes => {
                proxy.stall(Way::Up);
                proxy.stall(Way::Down);
            }
            End::Fault => match self.carrier.is_spdy() {
                true => {
                    let mut ping = control(6, &[0, 0, 0, 1]);
                    ping[1] = 2;
                    self.frames(|_| ping).await;
                }
                false => self.say(&[0xc2, 0x80, 0, 0, 0, 0]).await,
            },
            End::TooLarge => {
                let mut head = vec![0x82, 0xff];
                head.extend_from_slice(&(LARGEST + 1).to_be_bytes());
                head.extend_from_slice(&[0; 4]);
                self.say(&head).await;
            }
            End::NotUtf8 => self.say(&frame(true, TEXT, &on(b'0', b"\xff"))).await,
            End::NotBase64 => self.say(&frame(true, TEXT, b"0!!!!")).await,
            End::StallUp => proxy.stall(Way::Up),
            End::StallDown | End::StallDownOk => proxy.stall(Way::Down),
            End::CloseBothOk => sleep(secs(20)).await,
            End::Ok
            | End::Exit
            | End::Status
            | End::Error
            | End::Target
            | End::Panic
            | End::Closes
            | End::Aborted
            | End::NeverReads
            | End::StreamsMissing
            | End::Idle
            | End::IdleIgnored
            | End::TimeLimit
            | End::Drain
            | End::DrainDeadline
            | End::UpgradeFailed
            | End::SwallowFinOk => {}
        }
        Some(self)
    }

    /// Sends frames of SPDY.
    async fn frames(&mut self, make: impl FnOnce(u32) -> Vec<u8>) {
        let Wire::Streams(spdy, streams) = &mut self.wire else {
            panic!("only SPDY has streams");
        };
        spdy.bytes(&make(streams.input)).await;
    }

    /// Receives everything, and ends the session as a client does once the server has.
    pub(super) async fn receive(self, received: Arc<Mutex<Received>>) {
        match self.wire {
            Wire::Messages(raw) => receive_messages(self.carrier, raw, &received).await,
            Wire::Streams(spdy, streams) => receive_frames(spdy, streams, &received).await,
        }
    }
}

async fn receive_messages(carrier: Carrier, mut raw: Raw<BoxIo>, received: &Mutex<Received>) {
    let mut channel = None;
    while let Some(frame) = raw.next().await {
        match frame.opcode {
            CLOSE => {
                received.lock().unwrap().close = Some(frame.close_code());
                // Fails if the client has sent its own, and the server is gone.
                let _ = raw.close(frame.close_code()).await;
            }
            PING => {
                let pong = crate::support::frame(true, PONG, &frame.payload);
                let _ = raw.bytes(&pong).await;
            }
            PONG => {}
            _ => {
                assert_eq!(received.lock().unwrap().close, None, "behind the Close");
                let (to, bytes) = match carrier.kind {
                    Kind::Reader if carrier.is_base64() => {
                        use ::base64::Engine;
                        let engine = ::base64::engine::general_purpose::STANDARD;
                        (1, engine.decode(&frame.payload).expect("base64"))
                    }
                    Kind::Reader => (1, frame.payload.to_vec()),
                    _ => match channel {
                        None => raw.split(&frame.payload),
                        Some(channel) => (channel, raw.decode(&frame.payload)),
                    },
                };
                channel = (!frame.fin).then_some(to);
                let mut received = received.lock().unwrap();
                // The channels of a port are 0 and 1.
                match (carrier.kind, to) {
                    (Kind::Port, 1) | (_, 3) => received.error.extend(bytes),
                    _ => received.output.extend(bytes),
                }
            }
        }
    }
}

async fn receive_frames(mut spdy: Spdy<BoxIo>, streams: Streams, received: &Mutex<Received>) {
    while let Some(said) = spdy.next().await {
        note(&said, streams, &mut received.lock().unwrap());
        match said {
            // A client without a WebSocket ends the connection now.
            Said::GoAway(..) if !spdy.is_tunnel() => {
                let _ = spdy.raw.io.shutdown().await;
            }
            Said::Close(code) => {
                let _ = spdy.raw.close(code).await;
            }
            _ => {}
        }
    }
}

fn note(said: &Said, streams: Streams, received: &mut Received) {
    let (stream, end) = match said {
        Said::Data(stream, bytes) => {
            let (all, end) = match *stream {
                stream if stream == streams.output => (&mut received.output, &received.output_end),
                stream if stream == streams.error => (&mut received.error, &received.error_end),
                stream => panic!("data of stream {stream}"),
            };
            assert!(end.is_empty(), "behind its end");
            return all.extend(bytes);
        }
        Said::Fin(stream) => (*stream, StreamEnd::Fin),
        Said::Reset(stream, status) => (*stream, StreamEnd::Reset(*status)),
        Said::GoAway(_, status) => return received.go_away = Some(*status),
        Said::Close(code) => return received.close = Some(*code),
        Said::Reply(_) | Said::Ping(_) => return,
    };
    let place = match stream {
        stream if stream == streams.output => &mut received.output_end,
        stream if stream == streams.error => &mut received.error_end,
        // The server only reads from it.
        stream if stream == streams.input => return,
        stream => panic!("the end of stream {stream}"),
    };
    place.push(end);
}
