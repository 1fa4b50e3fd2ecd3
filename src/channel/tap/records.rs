//! The bounded queue of a tap, from the handles of a session to the reader of the records.
//!
//! It is full once its contents reach its capacity. It can exceed the capacity by one payload for
//! each handle that found room at the same time. Handles look for room before they read or write,
//! and add the result afterwards, with nothing in between that could be cancelled. A record
//! therefore always stands for bytes that were taken or accepted. Room is not reserved: a service
//! that holds bytes of a read may have to write before it consumes them, and that write needs room
//! as well.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::record::{Direction, Lost, Payload};
use crate::session::Session;

/// The overhead that each record counts, which is about the real size of its entry in the queue and
/// of the allocation of its bytes. Without it, a peer that sends single bytes would make the queue
/// take a hundred times the memory that it counts.
pub(super) const RECORD: usize = 128;

/// The treatment of records for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Overflow {
    /// The service's reads and writes wait for room. Nothing is lost, and a slow reader of the
    /// records stalls the session.
    Backpressure,
    /// Records are lost, and counted. The reader of the records can never stall the session.
    Lossy,
}

/// The queue; see the module.
pub(crate) struct Records {
    capacity: usize,
    overflow: Overflow,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Entry>,
    /// The size of the entries in bytes.
    held: usize,
    /// Counts the payloads that were lost since the last entry.
    lost: Lost,
    /// Set once the reader is gone.
    closed: bool,
    /// The number of sources that may still add records: the tap until it is attached, and handles
    /// after that.
    sources: usize,
    session: Option<Session>,
    /// The wakers of sources that wait for room, each at the place of its source.
    waiting: Vec<Option<Waker>>,
    /// The places of sources that are gone. A tunnel has new handles for as long as it lives.
    free: Vec<usize>,
    reader: Option<Waker>,
}

struct Entry {
    payload: Payload,
    held: usize,
}

/// The next item for the reader of a tap.
pub(crate) enum Next {
    Payload(Payload),
    /// There will be no more records. The session is `None` if the tap was never attached.
    Over(Option<Session>, Lost),
}

/// Bytes on their way past the taps. The first tap that records a slice copies it, and the other
/// taps share the copy.
pub(super) enum Passing<'a> {
    Slice(&'a [u8]),
    Shared {
        bytes: Bytes,
        /// The size of the memory that they keep from being freed.
        held: usize,
    },
}

impl Passing<'_> {
    pub(in crate::channel) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn len(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Shared { bytes, .. } => bytes.len(),
        }
    }

    fn held(&self) -> usize {
        match self {
            Self::Slice(slice) => slice.len(),
            Self::Shared { held, .. } => *held,
        }
    }

    fn bytes(&mut self) -> Bytes {
        match self {
            Self::Slice(slice) => {
                let bytes = Bytes::copy_from_slice(slice);
                *self = Self::Shared {
                    held: bytes.len(),
                    bytes: bytes.clone(),
                };
                bytes
            }
            Self::Shared { bytes, .. } => bytes.clone(),
        }
    }
}

impl Records {
    /// Creates a queue with one source. A queue with capacity 0 would always be full, so the least
    /// capacity is 1.
    pub(crate) fn new(overflow: Overflow, capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            overflow,
            state: Mutex::new(State {
                sources: 1,
                ..State::default()
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave a change half done, so poisoning does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the session that is recorded.
    pub(in crate::channel) fn attach(&self, session: &Session) {
        self.lock().session = Some(session.clone());
    }

    /// Adds a source, and returns its place among those that wait.
    pub(in crate::channel) fn add_source(&self) -> usize {
        let mut state = self.lock();
        state.sources += 1;
        if let Some(place) = state.free.pop() {
            return place;
        }
        state.waiting.push(None);
        state.waiting.len() - 1
    }

    /// Removes a source. `place` is what [`Records::add_source`] returned for it, and `None` for
    /// the tap.
    pub(crate) fn remove_source(&self, place: Option<usize>) {
        let mut state = self.lock();
        state.sources -= 1;
        state.free.extend(place);
        let waiting = place.and_then(|place| state.waiting[place].take());
        let reader = match state.sources {
            0 => state.reader.take(),
            _ => None,
        };
        drop(state);
        drop(waiting);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Waits until there is room for a record, or no room is needed.
    pub(in crate::channel) fn poll_room(&self, place: usize, cx: &mut Context<'_>) -> Poll<()> {
        if self.overflow == Overflow::Lossy {
            return Poll::Ready(());
        }
        let state = self.lock();
        if state.has_room(self.capacity) {
            return Poll::Ready(());
        }
        let waiting = &state.waiting[place];
        if waiting.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(state);
        // A waker must not be cloned or dropped under the lock. Room may come while the lock is
        // released, so this looks again.
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if state.has_room(self.capacity) {
            drop(state);
            return Poll::Ready(());
        }
        let old = state.waiting[place].replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Adds bytes that were read or written.
    pub(super) fn push(&self, channel: u8, direction: Direction, passing: &mut Passing<'_>) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        if self.overflow == Overflow::Lossy && state.held >= self.capacity {
            state.lost.count(passing.len());
            return;
        }
        let held = passing.held().saturating_add(RECORD);
        let payload = Payload {
            channel,
            direction,
            // The clock is read under the lock, so that times are in the order of the records.
            time: Instant::now(),
            bytes: passing.bytes(),
            lost: std::mem::take(&mut state.lost),
        };
        state.held = state.held.saturating_add(held);
        state.queue.push_back(Entry { payload, held });
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Waits for the next payload, or for the end of the records.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Next> {
        let mut state = self.lock();
        if state.is_ready() {
            return Poll::Ready(self.next(state));
        }
        let reader = &state.reader;
        if reader.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        drop(state);
        let waker = cx.waker().clone();
        state = self.lock();
        if state.is_ready() {
            return Poll::Ready(self.next(state));
        }
        let old = state.reader.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn next(&self, mut state: MutexGuard<'_, State>) -> Next {
        let Some(Entry { payload, held }) = state.queue.pop_front() else {
            return Next::Over(state.session.take(), std::mem::take(&mut state.lost));
        };
        state.held -= held;
        if state.has_room(self.capacity) {
            wake_all(state);
        }
        Next::Payload(payload)
    }

    /// Drops all records, and lets the sources continue without recording.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let queue = std::mem::take(&mut state.queue);
        let reader = state.reader.take();
        let session = state.session.take();
        wake_all(state);
        drop((queue, reader, session));
    }
}

/// Releases the lock, and wakes the sources that wait for room.
fn wake_all(mut state: MutexGuard<'_, State>) {
    let waiting = state.waiting.iter_mut().filter_map(Option::take);
    let waiting: Vec<_> = waiting.collect();
    drop(state);
    for waker in waiting {
        waker.wake();
    }
}

impl State {
    fn has_room(&self, capacity: usize) -> bool {
        self.closed || self.held < capacity
    }

    fn is_ready(&self) -> bool {
        !self.queue.is_empty() || self.sources == 0
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("capacity", &self.capacity)
            .field("overflow", &self.overflow)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    /// A waker that takes the lock when it is woken or dropped.
    struct Curious {
        records: Arc<Records>,
        woken: AtomicUsize,
    }

    impl Wake for Curious {
        fn wake(self: Arc<Self>) {
            self.records.lock().held += 0;
            self.woken.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Drop for Curious {
        fn drop(&mut self) {
            self.records.lock().held += 0;
        }
    }

    fn curious(records: &Arc<Records>) -> (Arc<Curious>, Waker) {
        let curious = Arc::new(Curious {
            records: Arc::clone(records),
            woken: AtomicUsize::new(0),
        });
        (Arc::clone(&curious), Waker::from(curious))
    }

    fn woken(curious: &Curious) -> usize {
        curious.woken.load(Ordering::Relaxed)
    }

    /// Returns a full queue with one source, and the place of the source.
    fn full(overflow: Overflow) -> (Arc<Records>, usize) {
        let records = Arc::new(Records::new(overflow, 1));
        let place = records.add_source();
        records.remove_source(None);
        push(&records);
        (records, place)
    }

    fn push(records: &Records) {
        records.push(1, Direction::Outbound, &mut Passing::Slice(b"x"));
    }

    fn poll_room(records: &Records, place: usize, waker: &Waker) -> Poll<()> {
        records.poll_room(place, &mut Context::from_waker(waker))
    }

    fn poll_next(records: &Records, waker: &Waker) -> Poll<Next> {
        records.poll_next(&mut Context::from_waker(waker))
    }

    #[test]
    fn no_waker_is_woken_or_dropped_under_the_lock() {
        let (records, place) = full(Overflow::Backpressure);
        let other = records.add_source();
        for _ in 0..2 {
            let (first, waker) = curious(&records);
            assert!(poll_room(&records, place, &waker).is_pending());
            drop((first, waker));
        }
        let (waits, waker) = curious(&records);
        assert!(poll_room(&records, place, &waker).is_pending());
        assert!(poll_room(&records, place, &waker).is_pending());
        assert!(poll_room(&records, other, &curious(&records).1).is_pending());
        records.remove_source(Some(other));
        assert_eq!(woken(&waits), 0);
        assert!(poll_next(&records, &waker).is_ready());
        assert_eq!(woken(&waits), 1);
        assert!(poll_room(&records, place, &waker).is_ready());

        for _ in 0..2 {
            assert!(poll_next(&records, &curious(&records).1).is_pending());
        }
        let (reads, waker) = curious(&records);
        assert!(poll_next(&records, &waker).is_pending());
        push(&records);
        assert_eq!(woken(&reads), 1);
        assert!(poll_next(&records, &waker).is_ready());
        assert!(poll_next(&records, &waker).is_pending());
        records.remove_source(Some(place));
        assert_eq!(woken(&reads), 2);
        assert!(matches!(
            poll_next(&records, &waker),
            Poll::Ready(Next::Over(None, _))
        ));
    }

    #[test]
    fn places_are_used_again() {
        let records = Records::new(Overflow::Backpressure, 1);
        let kept = records.add_source();
        for _ in 0..9 {
            let places = [records.add_source(), records.add_source()];
            assert!(places[0] != places[1] && !places.contains(&kept));
            for place in places {
                records.remove_source(Some(place));
            }
        }
        assert_eq!(records.lock().waiting.len(), 3);
    }

    #[test]
    fn a_waiting_source_is_woken_when_the_recording_ends() {
        let (records, place) = full(Overflow::Backpressure);
        let (waits, waker) = curious(&records);
        assert!(poll_room(&records, place, &waker).is_pending());
        records.close();
        assert_eq!(woken(&waits), 1);
        assert!(poll_room(&records, place, &waker).is_ready());
        push(&records);
        assert!(records.lock().queue.is_empty());
    }

    #[test]
    fn no_source_waits_where_records_are_lost() {
        let (records, place) = full(Overflow::Lossy);
        assert!(poll_room(&records, place, Waker::noop()).is_ready());
    }

    #[test]
    fn a_slice_is_copied_once_for_all_taps() {
        let mut passing = Passing::Slice(b"payload");
        let (first, second) = (passing.bytes(), passing.bytes());
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!((passing.len(), passing.held()), (7, 7));
    }

    #[test]
    fn an_entry_takes_no_more_than_it_counts() {
        let entry = size_of::<Entry>() + size_of::<Bytes>();
        assert!(entry <= RECORD, "{entry}");
    }
}
