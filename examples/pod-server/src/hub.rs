//! The output of one process for any number of clients. The process waits for none of them.
//!
//! The output is copied into the backlog of each attached client, and the session of that client
//! writes it out. A backlog is bounded: a client that falls further behind than that loses its
//! place, and is told so; the process and the other clients do not notice.
//!
//! The process prints its input, so one client that types a large file could outrun the others in
//! a moment. Therefore the input, and the input alone, waits while a client is behind: see
//! [`Hub::calm`].
//!
//! A client that follows the log has a place like one that is attached, and begins with earlier
//! output.

use std::{
    collections::BTreeMap,
    pin::pin,
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    recent::Recent,
    seat::{Lagged, Seat, Stream},
};

/// The time for which the input waits for a client that is behind. A client that reads has caught
/// up in milliseconds, and one that does not read is no reason to wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// The attached clients of one run of the process.
#[derive(Debug, Default)]
pub struct Hub {
    state: Mutex<State>,
    /// A client has caught up, or left.
    caught_up: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    seats: BTreeMap<u64, Seat>,
    recent: Recent,
    ended: Option<ExitStatus>,
}

impl Hub {
    /// Attaches one more client, which gets the output from now on.
    pub fn attach(self: &Arc<Self>) -> Attached {
        self.seat(&mut self.lock())
    }

    /// Returns the last `lines` lines of output, or all output that is kept if `lines` is `None`.
    pub(crate) fn recent(&self, lines: Option<u64>) -> Vec<u8> {
        self.lock().recent.lines(lines).to_vec()
    }

    /// Returns the last `lines` lines as [`recent`](Self::recent) does, and attaches a client that
    /// gets the output after them, without a gap.
    pub(crate) fn follow(self: &Arc<Self>, lines: Option<u64>) -> (Vec<u8>, Attached) {
        let mut state = self.lock();
        let attached = self.seat(&mut state);
        (state.recent.lines(lines).to_vec(), attached)
    }

    fn seat(self: &Arc<Self>, state: &mut State) -> Attached {
        let (number, seat) = (state.next, Seat::default());
        state.next += 1;
        let news = Arc::clone(&seat.news);
        state.seats.insert(number, seat);
        Attached {
            hub: Arc::clone(self),
            seat: number,
            news,
        }
    }

    /// Hands output to all clients, and waits for none of them.
    pub(crate) fn push(&self, stream: Stream, bytes: &[u8]) {
        let now = Instant::now();
        let mut state = self.lock();
        state.recent.push(bytes);
        for seat in state.seats.values_mut() {
            seat.push(stream, bytes, now);
        }
    }

    /// Records that the process has ended, and that there will be no more output.
    pub fn end(&self, status: ExitStatus) {
        let mut state = self.lock();
        state.ended = Some(status);
        for seat in state.seats.values() {
            seat.news.notify_one();
        }
    }

    /// Waits for the clients that are behind, for at most [`PATIENCE`] each.
    ///
    /// A client that does not read holds up the input for that long each time it falls behind. It
    /// never holds up the output.
    pub(crate) async fn calm(&self) {
        loop {
            let mut caught_up = pin!(self.caught_up.notified());
            // Registered before the check, so that no notification is lost in between.
            caught_up.as_mut().enable();
            let Some(until) = self.waits_until() else {
                return;
            };
            // After either of the two, the loop checks again.
            let _ = timeout_at(until, caught_up).await;
        }
    }

    fn waits_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let state = self.lock();
        let behind = state.seats.values().filter_map(|seat| seat.behind_since);
        behind
            .map(|since| since + PATIENCE)
            .filter(|&until| until > now)
            .min()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave a change half done, so poisoning does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next event for an attached client.
#[derive(Debug, PartialEq)]
pub(crate) enum Next {
    /// Output to be written. Report each part of it with [`Attached::written`].
    Output(Stream, Vec<u8>),
    /// The process has ended, and there is no more output.
    Ended(ExitStatus),
}

/// A client's place in a [`Hub`]. Dropping it frees the place.
#[derive(Debug)]
pub struct Attached {
    hub: Arc<Hub>,
    seat: u64,
    news: Arc<Notify>,
}

impl Attached {
    /// Returns all output that waits on one of the streams, or the end. An error means that the
    /// place is lost.
    pub(crate) async fn next(&self) -> Result<Next, Lagged> {
        loop {
            if let Some(next) = self.look() {
                return next;
            }
            self.news.notified().await;
        }
    }

    fn look(&self) -> Option<Result<Next, Lagged>> {
        let mut state = self.hub.lock();
        let ended = state.ended;
        let seat = state.seats.get_mut(&self.seat)?;
        if let Some(lagged) = seat.lagged {
            return Some(Err(lagged));
        }
        if let Some((stream, bytes)) = seat.take() {
            return Some(Ok(Next::Output(stream, bytes)));
        }
        ended.map(|status| Ok(Next::Ended(status)))
    }

    /// Notes that `length` bytes of the output that was taken have been sent to the client.
    pub(crate) fn written(&self, length: usize) {
        let mut state = self.hub.lock();
        let seat = state.seats.get_mut(&self.seat);
        if seat.is_some_and(|seat| seat.written(length)) {
            self.hub.caught_up.notify_waiters();
        }
    }

    /// Waits until the place is lost, which may never happen.
    ///
    /// Poll it beside a write; [`next`](Self::next) returns the error by itself. Only one of the
    /// two may wait at a time.
    pub(crate) async fn lagged(&self) -> Lagged {
        loop {
            let seat = self.hub.lock().seats.get(&self.seat).map(|s| s.lagged);
            if let Some(Some(lagged)) = seat {
                return lagged;
            }
            self.news.notified().await;
        }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.hub.lock().seats.remove(&self.seat);
        self.hub.caught_up.notify_waiters();
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
