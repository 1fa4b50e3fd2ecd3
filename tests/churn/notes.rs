//! The actions and the observations of the service.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

use tokio::time::Instant;
use tower_wsstream::{EndCause, session::SessionSummary};

use crate::plan::CHANNELS;

/// The failure of a read or a write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) kind: io::ErrorKind,
    pub(crate) cause: Option<EndCause>,
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        Self {
            kind: error.kind(),
            cause: EndCause::from_error(error).cloned(),
        }
    }
}

/// The input of a channel as its reader has seen it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    pub(crate) bytes: u64,
    /// The end: EOF or an error.
    pub(crate) end: Option<Result<(), Failure>>,
}

/// The end of the service's future.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Outcome {
    Returned,
    /// A command has returned this code.
    Exited(u8),
    Failed,
    /// The target of all connections has failed.
    FailedTarget,
    Panicked,
    Dropped,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// The channel and length of each write that was accepted, in order.
    pub(crate) accepted: Vec<(u8, usize)>,
    pub(crate) written: [u64; CHANNELS],
    pub(crate) reads: [Read; CHANNELS],
    pub(crate) write_errors: Vec<Failure>,
    pub(crate) outcome: Option<(Instant, Outcome)>,
    /// The ends of the services of connections.
    pub(crate) outcomes: [Option<Outcome>; CHANNELS],
    pub(crate) calls: [usize; CHANNELS],
    /// The service of a connection has ended its output by itself.
    pub(crate) ended_output: [bool; CHANNELS],
    /// The code of the first successful call of `close`.
    pub(crate) closed: Option<u16>,
    /// The cause that `ended` returned, and when.
    pub(crate) ended: Option<(Instant, EndCause)>,
    pub(crate) ignores: bool,
    pub(crate) words: Vec<crate::plan::Words>,
    pub(crate) summaries: Vec<SessionSummary>,
    pub(crate) wrong: Vec<String>,
    pub(crate) called: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<Mutex<Log>>);

impl Notes {
    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Log {
    /// Notes that a write was accepted.
    pub(crate) fn accept(&mut self, channel: u8, len: usize) {
        self.accepted.push((channel, len));
        self.written[usize::from(channel)] += len as u64;
    }
}
