//! The service of a session, which follows its plan.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{
    BoxError, ChannelReader, ChannelSet, ChannelWriter, EndCause, Session,
    session::{Hold, LastWords},
};

use crate::{
    notes::{Failure, Notes, Outcome},
    pattern::{self, From},
    plan::{CHANNELS, End, Plan, Step, Words},
};

/// The message of the last words.
pub(crate) const LAST: &[u8] = b"these are the last words";

/// Runs the session of a plan.
pub(crate) async fn run(
    plan: Arc<Plan>,
    notes: Notes,
    mut set: ChannelSet,
) -> Result<(), BoxError> {
    let ending = Ending(notes.clone());
    notes.log().called = true;
    let session = set.session().clone();
    let watch = session.clone();
    let watched = notes.clone();
    tokio::spawn(async move {
        let cause = watch.ended().await;
        watched.log().ended = Some((Instant::now(), cause));
    });
    let mut lanes = (0..plan.tasks.len())
        .map(|_| Lane::new(&plan, &notes, &session))
        .collect::<Vec<_>>();
    for channel in 0..CHANNELS as u8 {
        let Some(lane) = lanes.get_mut(plan.setup.owners[usize::from(channel)]) else {
            continue;
        };
        lane.readers[usize::from(channel)] = set.take_reader(channel);
        lane.writers[usize::from(channel)] = set.take_writer(channel);
    }
    drop(set);
    let mut lanes = lanes.into_iter().enumerate();
    let mut own = lanes.next().map(|(_, lane)| lane);
    for (at, mut lane) in lanes {
        tokio::spawn(async move { lane.run(at).await });
    }
    if let Some(lane) = &mut own {
        lane.run(0).await;
    }
    let end = match plan.end {
        End::Never => std::future::pending().await,
        end => end,
    };
    // A writer that is still there would keep a session open that has returned.
    drop(own);
    ending.note(match end {
        End::Ok => Outcome::Returned,
        End::Fail => Outcome::Failed,
        _ => Outcome::Panicked,
    });
    match end {
        End::Ok => Ok(()),
        End::Fail => Err("failed on purpose".into()),
        End::Panic | End::Never => panic!("on purpose"),
    }
}

/// Notes how the service's future ends.
struct Ending(Notes);

impl Ending {
    fn note(&self, outcome: Outcome) {
        let mut log = self.0.log();
        log.outcome.get_or_insert((Instant::now(), outcome));
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.note(Outcome::Dropped);
    }
}

/// A task with some of the handles.
struct Lane {
    plan: Arc<Plan>,
    notes: Notes,
    session: Session,
    readers: [Option<ChannelReader>; CHANNELS],
    writers: [Option<ChannelWriter>; CHANNELS],
}

impl Lane {
    fn new(plan: &Arc<Plan>, notes: &Notes, session: &Session) -> Self {
        Self {
            plan: Arc::clone(plan),
            notes: notes.clone(),
            session: session.clone(),
            readers: Default::default(),
            writers: Default::default(),
        }
    }

    async fn run(&mut self, at: usize) {
        let plan = Arc::clone(&self.plan);
        for step in &plan.tasks[at] {
            self.step(*step).await;
        }
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
                    let flushed = writer.flush().await;
                    self.wrote(flushed);
                }
            }
            Step::Shutdown(channel) => {
                if let Some(writer) = &mut self.writers[usize::from(channel)] {
                    let shut_down = writer.shutdown().await;
                    self.wrote(shut_down);
                }
            }
            Step::DropReader(channel) => self.readers[usize::from(channel)] = None,
            Step::DropWriter(channel) => self.writers[usize::from(channel)] = None,
            Step::GiveAway(time) => {
                let readers = std::mem::take(&mut self.readers);
                let writers = std::mem::take(&mut self.writers);
                tokio::spawn(async move {
                    sleep(millis(time)).await;
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
            let polled = Pin::new(&mut *writer).poll_write(cx, &bytes);
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
        let Some(writer) = &mut self.writers[at] else {
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
