//! Buffers that no session needs just now.
//!
//! A session that sleeps keeps no buffer: what is empty goes back to the stock
//! of the thread that noticed, and the next session to wake on that thread
//! takes it, still warm. So an idle session costs nothing, and a busy one
//! allocates nothing.

use std::cell::RefCell;

use bytes::BytesMut;

/// Size of a piece of a receive window. Sixteen of them make the default
/// window, and one takes what one read of the default size brings.
pub(crate) const CHUNK: usize = 16 * 1024;

/// Chunks that a thread keeps: one default window.
const CHUNKS: usize = 16;

/// What an out buffer can hold without growing: the write cap of the queue.
pub(crate) const OUT_BUFFER: usize = 60 * 1024;

/// Out buffers that a thread keeps. A session needs one at a time, and hands
/// it back before the next one runs, unless its socket is full.
const OUT_BUFFERS: usize = 8;

#[derive(Default)]
struct Stock {
    chunks: Vec<BytesMut>,
    out: Vec<Vec<u8>>,
}

thread_local! {
    static STOCK: RefCell<Stock> = RefCell::default();
}

/// An empty chunk of at least `CHUNK` bytes of capacity.
pub(crate) fn take_chunk() -> BytesMut {
    // A thread that is being torn down has no stock any more: allocate.
    STOCK
        .try_with(|stock| stock.borrow_mut().chunks.pop())
        .ok()
        .flatten()
        .unwrap_or_else(|| BytesMut::with_capacity(CHUNK))
}

/// Takes an empty chunk back.
pub(crate) fn give_chunk(mut chunk: BytesMut) {
    chunk.clear();
    // Parts of it that were handed out as `Bytes` cannot be had back.
    if chunk.capacity() < CHUNK {
        return;
    }
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

/// Takes an out buffer back, unless it has outgrown its size (as before the
/// 101, when writes pile up) or never had it.
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
