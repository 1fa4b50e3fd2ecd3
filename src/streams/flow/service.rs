//! The service: a task for each direction of each connection, which runs only when it was woken.

use std::{io, pin::Pin, task::Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_test::task::{Spawn, spawn};

use super::{Plan, Serves, byte, check};
use crate::{
    ChannelReader, ChannelWriter,
    streams::{Answer, NewPair, NewPairs},
};

/// The end of an upload, as the reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Eof,
    Error,
}

/// A task that was polled, and waits.
struct Task {
    spawn: Spawn<()>,
    waits: bool,
}

impl Task {
    fn new() -> Self {
        Self {
            spawn: spawn(()),
            waits: false,
        }
    }

    /// Polls, unless that would find nothing because there was no wake-up.
    fn poll<T>(
        &mut self,
        poll: impl FnOnce(&mut std::task::Context<'_>) -> Poll<T>,
    ) -> Option<Poll<T>> {
        if self.waits && !self.spawn.is_woken() {
            return None;
        }
        let result = self.spawn.enter(|cx, _| poll(cx));
        self.waits = result.is_pending();
        Some(result)
    }
}

/// The service's side of a connection.
pub(super) struct Served {
    plan: Plan,
    pub(super) taken: bool,
    answer: Option<Answer>,
    errors: Option<ChannelWriter>,
    reader: Option<ChannelReader>,
    reading: Task,
    writer: Option<ChannelWriter>,
    writing: Task,
    /// The number of bytes that were read.
    pub(super) read: usize,
    pub(super) end: Option<End>,
    /// The number of bytes that were accepted for the client.
    pub(super) accepted: usize,
}

pub(super) struct Service {
    pub(super) connections: Vec<Served>,
    pairs: NewPairs,
    taking: Task,
}

impl Service {
    pub(super) fn new(plans: &[Plan], pairs: NewPairs) -> Self {
        let new = |plan: &Plan| Served {
            plan: plan.clone(),
            taken: false,
            answer: None,
            errors: None,
            reader: None,
            reading: Task::new(),
            writer: None,
            writing: Task::new(),
            read: 0,
            end: None,
            accepted: 0,
        };
        Self {
            connections: plans.iter().map(new).collect(),
            pairs,
            taking: Task::new(),
        }
    }

    /// Takes new connections, and serves one. Returns whether anything has moved.
    pub(super) fn step(&mut self, number: usize) -> bool {
        let mut moved = false;
        while let Some(Poll::Ready(pair)) = self.taking.poll(|cx| self.pairs.poll_next(cx)) {
            let pair = pair.expect("the session goes on");
            self.connections[usize::from(pair.port) - 1].take(pair);
            moved = true;
        }
        let served = &mut self.connections[number];
        moved |= served.read(number);
        moved |= served.write(number);
        if served.reader.is_none() && served.writer.is_none() {
            served.errors = None;
            if let Some(answer) = served.answer.take() {
                answer.finish();
                moved = true;
            }
        }
        moved
    }
}

impl Served {
    fn take(&mut self, pair: NewPair) {
        self.taken = true;
        let NewPair {
            reader,
            data,
            errors,
            mut answer,
            ..
        } = pair;
        if self.plan.serves == Serves::Refuses {
            return answer.refuse();
        }
        answer.reply();
        self.answer = Some(answer);
        self.errors = Some(errors);
        self.reader = Some(reader);
        self.writer = Some(data);
    }

    fn read(&mut self, number: usize) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        let mut buffer = vec![0; self.plan.read_piece];
        let mut buffer = ReadBuf::new(&mut buffer);
        let polled = self
            .reading
            .poll(|cx| Pin::new(reader).poll_read(cx, &mut buffer));
        match polled {
            None | Some(Poll::Pending) => return false,
            Some(Poll::Ready(Ok(()))) if buffer.filled().is_empty() => self.end = Some(End::Eof),
            Some(Poll::Ready(Ok(()))) => {
                check(buffer.filled(), number, true, self.read);
                self.read += buffer.filled().len();
            }
            Some(Poll::Ready(Err(error))) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                self.end = Some(End::Error);
            }
        }
        let has_enough = matches!(self.plan.serves, Serves::Some(most) if self.read >= most);
        if self.end.is_some() || has_enough {
            self.reader = None;
        }
        true
    }

    fn write(&mut self, number: usize) -> bool {
        let Some(writer) = &mut self.writer else {
            return false;
        };
        let from = self.accepted;
        let n = self.plan.down_piece.min(self.plan.down - from);
        let polled = self.writing.poll(|cx| match n {
            0 if self.plan.serves == Serves::Fails => Poll::Ready(Ok(0)),
            0 => Pin::new(writer).poll_shutdown(cx).map_ok(|()| 0),
            n => {
                let piece: Vec<u8> = (from..from + n).map(|at| byte(number, false, at)).collect();
                Pin::new(writer).poll_write(cx, &piece)
            }
        });
        match polled {
            None | Some(Poll::Pending) => return false,
            Some(Poll::Ready(Ok(n))) if n > 0 => {
                self.accepted += n;
                return true;
            }
            // All is written, or the client has reset the stream.
            Some(Poll::Ready(_)) => self.writer = None,
        }
        if self.plan.serves == Serves::Fails {
            self.reader = None;
            if let Some(answer) = self.answer.take() {
                answer.reset();
            }
        }
        true
    }

    pub(super) fn is_done(&self) -> bool {
        self.taken && self.answer.is_none() && self.reader.is_none() && self.writer.is_none()
    }
}
