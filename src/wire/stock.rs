//! The buffers that no session needs at the moment.
//!
//! A sleeping session keeps no buffer: when a buffer is empty, it goes back to the stock of the
//! current thread. The next session that runs on that thread takes it, still in the cache. So an
//! idle session has no buffers, and a busy one does not allocate any.

use std::cell::RefCell;

use bytes::Bytes;

use super::inbound::Chunk;

/// The number of chunks that a thread keeps, which is one default window.
const CHUNKS: usize = 16;

/// The capacity of an out buffer: the default budget of a channel, the single write that may exceed
/// it, their frame headers, and some bytes that have already left.
pub(crate) const OUT_BUFFER: usize = 100 * 1024;

/// The number of out buffers that a thread keeps. A session needs one at a time, and gives it back
/// before the next session runs, unless its socket is full.
const OUT_BUFFERS: usize = 8;

/// The capacity of a list of payloads that have left. A turn with the default budgets does not need
/// more, and a list of another size costs an allocation each time.
const SPENT: usize = 8;

#[derive(Default)]
struct Stock {
    chunks: Vec<Chunk>,
    out: Vec<Vec<u8>>,
    /// One list is enough, because a thread uses one at a time.
    spent: Vec<Bytes>,
}

thread_local! {
    static STOCK: RefCell<Stock> = RefCell::default();
}

/// Returns an empty chunk.
pub(crate) fn take_chunk() -> Chunk {
    // A thread that is being torn down has no stock any more. In that case, this allocates.
    STOCK
        .try_with(|stock| stock.borrow_mut().chunks.pop())
        .ok()
        .flatten()
        .unwrap_or_else(Chunk::new)
}

/// Takes back a chunk that is no longer needed.
pub(crate) fn give_chunk(mut chunk: Chunk) {
    chunk.clear();
    let _ = STOCK.try_with(|stock| {
        let chunks = &mut stock.borrow_mut().chunks;
        if chunks.len() < CHUNKS {
            chunks.push(chunk);
        }
    });
}

/// Returns an empty out buffer.
pub(crate) fn take_out() -> Vec<u8> {
    STOCK
        .try_with(|stock| stock.borrow_mut().out.pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(OUT_BUFFER))
}

/// Takes back an out buffer. Drops one of another size.
pub(crate) fn give_out(mut buffer: Vec<u8>) {
    buffer.clear();
    if buffer.capacity() != OUT_BUFFER {
        return;
    }
    let _ = STOCK.try_with(|stock| {
        let out = &mut stock.borrow_mut().out;
        if out.len() < OUT_BUFFERS {
            out.push(buffer);
        }
    });
}

/// Returns an empty list for payloads that have left.
pub(crate) fn take_spent() -> Vec<Bytes> {
    let spent = STOCK
        .try_with(|stock| std::mem::take(&mut stock.borrow_mut().spent))
        .unwrap_or_default();
    match spent.capacity() {
        0 => Vec::with_capacity(SPENT),
        _ => spent,
    }
}

/// Takes back an empty list. Drops one that has grown.
pub(crate) fn give_spent(spent: Vec<Bytes>) {
    debug_assert!(spent.is_empty());
    if spent.capacity() == SPENT {
        let _ = STOCK.try_with(|stock| stock.borrow_mut().spent = spent);
    }
}
