//! The bounded byte queue of one channel, from the driver to the channel's reader.
//!
//! The bytes are in chunks. The window counts the capacity of the chunks rather than the bytes in
//! them, so that the memory that a peer makes us hold is bounded for messages of any size. A chunk
//! counts until its last byte has been handed out, even while the reader *holds* it. `Bytes` that the
//! user keeps do not count.
//!
//! During a read, the mux *checks out* the tail, fills it, and *commits* it.
//!
//! A window may be *extended* by extra chunks from the stall reserve. These are given back first:
//! there is room again only once the reader has drained the queue to below the window.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::PoisonError,
    task::{Context, Poll, Waker},
};

use tokio::time::Instant;

use super::chunk::{CHUNK, Chunk};
use crate::{
    error::EndCause,
    frame::Masked,
    wire::{
        Traffic, stock,
        sync::{Mutex, MutexGuard},
    },
};

/// The end of a channel's inbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The peer has ended the channel.
    Eof,
    /// The data is incomplete: the session ended before the peer ended the channel.
    Error(EndCause),
    /// The data is incomplete: the peer has reset the stream that stands for the channel.
    #[cfg(feature = "spdy")]
    Reset,
}

impl End {
    /// Returns the result of a read at this end.
    pub(crate) fn result(self) -> io::Result<()> {
        match self {
            Self::Eof => Ok(()),
            Self::Error(cause) => Err(cause.into()),
            #[cfg(feature = "spdy")]
            Self::Reset => {
                let kind = io::ErrorKind::ConnectionReset;
                Err(io::Error::new(kind, "the stream was reset"))
            }
        }
    }
}

/// The queue; see the module's documentation.
pub(crate) struct Pipe {
    state: Mutex<State>,
    /// The number of chunks in the window.
    chunks: usize,
}

#[derive(Default)]
struct State {
    /// The chunks in order, of which only the last may have room left.
    queue: VecDeque<Chunk>,
    /// The number of chunks that the reader holds.
    held: usize,
    /// The number of chunks by which the stall reserve has extended the window.
    extra: usize,
    /// The number of chunks that the mux may fill until it commits.
    promised: usize,
    end: Option<End>,
    /// Set if incoming data is discarded, as it is once the reader has been dropped.
    discard: bool,
    /// Set once the reader has been dropped.
    dropped: bool,
    /// The instant since which data beyond the window stands still, and at which the reader last gave
    /// up a chunk of it. Without such data, it means nothing.
    stands_since: Option<Instant>,
    reader: Option<Waker>,
    /// The amount of data that has ever arrived, including data that was not read.
    received: Traffic,
    /// The number of bytes for which the driver waits, with reading paused, or 0.
    wanted: usize,
}

/// The effects of giving up chunks, which the caller has to act on outside the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use = "the driver may be waiting, and extra chunks belong to the reserve"]
pub(crate) struct Freed {
    /// Set if there is now room for which the driver waits.
    pub(crate) resume: bool,
    /// The number of chunks to give back to the stall reserve.
    pub(crate) extra: usize,
}

/// The next chunk of a pipe, or its end.
pub(crate) enum Take {
    Chunk(Chunk),
    End(End),
}

impl State {
    /// Returns whether incoming data is discarded, because the reader was dropped or the channel has
    /// ended.
    fn is_deaf(&self) -> bool {
        self.discard || self.end.is_some()
    }

    /// Returns the number of bytes that fit into a window of this many chunks.
    fn room(&self, chunks: usize) -> usize {
        if self.is_deaf() {
            return usize::MAX;
        }
        let tail = self.queue.back().map_or(0, |chunk| CHUNK - chunk.len());
        let whole = chunks
            .saturating_add(self.extra)
            .saturating_sub(self.queue.len() + self.held);
        tail.saturating_add(whole.saturating_mul(CHUNK))
    }

    fn take(&mut self) -> Option<Take> {
        if let Some(chunk) = self.queue.pop_front() {
            self.held += 1;
            return Some(Take::Chunk(chunk));
        }
        self.end.clone().map(Take::End)
    }

    /// Returns whether data has a part of the reserve, or waits for room.
    fn is_beyond_window(&self) -> bool {
        self.extra > 0 || self.wanted > 0
    }

    /// Accounts for chunks that were given up. They go to the reserve first, and then to the window.
    fn free(&mut self, chunks: usize) -> Freed {
        let needed = (self.queue.len() + self.held)
            .saturating_add(self.promised)
            .saturating_sub(chunks);
        let extra = self.extra.saturating_sub(needed);
        self.extra -= extra;
        let resume = self.wanted > 0 && self.room(chunks) >= self.wanted;
        if resume {
            self.wanted = 0;
        }
        Freed { resume, extra }
    }
}

/// Appends a piece to chunks of which only the last may have room left.
#[inline(always)] // most pieces are messages that fit
pub(crate) fn fill(chunks: &mut Vec<Chunk>, piece: Masked<'_>) {
    match chunks.last_mut() {
        Some(tail) if piece.len() <= CHUNK - tail.len() => tail.push(piece),
        _ => fill_on(chunks, piece),
    }
}

/// Appends a piece that needs new chunks.
#[inline(never)]
fn fill_on(chunks: &mut Vec<Chunk>, mut piece: Masked<'_>) {
    while !piece.is_empty() {
        let tail = match chunks.last_mut() {
            Some(tail) if tail.len() < CHUNK => tail,
            _ => {
                chunks.push(stock::take_chunk());
                continue;
            }
        };
        let (now, later) = piece.split_at(piece.len().min(CHUNK - tail.len()));
        tail.push(now);
        piece = later;
    }
}

impl Pipe {
    /// Creates a pipe with a window of `window` bytes, rounded up to whole chunks.
    pub(crate) fn new(window: usize) -> Self {
        Self {
            state: Mutex::default(),
            chunks: window.div_ceil(CHUNK).max(1),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock is fine: nothing under it panics between two steps of one change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_reader(mut state: MutexGuard<'_, State>) {
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Returns the amount of data that has ever arrived.
    pub(crate) fn received(&self) -> Traffic {
        self.lock().received
    }
}

/// The methods for the driver and its mux.
impl Pipe {
    /// Returns the number of bytes that fit now.
    pub(crate) fn room(&self) -> usize {
        self.lock().room(self.chunks)
    }

    /// Waits for room for this many bytes. If it is pending, [`Freed::resume`] signals the room.
    pub(crate) fn poll_room(&self, wanted: usize) -> Poll<()> {
        let mut state = self.lock();
        if state.room(self.chunks) < wanted {
            if !state.is_beyond_window() {
                state.stands_since = Some(Instant::now());
            }
            state.wanted = wanted;
            return Poll::Pending;
        }
        state.wanted = 0;
        Poll::Ready(())
    }

    /// Checks out the tail, if it has room, and promises the whole room of the window.
    ///
    /// Returns the size of that room in bytes, or `None` if incoming data is discarded.
    pub(crate) fn check_out(&self, chunks: &mut Vec<Chunk>) -> Option<usize> {
        let mut state = self.lock();
        if state.is_deaf() {
            return None;
        }
        let room = state.room(self.chunks);
        if state.queue.back().is_some_and(|tail| tail.len() < CHUNK) {
            chunks.extend(state.queue.pop_back());
        }
        let used = state.queue.len() + state.held;
        let allowed = self.chunks.saturating_add(state.extra);
        state.promised = allowed.saturating_sub(used);
        Some(room)
    }

    /// Commits the chunks that the mux has filled, and wakes the reader.
    pub(crate) fn commit(&self, chunks: &mut Vec<Chunk>, received: Traffic) -> Freed {
        let mut state = self.lock();
        state.received += received;
        state.promised = 0;
        if !state.is_deaf() {
            state.queue.extend(chunks.drain(..));
        }
        let freed = state.free(self.chunks);
        if state.queue.is_empty() {
            drop(state);
        } else {
            Self::wake_reader(state);
        }
        // Chunks are left if the reader was dropped since the tail was checked out.
        for chunk in chunks.drain(..) {
            stock::give_chunk(chunk);
        }
        freed
    }

    /// Extends the window by one chunk, which [`Freed::extra`] gives back. Returns `false` if there
    /// is no need for it.
    pub(crate) fn extend(&self) -> bool {
        let mut state = self.lock();
        // There may be room since the driver checked. An unused extra chunk would stay until the
        // next chunk is given up.
        let needed = state.room(self.chunks) < state.wanted.max(1);
        state.extra += usize::from(needed);
        needed
    }

    /// Ends the channel. Bytes that arrived before can still be read. Only the first end counts.
    pub(crate) fn end(&self, end: End) {
        let mut state = self.lock();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        Self::wake_reader(state);
    }
}

/// The methods for the reader.
impl Pipe {
    /// Takes the next chunk, or the end.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Take> {
        let mut state = self.lock();
        if let Some(take) = state.take() {
            return Poll::Ready(take);
        }
        if state
            .reader
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            return Poll::Pending;
        }
        drop(state);
        // The user's waker must not be cloned or dropped under the lock, so unlock and check again.
        let waker = cx.waker().clone();
        let mut state = self.lock();
        if let Some(take) = state.take() {
            return Poll::Ready(take);
        }
        let old = state.reader.replace(waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    /// Takes back a chunk that the reader has emptied, or `None` if the user keeps its bytes.
    pub(crate) fn release(&self, chunk: Option<Chunk>) -> Freed {
        if let Some(chunk) = chunk {
            stock::give_chunk(chunk);
        }
        let mut state = self.lock();
        state.held -= 1;
        if state.is_beyond_window() {
            state.stands_since = Some(Instant::now());
        }
        state.free(self.chunks)
    }

    /// Discards all data, now and in the future. The waker of a waiting reader is kept, so that the
    /// reader learns of the end of the channel.
    pub(crate) fn ignore(&self) -> Freed {
        let mut state = self.lock();
        state.discard = true;
        let queue = std::mem::take(&mut state.queue);
        let freed = state.free(self.chunks);
        drop(state);
        for chunk in queue {
            stock::give_chunk(chunk);
        }
        freed
    }

    /// Discards all data after the reader was dropped, and drops the reader's waker, which may be the
    /// only owner of a task.
    ///
    /// The reader must have released the chunks that it held.
    pub(crate) fn discard(&self) -> Freed {
        let reader = self.lock().reader.take();
        drop(reader);
        let freed = self.ignore();
        // Last, because the pipe may be reopened from here on.
        self.lock().dropped = true;
        freed
    }
}

/// The methods for a pipe whose channel stands for one stream after another.
#[cfg(feature = "spdy")]
impl Pipe {
    /// Returns whether the reader was dropped, so that it cannot get the data of a later stream.
    pub(crate) fn is_dropped(&self) -> bool {
        self.lock().dropped
    }

    /// Makes the pipe ready for a new reader. The old one must have been dropped.
    pub(crate) fn reopen(&self) {
        let mut state = self.lock();
        debug_assert!(state.dropped && state.held == 0 && state.queue.is_empty());
        debug_assert_eq!(state.extra, 0, "it would be lost to the reserve");
        *state = State {
            received: state.received,
            ..State::default()
        };
    }

    /// Discards all data that was not read, now and in the future, and lets the reader know that data
    /// is missing, even if the peer has ended the channel.
    pub(crate) fn cut(&self) -> Freed {
        let mut state = self.lock();
        if state.end.is_none() || (state.end == Some(End::Eof) && !state.queue.is_empty()) {
            state.end = Some(End::Reset);
        }
        Self::wake_reader(state);
        self.ignore()
    }

    /// Returns whether data keeps a part of the reserve, or the driver waits for its room.
    pub(crate) fn is_stalled(&self) -> bool {
        let state = self.lock();
        state.extra > 0 || (state.wanted > 0 && !state.is_deaf())
    }

    /// Returns the instant since which data beyond the window was not read.
    pub(crate) fn stands_since(&self) -> Option<Instant> {
        self.lock().stands_since
    }

    /// Returns whether a reader waits for data.
    pub(crate) fn is_awaited(&self) -> bool {
        self.lock().reader.is_some()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: usize = 256 * 1024;

    /// Pushes a piece like the mux, if there is room for all of it.
    fn push(pipe: &Pipe, piece: &[u8]) -> bool {
        let mut chunks = Vec::new();
        let room = pipe.check_out(&mut chunks);
        let fits = room.is_none_or(|room| piece.len() <= room);
        if fits {
            fill(&mut chunks, Masked::plain(piece));
        }
        let _ = pipe.commit(&mut chunks, Traffic::default());
        fits
    }

    fn take(pipe: &Pipe) -> Option<Chunk> {
        match pipe.poll_take(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Take::Chunk(chunk)) => Some(chunk),
            _ => None,
        }
    }

    #[test]
    fn exactly_the_window_fits_in_messages_of_any_size() {
        for size in [1, 3, 1000, CHUNK, CHUNK + 1, 100_000, WINDOW] {
            let pipe = Pipe::new(WINDOW);
            let mut pushed = 0;
            while pushed < WINDOW {
                let size = size.min(WINDOW - pushed);
                assert!(push(&pipe, &vec![7; size]), "{size} at {pushed}");
                pushed += size;
            }
            assert_eq!(pipe.room(), 0);
            assert!(!push(&pipe, b"x"));
        }
    }

    #[test]
    fn a_window_without_end_is_no_overflow() {
        let pipe = Pipe::new(usize::MAX);
        assert!(push(&pipe, b"x"));
        assert!(pipe.room() > 1 << 40);
    }

    #[test]
    fn a_chunk_counts_until_it_is_released() {
        let pipe = Pipe::new(WINDOW);
        assert!(push(&pipe, &vec![0; WINDOW]));
        let chunk = take(&pipe).unwrap();
        assert_eq!(pipe.room(), 0);
        assert!(pipe.poll_room(1).is_pending());
        let freed = pipe.release(Some(chunk));
        assert!(freed.resume, "the driver waited for that");
        assert_eq!(pipe.room(), CHUNK);
    }

    #[test]
    fn bytes_that_the_user_keeps_do_not_count() {
        let pipe = Pipe::new(WINDOW);
        let mut kept = Vec::new();
        for _ in 0..10 {
            assert!(push(&pipe, &vec![1; WINDOW]));
            while let Some(chunk) = take(&pipe) {
                kept.push(chunk.into_bytes());
                let _ = pipe.release(None);
            }
        }
        assert_eq!(
            kept.iter().map(bytes::Bytes::len).sum::<usize>(),
            10 * WINDOW
        );
    }

    #[test]
    fn bytes_come_before_the_end() {
        let pipe = Pipe::new(WINDOW);
        assert!(push(&pipe, b"last"));
        pipe.end(End::Eof);
        pipe.end(End::Error(EndCause::Aborted));
        assert_eq!(take(&pipe).unwrap().bytes(), b"last");
        let end = pipe.poll_take(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(end, Poll::Ready(Take::End(End::Eof))));
    }

    #[test]
    fn room_that_was_promised_stays_when_the_reader_takes_the_tail() {
        for window in [1, 4, 16].map(|chunks| chunks * CHUNK) {
            let pipe = Pipe::new(window);
            assert!(push(&pipe, b"x"));
            let mut chunks = Vec::new();
            let room = pipe.check_out(&mut chunks).unwrap();
            // At this point, the reader runs on another thread, and finds nothing.
            assert!(take(&pipe).is_none());
            fill(&mut chunks, Masked::plain(&vec![7; room]));
            assert_eq!(
                pipe.commit(&mut chunks, Traffic::default()),
                Freed::default()
            );
            let chunk = take(&pipe).unwrap();
            let (mut taken, mut next) = (0, Some(chunk));
            while let Some(chunk) = next {
                taken += chunk.bytes().len();
                let _ = pipe.release(Some(chunk));
                next = take(&pipe);
            }
            assert_eq!(taken, 1 + room, "window {window}");
            assert_eq!(pipe.room(), window);
        }
    }

    #[test]
    fn two_threads_lose_nothing() {
        const PIECES: usize = 5_000;
        let pipe = Pipe::new(CHUNK);
        let piece = vec![7; 5000];
        std::thread::scope(|scope| {
            let pushed = scope.spawn(|| {
                let mut pushed = 0;
                for _ in 0..PIECES {
                    // The reader may take the tail, and with it the tail's room, between `room`
                    // and `push`.
                    pushed += loop {
                        let n = pipe.room().min(piece.len());
                        if n > 0 && push(&pipe, &piece[..n]) {
                            break n;
                        }
                        std::thread::yield_now();
                    };
                }
                pipe.end(End::Eof);
                pushed
            });
            let mut taken = 0;
            loop {
                match pipe.poll_take(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(Take::Chunk(chunk)) => {
                        taken += chunk.bytes().len();
                        let _ = pipe.release(Some(chunk));
                    }
                    Poll::Ready(Take::End(_)) => break,
                    Poll::Pending => std::thread::yield_now(),
                }
            }
            assert_eq!(taken, pushed.join().unwrap());
        });
    }

    #[test]
    fn a_dropped_reader_discards() {
        let pipe = Pipe::new(WINDOW);
        assert!(push(&pipe, &vec![0; WINDOW]));
        assert!(pipe.poll_room(1).is_pending());
        assert!(pipe.discard().resume, "the driver waited for that");
        assert!(push(&pipe, &vec![0; 2 * WINDOW]));
    }

    #[test]
    fn extra_chunks_go_back_before_there_is_room_again() {
        let pipe = Pipe::new(WINDOW);
        assert!(push(&pipe, &vec![0; WINDOW]));
        for extra in 1..=5 {
            assert!(pipe.poll_room(1).is_pending(), "{extra}");
            assert!(pipe.extend());
            assert!(pipe.poll_room(1).is_ready(), "{extra}");
            assert!(push(&pipe, &vec![0; CHUNK]));
        }
        assert!(pipe.poll_room(1).is_pending());
        for _ in 0..5 {
            let freed = pipe.release(take(&pipe));
            let back = Freed {
                resume: false,
                extra: 1,
            };
            assert_eq!((freed, pipe.room()), (back, 0));
        }
        let freed = pipe.release(take(&pipe));
        let room = Freed {
            resume: true,
            extra: 0,
        };
        assert_eq!((freed, pipe.room()), (room, CHUNK));
    }

    #[test]
    fn extra_chunks_go_back_unused_or_with_the_reader() {
        let pipe = Pipe::new(WINDOW);
        assert!(push(&pipe, &vec![0; WINDOW]));
        assert!(pipe.extend());
        assert_eq!(pipe.release(take(&pipe)).extra, 1, "not used");
        assert!(push(&pipe, &vec![0; CHUNK]));
        assert!(pipe.extend());
        assert!(push(&pipe, &vec![0; CHUNK]));
        assert_eq!(pipe.discard().extra, 1);
        assert!(!pipe.extend(), "it has no reader any more");
    }

    #[test]
    fn extra_chunks_go_back_where_the_reader_leaves_in_the_middle_of_a_read() {
        // Two bytes of room are too few for a quad of base64.
        let pipe = Pipe::new(CHUNK);
        assert!(push(&pipe, &[0; CHUNK - 2]));
        assert!(pipe.poll_room(3).is_pending() && pipe.extend());
        let mut chunks = Vec::new();
        assert_eq!(pipe.check_out(&mut chunks), Some(CHUNK + 2));
        fill(&mut chunks, Masked::plain(b"discarded"));
        let early = pipe.discard().extra;
        assert_eq!(
            early + pipe.commit(&mut chunks, Traffic::default()).extra,
            1
        );
        assert!(chunks.is_empty());
    }

    #[test]
    fn a_window_that_has_room_is_not_extended() {
        let pipe = Pipe::new(WINDOW);
        assert!(push(&pipe, &vec![0; WINDOW]));
        assert!(pipe.poll_room(1).is_pending());
        // The reader runs between the driver's check and the end of its turn.
        while let Some(chunk) = take(&pipe) {
            let _ = pipe.release(Some(chunk));
        }
        assert!(
            !pipe.extend(),
            "it would stay until the next chunk is given up"
        );
    }
}
