//! The handoff of forwarded connections to the service, and of its verdicts back to the driver.
//!
//! ```text
//!  driver: Handoff ── pairs of streams ──> NewPairs ──> NewPair { handles, Answer } : service
//!             ^                                                        │
//!             └───────────────────── verdicts ─────────────────────────┘
//! ```
//!
//! The driver alone owns the states of streams. A verdict is a note, which the driver collects at the
//! end of the round, together with the ends of writers. So everything that a service decides in one
//! poll leaves in one write, and the order in which it drops its handles does not matter.

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use crate::{
    channel::{ChannelReader, ChannelWriter},
    spdy::Pair,
    wire::{Turn, Wire},
};

/// The decision of the service about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The data stream is accepted.
    Reply,
    /// The connection has failed, if possible in the place of a reply.
    Refuse,
    /// The connection was accepted, and has failed.
    Reset,
    /// The connection has ended in order.
    Finish,
}

/// A pair of streams that is complete, and its channels.
#[derive(Debug)]
pub(super) struct Complete {
    pub(super) pair: Pair,
    /// The channel of the data stream. That of the error stream is the next one.
    pub(super) slot: u8,
    /// The instant from which on it is too late to accept the data stream. `None` if it has been
    /// accepted, because it was the first of the pair.
    pub(super) late: Option<Instant>,
    pub(super) request_id: Option<Box<str>>,
}

/// A verdict, and the streams that it is about. Their channels may stand for other streams by now.
pub(super) type Decided = (Pair, Verdict);

struct Shared {
    turn: Arc<Turn>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The pairs that the service has not taken. There are no more of them than pairs of channels.
    ready: VecDeque<Complete>,
    service: Option<Waker>,
    /// Set once there will be no more pairs, or once the service takes no more.
    over: bool,
    verdicts: Vec<Decided>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is fine: nothing under it panics between two steps of one change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decide(&self, pair: Pair, verdict: Verdict) {
        self.lock().verdicts.push((pair, verdict));
        self.turn.wake_driver();
    }

    fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        let service = state.service.take();
        drop(state);
        if let Some(service) = service {
            service.wake();
        }
    }
}

/// Creates a handoff, and the end of it that is for the service.
pub(crate) fn handoff(wire: &Arc<Wire>) -> (Handoff, NewPairs) {
    let shared = Arc::new(Shared {
        turn: Arc::clone(&wire.turn),
        state: Mutex::default(),
    });
    let pairs = NewPairs {
        wire: Arc::clone(wire),
        shared: Arc::clone(&shared),
    };
    (Handoff { shared }, pairs)
}

/// The driver's end of the handoff.
pub(crate) struct Handoff {
    shared: Arc<Shared>,
}

impl Handoff {
    /// Passes a pair to the service, for which handles do not exist yet. Returns `false` if the
    /// service takes no more.
    pub(super) fn push(&self, pair: Complete) -> bool {
        let mut state = self.shared.lock();
        if state.over {
            return false;
        }
        state.ready.push_back(pair);
        let service = state.service.take();
        drop(state);
        if let Some(service) = service {
            service.wake();
        }
        true
    }

    /// Takes back the pair with this data stream, unless the service has taken it.
    pub(super) fn withdraw(&self, data: u32) -> Option<Complete> {
        let ready = &mut self.shared.lock().ready;
        let at = ready.iter().position(|ready| ready.pair.data == data)?;
        ready.remove(at)
    }

    /// Takes the verdicts since the last call, in their order, in exchange for an empty buffer.
    pub(super) fn take_verdicts(&self, verdicts: &mut Vec<Decided>) {
        mem::swap(verdicts, &mut self.shared.lock().verdicts);
    }

    /// Ends the handoff: there will be no more pairs.
    pub(super) fn end(&self) {
        self.shared.end();
    }
}

impl Drop for Handoff {
    fn drop(&mut self) {
        self.end();
    }
}

/// The connections that the client opens, for the service to take.
///
/// Connections that it does not take are reset.
pub(crate) struct NewPairs {
    wire: Arc<Wire>,
    shared: Arc<Shared>,
}

impl NewPairs {
    /// Waits for the next connection. Returns `None` once there will be no more, because the
    /// session is ending.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<NewPair>> {
        let mut state = self.shared.lock();
        if let Some(next) = state.next() {
            drop(state);
            return Poll::Ready(next.map(|pair| self.open(pair)));
        }
        if (state.service.as_ref()).is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(state);
        // The user's waker must not be cloned or dropped under the lock, so unlock and check again.
        let waker = cx.waker().clone();
        let mut state = self.shared.lock();
        if let Some(next) = state.next() {
            drop(state);
            return Poll::Ready(next.map(|pair| self.open(pair)));
        }
        let old = state.service.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Creates the handles of a pair. They exist only from here on, so that pairs that wait do not
    /// keep the session's memory alive.
    fn open(&self, complete: Complete) -> NewPair {
        let slot = complete.slot;
        let wire = || Arc::clone(&self.wire);
        NewPair {
            port: complete.pair.port,
            request_id: complete.request_id,
            index: usize::from(slot / 2),
            reader: ChannelReader::new(wire(), slot),
            data: ChannelWriter::new(wire(), slot),
            errors: ChannelWriter::new(wire(), slot + 1),
            answer: Answer {
                wire: wire(),
                shared: Arc::clone(&self.shared),
                pair: complete.pair,
                slot,
                stage: match complete.late {
                    Some(late) => Stage::New { late },
                    None => Stage::Replied,
                },
            },
        }
    }
}

impl State {
    /// Returns the next pair, `None` at the end, or nothing if the caller has to wait. Pairs that came
    /// before the end are not lost.
    fn next(&mut self) -> Option<Option<Complete>> {
        match self.ready.pop_front() {
            Some(pair) => Some(Some(pair)),
            None => self.over.then_some(None),
        }
    }
}

impl Drop for NewPairs {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        let service = state.service.take();
        let ready = mem::take(&mut state.ready);
        drop(state);
        drop(service);
        // Their channels are free once their handles are dropped, so they need some.
        for pair in ready {
            drop(self.open(pair));
        }
    }
}

impl fmt::Debug for Handoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handoff").finish_non_exhaustive()
    }
}

impl fmt::Debug for NewPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewPairs").finish_non_exhaustive()
    }
}

/// A connection that the client has opened, and its handles.
#[derive(Debug)]
pub(crate) struct NewPair {
    pub(crate) port: u16,
    /// The client's name for the connection, unless it has given none.
    pub(crate) request_id: Option<Box<str>>,
    /// The number of the pair, below [`MAX_PAIRS`](crate::protocol::MAX_PAIRS). It is used again once all
    /// handles of the pair are dropped.
    pub(crate) index: usize,
    pub(crate) reader: ChannelReader,
    pub(crate) data: ChannelWriter,
    pub(crate) errors: ChannelWriter,
    pub(crate) answer: Answer,
}

/// The service's answer to a connection.
///
/// Unless it is [finished](Self::finish) or [reset](Self::reset), the connection is
/// [refused](Self::refuse) when this is dropped.
#[must_use = "the connection is refused when this is dropped"]
pub(crate) struct Answer {
    wire: Arc<Wire>,
    shared: Arc<Shared>,
    pair: Pair,
    /// The channel of the data stream.
    slot: u8,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New { late: Instant },
    Replied,
    Decided,
}

impl Answer {
    /// Returns whether the service waits for data of the client. It has then dealt with the
    /// connection itself.
    pub(crate) fn is_touched(&self) -> bool {
        let pipe = self.wire.inbound.pipe(self.slot);
        pipe.is_some_and(|pipe| pipe.is_awaited())
    }

    /// Accepts the connection, unless this was done before. Data may be written from here on.
    pub(crate) fn reply(&mut self) {
        let Stage::New { late } = self.stage else {
            return;
        };
        if Instant::now() >= late {
            // The client has given up, and nothing reads what is sent to it now.
            self.wire.outbound.reset(self.slot);
            self.decide(Stage::Decided, Verdict::Reset);
            return;
        }
        // At once, because a client drops data that comes before the reply.
        self.wire.outbound.reply(self.pair.data);
        self.decide(Stage::Replied, Verdict::Reply);
    }

    /// Refuses the connection, or resets it if it was accepted before.
    pub(crate) fn refuse(mut self) {
        self.decide(Stage::Decided, Verdict::Refuse);
    }

    /// Resets the connection, behind everything that was written. A text on the error stream goes
    /// first.
    pub(crate) fn reset(mut self) {
        self.decide(Stage::Decided, Verdict::Reset);
    }

    /// Ends the connection in order, behind everything that was written.
    pub(crate) fn finish(mut self) {
        self.decide(Stage::Decided, Verdict::Finish);
    }

    fn decide(&mut self, stage: Stage, verdict: Verdict) {
        if self.stage != Stage::Decided {
            self.stage = stage;
            self.shared.decide(self.pair, verdict);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.decide(Stage::Decided, Verdict::Refuse);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("pair", &self.pair)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
