//! Buffers that no session needs just now.
//!
//! A session that sleeps keeps no buffer: what is empty goes back to the stock
//! of the thread that noticed, and the next session to wake on that thread
//! takes it, still warm. So an idle session costs nothing, and a busy one
//! allocates nothing.

use std::cell::RefCell;

use super::inbound::Chunk;

/// Chunks that a thread keeps: one default window.
const CHUNKS: usize = 16;

/// What an out buffer can hold without growing: the default budget of a channel, the
/// one write that may pass it, their heads, and some bytes that have left already.
pub(crate) const OUT_BUFFER: usize = 100 * 1024;

/// Out buffers that a thread keeps. A session needs one at a time, and hands
/// it back before the next one runs, unless its socket is full.
const OUT_BUFFERS: usize = 8;

#[derive(Default)]
struct Stock {
    chunks: Vec<Chunk>,
    out: Vec<Vec<u8>>,
}

thread_local! {
    static STOCK: RefCell<Stock> = RefCell::default();
}

/// An empty chunk.
pub(crate) fn take_chunk() -> Chunk {
    // A thread that is being torn down has no stock any more: allocate.
    STOCK
        .try_with(|stock| stock.borrow_mut().chunks.pop())
        .ok()
        .flatten()
        .unwrap_or_else(Chunk::new)
}

/// Takes a chunk back that nobody needs.
pub(crate) fn give_chunk(mut chunk: Chunk) {
    chunk.clear();
    let _ = STOCK.try_with(|stock| {
        let chunks = &mut stock.borrow_mut().chunks;
        if chunks.len() < CHUNKS {
            chunks.push(chunk);
        }
    });
}

/// An empty out buffer.
pub(crate) fn take_out() -> Vec<u8> {
    STOCK
        .try_with(|stock| stock.borrow_mut().out.pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| Vec::with_capacity(OUT_BUFFER))
}

/// Takes an out buffer back, unless it never had that size.
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
