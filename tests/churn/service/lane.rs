//! A task of a service, with some of its handles.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{sleep, timeout},
};
use tower_wsstream::{
    ChannelReader, ChannelWriter, EndCause, Session,
    portforward::ForwardedWriter,
    session::{Hold, LastWords},
};

use super::LAST;
use crate::{
    notes::{Failure, Notes},
    pattern::{self, From},
    plan::{CHANNELS, End, Plan, Step, Words},
};

/// A writer of a channel, or of a connection.
pub(super) enum Output {
    Channel(ChannelWriter),
    Port(ForwardedWriter),
}

impl Output {
    fn inner(&mut self) -> &mut (dyn AsyncWrite + Send + Unpin) {
        match self {
            Self::Channel(writer) => writer,
            Self::Port(writer) => writer,
        }
    }
}

/// A task with some of the handles.
pub(super) struct Lane {
    plan: Arc<Plan>,
    notes: Notes,
    session: Session,
    pub(super) readers: [Option<ChannelReader>; CHANNELS],
    pub(super) writers: [Option<Output>; CHANNELS],
}

impl Lane {
    pub(super) fn new(plan: &Arc<Plan>, notes: &Notes, session: &Session) -> Self {
        Self {
            plan: Arc::clone(plan),
            notes: notes.clone(),
            session: session.clone(),
            readers: Default::default(),
            writers: Default::default(),
        }
    }

    /// Follows the plan. Returns the end of a connection that leaves early.
    pub(super) async fn run(&mut self, at: usize) -> Option<End> {
        let plan = Arc::clone(&self.plan);
        for step in plan.tasks.get(at)? {
            match step {
                Step::Leave(end) => return Some(*end),
                step => self.step(*step).await,
            }
        }
        None
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Read { channel, most } => self.read(channel, most).await,
            Step::Peek { channel, most } => self.peek(channel, most).await,
            Step::ReadToEnd(channel) => {
                while self.is_readable(channel) {
                    self.read(channel, 3000).await;
                }
            }
            Step::Stream(channel) => self.stream(channel).await,
            Step::Write { channel, len } => {
                self.write(channel, len).await;
            }
            Step::WriteAll { channel, len } => self.write_all(channel, len).await,
            Step::TryWrite {
                channel,
                len,
                within,
            } => {
                let _ = timeout(millis(within), self.write_all(channel, len)).await;
            }
            Step::TryRead { channel, within } => {
                let _ = timeout(millis(within), self.read(channel, 100)).await;
            }
            Step::Send { channel, len } => self.send(channel, len).await,
            Step::Echo(from, to) => {
                while self.is_readable(from) && self.writers[usize::from(to)].is_some() {
                    let before = self.notes.log().reads[usize::from(from)].bytes;
                    self.read(from, 2000).await;
                    let n = self.notes.log().reads[usize::from(from)].bytes - before;
                    if n > 0 && !self.try_write_all(to, n as usize).await {
                        break;
                    }
                }
            }
            Step::Flush(channel) => {
                if let Some(writer) = &mut self.writers[usize::from(channel)] {
                    let flushed = writer.inner().flush().await;
                    self.wrote(flushed);
                }
            }
            Step::Shutdown(channel) => {
                if let Some(writer) = &mut self.writers[usize::from(channel)] {
                    self.notes.log().ended_output[usize::from(channel)] = true;
                    let shut_down = writer.inner().shutdown().await;
                    self.wrote(shut_down);
                }
            }
            Step::DropReader(channel) => self.readers[usize::from(channel)] = None,
            Step::DropWriter(channel) => {
                self.notes.log().ended_output[usize::from(channel)] = true;
                self.writers[usize::from(channel)] = None;
            }
            Step::GiveAway(time) => {
                let readers = std::mem::take(&mut self.readers);
                let writers = std::mem::take(&mut self.writers);
                let notes = self.notes.clone();
                tokio::spawn(async move {
                    sleep(millis(time)).await;
                    for (at, _) in writers.iter().enumerate().filter(|(_, it)| it.is_some()) {
                        notes.log().ended_output[at] = true;
                    }
                    drop((readers, writers));
                });
            }
            Step::Sleep(time) => sleep(millis(time)).await,
            Step::Yield => tokio::task::yield_now().await,
            Step::Accept => self.session.accept().await,
            Step::Close(code) => {
                // Behind another end, it has no effect.
                let ended = self.session.ended().now_or_never().is_some();
                if self.session.close(code, "on purpose").is_ok() && !ended {
                    self.notes.log().closed.get_or_insert(code);
                }
            }
            Step::Hold { settle, most } => self
                .session
                .hold_output(Hold::until_peer_reads(millis(settle), millis(most))),
            Step::SayLast(words) => self.say_last(words),
            Step::IgnoreReceives => {
                self.notes.log().ignores = true;
                self.session.ignore_receives();
            }
            Step::Ended => {
                self.session.ended().await;
            }
            // The lane has ended.
            Step::Leave(_) => {}
        }
    }

    fn say_last(&self, words: Words) {
        let notes = self.notes.clone();
        self.session.say_last(move |_| {
            notes.log().words.push(words);
            match words {
                Words::Message(channel) => Some(LastWords::new(channel, LAST)),
                Words::Silence => Some(LastWords::silence()),
                Words::Nothing => None,
                Words::Panic => panic!("on purpose"),
            }
        });
    }
}

/// Reads.
impl Lane {
    fn is_readable(&self, channel: u8) -> bool {
        let ended = self.notes.log().reads[usize::from(channel)].end.is_some();
        self.readers[usize::from(channel)].is_some() && !ended
    }

    async fn read(&mut self, channel: u8, most: usize) {
        let Some(reader) = &mut self.readers[usize::from(channel)] else {
            return;
        };
        let mut buf = vec![0; most.max(1)];
        let read = reader.read(&mut buf).await;
        self.saw(channel, read.map(|n| Bytes::copy_from_slice(&buf[..n])));
    }

    async fn peek(&mut self, channel: u8, most: usize) {
        let Some(reader) = &mut self.readers[usize::from(channel)] else {
            return;
        };
        let seen = reader.fill_buf().await.map(Bytes::copy_from_slice);
        let taken = seen.map(|bytes| {
            let n = match bytes.len() {
                0 => 0,
                len => most.clamp(1, len),
            };
            reader.consume(n);
            bytes.slice(..n)
        });
        self.saw(channel, taken);
    }

    async fn stream(&mut self, channel: u8) {
        let Some(reader) = self.readers[usize::from(channel)].take() else {
            return;
        };
        let mut stream = reader.into_stream();
        let mut last = None;
        while self.notes.log().reads[usize::from(channel)].end.is_none() {
            let piece = stream.next().await;
            self.saw(channel, piece.clone_or_eof());
            // A piece that is kept must not change.
            if let Some(Ok(piece)) = piece {
                last = Some(piece);
            }
        }
        drop(last);
    }

    /// Notes what a read has returned.
    fn saw(&self, channel: u8, read: std::io::Result<Bytes>) {
        let mut log = self.notes.log();
        let log = &mut *log;
        let seen = &mut log.reads[usize::from(channel)];
        match read {
            Ok(bytes) if !bytes.is_empty() => {
                if seen.end.is_some() {
                    log.wrong.push(format!("bytes behind the end of {channel}"));
                }
                if !pattern::is_at(From::Client, channel, seen.bytes, &bytes) {
                    let at = seen.bytes;
                    log.wrong
                        .push(format!("other bytes for the reader of {channel} at {at}"));
                }
                seen.bytes += bytes.len() as u64;
            }
            end => {
                let end = end.map(drop).map_err(|error| Failure::from(&error));
                if seen.end.as_ref().is_some_and(|before| *before != end) {
                    log.wrong.push(format!(
                        "{channel} has ended with {:?} and then {end:?}",
                        seen.end
                    ));
                }
                seen.end = Some(end);
            }
        }
    }
}

/// Makes an end of a stream the empty piece of a read.
trait CloneOrEof {
    fn clone_or_eof(&self) -> std::io::Result<Bytes>;
}

impl CloneOrEof for Option<std::io::Result<Bytes>> {
    fn clone_or_eof(&self) -> std::io::Result<Bytes> {
        match self {
            None => Ok(Bytes::new()),
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(error)) => Err(match EndCause::from_error(error) {
                Some(cause) => std::io::Error::new(error.kind(), cause.clone()),
                None => error.kind().into(),
            }),
        }
    }
}

/// Writes.
impl Lane {
    /// Writes once. Returns how many bytes were accepted.
    async fn write(&mut self, channel: u8, len: usize) -> usize {
        let at = usize::from(channel);
        let Some(writer) = &mut self.writers[at] else {
            return 0;
        };
        let offset = self.notes.log().written[at];
        let bytes = pattern::bytes(From::Service, channel, offset, len);
        let notes = &self.notes;
        // Noted inside of the poll, because the future may be dropped behind it.
        let written = poll_fn(|cx| {
            let polled = Pin::new(writer.inner()).poll_write(cx, &bytes);
            if let Poll::Ready(Ok(n)) = polled
                && n > 0
            {
                notes.log().accept(channel, n);
            }
            polled
        });
        match written.await {
            Ok(n) => n,
            Err(error) => {
                self.wrote(Err(error));
                0
            }
        }
    }

    async fn write_all(&mut self, channel: u8, len: usize) {
        self.try_write_all(channel, len).await;
    }

    async fn try_write_all(&mut self, channel: u8, len: usize) -> bool {
        let mut left = len;
        while left > 0 {
            match self.write(channel, left).await {
                0 => return false,
                n => left -= n,
            }
        }
        true
    }

    async fn send(&mut self, channel: u8, len: usize) {
        let at = usize::from(channel);
        let Some(Output::Channel(writer)) = &mut self.writers[at] else {
            return;
        };
        let offset = self.notes.log().written[at];
        let bytes = pattern::bytes(From::Service, channel, offset, len);
        let notes = &self.notes;
        let sent = async {
            writer.send(bytes).await?;
            notes.log().accept(channel, len);
            Ok(())
        };
        let sent = sent.await;
        self.wrote(sent);
    }

    /// Notes an error of a write.
    fn wrote(&self, result: std::io::Result<()>) {
        if let Err(error) = result {
            self.notes.log().write_errors.push(Failure::from(&error));
        }
    }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
