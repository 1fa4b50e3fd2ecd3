//! The client's two halves: one writes its script, and the other reads to the end.

use std::time::Duration;

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Join, ReadHalf, Sink, WriteHalf},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::sleep,
};
use tower_wsstream::Status;

use crate::{
    carrier::Carrier,
    random::Random,
    raw::{CLOSE, PING, PONG, Raw},
    spdy::{Said, Spdy},
};

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) type BoxIo = Box<dyn Io>;
type Reading = Raw<Join<ReadHalf<BoxIo>, Sink>>;

/// The way in which a client breaks off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Shuts its direction down, and reads on.
    Shutdown,
    /// Drops the connection.
    Drop,
}

/// A client's script.
#[derive(Debug)]
pub(crate) struct Script {
    /// The frames, in their order.
    pub(crate) frames: Vec<Vec<u8>>,
    /// The number of bytes of these after which the client leaves.
    pub(crate) cut: Option<(usize, Leave)>,
    /// The number of bytes of output after which it drops the connection.
    pub(crate) enough: Option<u64>,
    /// The fewest bytes of one write.
    pub(crate) least: usize,
    /// The longest wait between two frames.
    pub(crate) pause: u64,
    pub(crate) slow_writer: bool,
    pub(crate) slow_reader: bool,
}

/// The end of a stream of SPDY by the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    Fin,
    Reset(u32),
}

/// The output received on one lane.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard {
    pub(crate) output: Vec<u8>,
    pub(crate) output_end: Option<StreamEnd>,
    pub(crate) error: Vec<u8>,
    pub(crate) error_end: Option<StreamEnd>,
}

/// The output of a session, and its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) lanes: Vec<Heard>,
    pub(crate) close: Option<Option<u16>>,
    pub(crate) go_away: Option<u32>,
    /// Set if the client has ended the session in order.
    pub(crate) said_goodbye: bool,
    /// The first thing received that should not have been sent.
    pub(crate) wrong: Option<String>,
    /// The number of bytes of the script that were written.
    pub(crate) written: usize,
    /// Set if the client has broken off.
    pub(crate) left: bool,
}

impl Told {
    fn output(&self) -> u64 {
        self.lanes.iter().map(|lane| lane.output.len() as u64).sum()
    }

    /// Returns whether a client that knows its carrier takes this lane for a success.
    pub(crate) fn is_success(&self, carrier: Carrier, lane: usize) -> bool {
        let heard = &self.lanes[lane];
        let fin = Some(StreamEnd::Fin);
        match carrier {
            Carrier::Messages(_) => self.close == Some(Some(1000)),
            Carrier::Command => {
                let status = Status::from_json(&heard.error);
                status.is_ok_and(|status| status.is_success()) && heard.error_end == fin
            }
            Carrier::Post | Carrier::Tunnel => {
                heard.error.is_empty() && heard.error_end == fin && heard.output_end == fin
            }
        }
    }

    /// Returns whether the client knows how a lane has ended.
    pub(crate) fn has_ended(&self, carrier: Carrier, lane: usize) -> bool {
        let heard = &self.lanes[lane];
        match carrier {
            Carrier::Messages(_) => self.close.is_some(),
            Carrier::Command => heard.error_end.is_some(),
            Carrier::Post | Carrier::Tunnel => {
                heard.error_end.is_some() && heard.output_end.is_some()
            }
        }
    }
}

/// A request of the reading half to the writing half.
enum Ask {
    Bytes(Vec<u8>),
    Shutdown,
}

/// Follows the script until the connection has ended or the client leaves.
pub(crate) async fn run(
    carrier: Carrier,
    raw: Raw<BoxIo>,
    lanes: usize,
    script: &Script,
    random: &mut Random,
) -> Told {
    let (raw, half) = raw.into_halves();
    let (asks, asked) = unbounded_channel();
    let mut told = Told {
        lanes: vec![Heard::default(); lanes],
        ..Told::default()
    };
    let mut written = 0;
    {
        let mut pace = random.split();
        let reader = Reader {
            carrier,
            asks,
            told: &mut told,
            enough: script.enough,
            slow: if script.slow_reader { 20 } else { 0 },
            random: random.split(),
        };
        let writer = write(half, script, asked, &mut written, &mut pace);
        tokio::select! {
            () = reader.run(raw) => {}
            () = writer => {}
        }
    }
    let enough = script.enough.is_some_and(|enough| told.output() >= enough);
    told.left = enough || script.cut.is_some_and(|(cut, _)| written >= cut);
    told.written = written;
    told
}

/// Writes the frames in pieces of all sizes, and then what is asked for. Returns only to drop the
/// connection.
async fn write(
    mut half: WriteHalf<BoxIo>,
    script: &Script,
    mut asked: UnboundedReceiver<Ask>,
    written: &mut usize,
    random: &mut Random,
) {
    let mut works = true;
    for frame in &script.frames {
        if script.pause > 0 {
            sleep(Duration::from_millis(random.next(script.pause))).await;
        }
        while let Ok(ask) = asked.try_recv() {
            works &= answer(&mut half, ask).await;
        }
        let mut rest = &frame[..];
        while works && !rest.is_empty() {
            let n = match random.next(4) {
                0 => 1 + random.next(100) as usize,
                _ => 1 + random.about() as usize,
            };
            let mut n = n.max(script.least).min(rest.len());
            if let Some((cut, how)) = script.cut {
                n = n.min(cut - *written);
                if n == 0 && how == Leave::Drop {
                    return;
                }
                if n == 0 {
                    let _ = half.shutdown().await;
                    return std::future::pending().await;
                }
            }
            let (now, behind) = rest.split_at(n);
            // Before the write, which may pass a part on.
            *written += n;
            works = half.write_all(now).await.is_ok() && half.flush().await.is_ok();
            rest = behind;
            if script.slow_writer {
                sleep(Duration::from_millis(random.next(5))).await;
            }
        }
    }
    // At the very end of the frames.
    if let Some((_, how)) = script.cut {
        match how {
            Leave::Drop => return,
            Leave::Shutdown => _ = half.shutdown().await,
        }
        return std::future::pending().await;
    }
    while let Some(ask) = asked.recv().await {
        answer(&mut half, ask).await;
    }
    std::future::pending().await
}

/// Returns whether the connection still works.
async fn answer(half: &mut WriteHalf<BoxIo>, ask: Ask) -> bool {
    match ask {
        Ask::Bytes(bytes) => half.write_all(&bytes).await.is_ok() && half.flush().await.is_ok(),
        Ask::Shutdown => {
            let _ = half.shutdown().await;
            false
        }
    }
}

struct Reader<'a> {
    carrier: Carrier,
    asks: UnboundedSender<Ask>,
    told: &'a mut Told,
    enough: Option<u64>,
    /// The frames before which it waits.
    slow: u64,
    random: Random,
}

impl Reader<'_> {
    async fn run(self, raw: Reading) {
        match self.carrier {
            Carrier::Messages(_) => self.read_messages(raw).await,
            carrier => {
                let mut spdy = Spdy::over(raw, carrier == Carrier::Tunnel);
                spdy.answers = false;
                self.read_streams(spdy).await;
            }
        }
    }

    fn ask(&self, ask: Ask) {
        let _ = self.asks.send(ask);
    }

    fn wrong(&mut self, what: impl Into<String>) {
        self.told.wrong.get_or_insert(what.into());
    }

    /// Waits a little, if it is slow. Returns whether it has read enough.
    async fn pace(&mut self) -> bool {
        if self.slow > 0 {
            self.slow -= 1;
            sleep(Duration::from_millis(self.random.next(50))).await;
        }
        self.enough
            .is_some_and(|enough| self.told.output() >= enough)
    }

    async fn read_messages(mut self, mut raw: Reading) {
        let mut channel = None;
        while !self.pace().await {
            let Some(frame) = raw.next().await else {
                return;
            };
            if self.told.close.is_some() {
                self.wrong(format!("{frame:?} behind the Close"));
            }
            match frame.opcode {
                CLOSE => {
                    let code = frame.close_code();
                    self.told.close = Some(code);
                    self.ask(Ask::Bytes(self.carrier.close(code.unwrap_or(1000))));
                }
                PING | PONG => {}
                _ => {
                    let (to, bytes) = match channel {
                        None => raw.split(&frame.payload),
                        Some(channel) => (channel, raw.decode(&frame.payload)),
                    };
                    channel = (!frame.fin).then_some(to);
                    if to != 1 {
                        self.wrong(format!("output on channel {to}"));
                    }
                    self.told.lanes[0].output.extend(bytes);
                }
            }
        }
    }

    async fn read_streams(mut self, mut spdy: Spdy<Join<ReadHalf<BoxIo>, Sink>>) {
        while !self.pace().await {
            let Some(said) = spdy.next().await else {
                return;
            };
            match said {
                Said::Reply(_) => {}
                Said::Ping(id) => self.ask(Ask::Bytes(self.carrier.pong(id))),
                Said::Data(stream, bytes) => match self.place(stream) {
                    Some((data, None)) => data.extend_from_slice(&bytes),
                    _ => self.wrong(format!("data of stream {stream}")),
                },
                Said::Fin(stream) => self.end(stream, StreamEnd::Fin),
                Said::Reset(stream, status) => self.end(stream, StreamEnd::Reset(status)),
                Said::GoAway(_, status) => {
                    self.told.go_away = Some(status);
                    if !self.carrier.is_websocket() {
                        self.ask(Ask::Shutdown);
                    }
                }
                Said::Close(code) => {
                    self.told.close = Some(code);
                    if !self.told.said_goodbye {
                        self.ask(Ask::Bytes(self.carrier.close(code.unwrap_or(1000))));
                    }
                }
            }
            let lanes = self.told.lanes.len();
            let all = (0..lanes).all(|lane| self.told.has_ended(self.carrier, lane));
            if self.carrier.has_connections() && all && !self.told.said_goodbye {
                self.told.said_goodbye = true;
                self.ask(Ask::Bytes(self.carrier.goodbye()));
                if !self.carrier.is_websocket() {
                    self.ask(Ask::Shutdown);
                }
            }
        }
    }

    /// Returns where the data of a stream belongs, and how the stream has ended.
    fn place(&mut self, stream: u32) -> Option<(&mut Vec<u8>, &mut Option<StreamEnd>)> {
        let carrier = self.carrier;
        let lanes = self.told.lanes.iter_mut().enumerate();
        let mut found = None;
        for (lane, heard) in lanes {
            let streams = carrier.streams(lane);
            if stream == streams.error {
                found = Some((&mut heard.error, &mut heard.error_end));
            } else if stream == streams.output {
                found = Some((&mut heard.output, &mut heard.output_end));
            }
        }
        found
    }

    fn end(&mut self, stream: u32, end: StreamEnd) {
        match self.place(stream) {
            // A reset may follow a FIN.
            Some((_, known)) if *known != Some(end) => _ = known.get_or_insert(end),
            Some(_) => self.wrong(format!("{end:?} of stream {stream} again")),
            // The server only reads the input of a command.
            None => {}
        }
    }
}
