//! The writing half of a client of connections: each has a stream for its data and one for errors.

use tokio::{io::AsyncWrite, time::Instant};

use super::reader::Stream;
use crate::{
    client::{CLOSE, FIN, frame},
    facts::{Done, Facts, Fault},
    frames::{data, fin, go_away, headers, reset, stored, syn},
    halves::{Cut, Line, Writing},
    plan::{Act, CHANNELS, Halves},
    service::FIRST_PORT,
};

/// Returns the streams of a connection, in the order in which they are opened. Of the five queues of a
/// Go client, each connection has others.
fn streams_of(connection: u8) -> [u32; 2] {
    let first = 4 * u32::from(connection) + 1;
    [first, first + 2]
}

/// Returns the stream of a connection's data.
fn data_of(connection: u8, facts: &Facts) -> u32 {
    let [first, second] = streams_of(connection);
    match facts.data_first[usize::from(connection)] {
        true => first,
        false => second,
    }
}

/// Returns the connection of a stream, and whether the stream has its data.
pub(super) fn stream(stream: u32, facts: &Facts) -> Option<Stream> {
    let connection = u8::try_from(stream / 4).ok();
    let connection = connection.filter(|at| usize::from(*at) < CHANNELS)?;
    let is_one = streams_of(connection).contains(&stream);
    is_one.then(|| match stream == data_of(connection, facts) {
        true => Stream::Data(connection),
        false => Stream::Error(connection),
    })
}

pub(super) struct Writer<'a, W> {
    line: Line<'a, W>,
    /// A GOAWAY, a Close or a breach of the protocol was sent: nothing that matters may follow.
    silent: bool,
    /// A header block was sent.
    begun: bool,
}

impl<'a, W: AsyncWrite + Unpin> Writing<'a> for Writer<'a, W> {
    type Io = W;

    fn line(&mut self) -> &mut Line<'a, W> {
        &mut self.line
    }

    async fn answer(&mut self, code: Option<u16>) {
        self.close(code).await;
    }

    async fn act(&mut self, act: Act) -> Result<(), Cut> {
        self.grant().await?;
        match act {
            Act::Sleep(time) => self.wait(time).await?,
            Act::Cut => return Err(Cut),
            Act::Fin => self.line.fin().await,
            Act::Close(code) if self.line.plan.setup.is_tunnel() && code.is_some() => {
                self.close(code).await;
            }
            Act::Close(_) => {
                self.leave(None);
                self.line.put(&go_away(), usize::MAX).await;
            }
            _ if self.silent => {}
            Act::Open { connection, halves } => self.open(connection, halves).await,
            Act::Ping(_) => self.line.ping().await,
            Act::Send {
                channel,
                len,
                frames,
                piece,
                ..
            } => self.send(channel, len, frames, piece).await,
            Act::Begin { channel, len } => self.send(channel, len, 1, usize::MAX).await,
            Act::Tear { channel, len, of } if self.is_open(channel) => {
                let torn = data(self.data_of(channel), &self.line.begin(channel, len));
                self.line.tear(torn, len + of).await;
            }
            Act::CloseChannel(channel) if self.is_open(channel) => {
                self.line.facts.borrow_mut().sent[usize::from(channel)].closed = true;
                self.line.put(&fin(self.data_of(channel)), usize::MAX).await;
            }
            Act::Reset(channel)
                if self.line.facts.borrow().opened[usize::from(channel)].is_some() =>
            {
                self.line.facts.borrow_mut().has_reset[usize::from(channel)] = true;
                self.line
                    .put(&reset(self.data_of(channel)), usize::MAX)
                    .await;
            }
            Act::Violate(_) => {
                self.line
                    .facts
                    .borrow_mut()
                    .note(Done::Violation(Fault::Protocol));
                self.silent = true;
                // Streams of a client have odd numbers.
                let block = stored(&headers(&[("streamtype", "error")]), !self.begun);
                self.line.put(&syn(2, &block), usize::MAX).await;
            }
            Act::Tear { .. }
            | Act::CloseChannel(_)
            | Act::Reset(_)
            | Act::Stray { .. }
            | Act::Pong(_) => {}
        }
        Ok(())
    }
}

impl<'a, W: AsyncWrite + Unpin> Writer<'a, W> {
    pub(super) fn new(line: Line<'a, W>) -> Self {
        Self {
            line,
            silent: false,
            begun: false,
        }
    }

    /// Notes that the client closes the session. Returns whether it has not done so before.
    fn leave(&mut self, code: Option<u16>) -> bool {
        let closed = |done: &Done| matches!(done, Done::Close(_));
        let first = !self.line.facts.borrow().any(closed);
        if first && !self.line.gone {
            self.line.note(Done::Close(code));
        }
        self.silent = true;
        first
    }

    /// Sends the Close of a tunnel.
    async fn close(&mut self, code: Option<u16>) {
        if !self.leave(code) {
            return;
        }
        let mut payload = Vec::new();
        if let Some(code) = code {
            payload.extend(code.to_be_bytes());
            payload.extend(b"on purpose");
        }
        self.line.put_outer(&frame(FIN | CLOSE, &payload)).await;
    }

    async fn open(&mut self, connection: u8, halves: Halves) {
        let [first, second] = streams_of(connection);
        let kinds: &[_] = match halves {
            Halves::ErrorFirst => &[(first, "error"), (second, "data")],
            Halves::DataFirst => &[(first, "data"), (second, "error")],
            Halves::OnlyError => &[(first, "error")],
            Halves::OnlyData => &[(first, "data")],
        };
        let data_first = matches!(halves, Halves::DataFirst | Halves::OnlyData);
        self.line.facts.borrow_mut().data_first[usize::from(connection)] = data_first;
        if kinds.len() == 2 && !self.line.gone {
            let now = Instant::now();
            self.line.facts.borrow_mut().opened[usize::from(connection)] = Some(now);
        }
        let port = (FIRST_PORT + u16::from(connection)).to_string();
        let request = connection.to_string();
        for (stream, kind) in kinds {
            let fields = [
                ("streamtype", *kind),
                ("port", &*port),
                ("requestid", &*request),
            ];
            let first = !std::mem::replace(&mut self.begun, true);
            let block = stored(&headers(&fields), first);
            self.line.put(&syn(*stream, &block), usize::MAX).await;
            if *kind == "error" {
                self.line.put(&fin(*stream), usize::MAX).await;
            }
        }
    }

    fn data_of(&self, connection: u8) -> u32 {
        data_of(connection, &self.line.facts.borrow())
    }

    /// Returns whether the client may send data on a connection.
    fn is_open(&self, connection: u8) -> bool {
        let facts = self.line.facts.borrow();
        let at = usize::from(connection);
        facts.opened[at].is_some() && !facts.has_reset[at] && !facts.sent[at].closed
    }

    async fn send(&mut self, channel: u8, len: usize, frames: usize, piece: usize) {
        if !self.is_open(channel) {
            return;
        }
        let bytes = self.line.begin(channel, len);
        for part in bytes.chunks(len.div_ceil(frames.max(1)).max(1)) {
            self.line
                .put(&data(self.data_of(channel), part), piece)
                .await;
        }
        let mut facts = self.line.facts.borrow_mut();
        if !self.line.gone && len > 0 {
            facts.sent[usize::from(channel)].whole += len as u64;
            facts.sent_at.push(Instant::now());
        }
    }
}
