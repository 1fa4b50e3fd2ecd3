//! Access for the benchmarks in `benches/` to the parts that need no socket.
//!
//! This module is not part of the public interface, and changes without notice.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::BytesMut;
use tokio::io::AsyncBufRead;

use crate::{
    channel::ChannelReader,
    error::EndCause,
    frame::{Control, Decoder, Masked, MessageKind, Role, Sink},
    mux::Mux,
    protocol::{
        Format,
        base64::{Base64Decoder, encode_into},
    },
    wire::{
        Chunk, FLUSH, Pipe, SendQueue, StallReserve, Take, TotalReserve, Traffic, Turn, Wire,
        WireConfig,
    },
};

/// The default window and high-water mark.
const WINDOW: usize = 256 * 1024;

fn decoder() -> Decoder {
    Decoder::new(Role::Server, u64::MAX, None)
}

/// A sink that counts the bytes of payload.
#[derive(Default)]
struct Count(usize);

impl Sink for Count {
    type Error = EndCause;

    fn begin(&mut self, _: MessageKind) -> Result<(), EndCause> {
        Ok(())
    }
    fn room(&mut self) -> usize {
        usize::MAX
    }
    fn payload(&mut self, piece: Masked<'_>) -> Result<(), EndCause> {
        self.0 += piece.len();
        Ok(())
    }
    fn end(&mut self) -> Result<(), EndCause> {
        Ok(())
    }
    fn message(&mut self, _: MessageKind, piece: Masked<'_>) -> Result<bool, EndCause> {
        self.0 += piece.len();
        Ok(true)
    }
    fn control(&mut self, _: Control<'_>) -> Result<(), EndCause> {
        Ok(())
    }
}

/// Decodes the data of a client in reads of this size, without unmasking it. Returns the number of
/// bytes of payload.
pub fn decode(wire: &[u8], read: usize) -> Result<usize, EndCause> {
    let (mut decoder, mut count) = (decoder(), Count::default());
    for read in wire.chunks(read) {
        decoder.decode(read, &mut count)?;
    }
    Ok(count.0)
}

/// The inbound path, from the wire through the state of the channels to a reader.
pub struct Inbound {
    decoder: Decoder,
    mux: Mux,
    reader: ChannelReader,
}

impl Inbound {
    /// Creates channel 0 with the default window.
    pub fn new(base64: bool) -> Self {
        let format = format(base64);
        let config = WireConfig {
            format,
            channels: 1,
            receive_window: WINDOW,
            send_budget: WINDOW,
            high_water: WINDOW,
            stamps: false,
        };
        let reserve = StallReserve::new(0, &TotalReserve::new(0));
        let wire = Wire::new(Turn::new(), &config, reserve, |_| true, |_| false);
        Self {
            decoder: decoder(),
            mux: Mux::new(Arc::clone(&wire), format, false),
            reader: ChannelReader::new(wire, 0),
        }
    }

    /// Feeds one read of the connection, and returns how many bytes the reader got. The reader does
    /// not copy them.
    pub fn read(&mut self, wire: &[u8]) -> Result<usize, EndCause> {
        self.decoder.decode(wire, &mut self.mux)?;
        self.mux.commit();
        let cx = &mut Context::from_waker(Waker::noop());
        let mut total = 0;
        while let Poll::Ready(Ok(bytes)) = Pin::new(&mut self.reader).poll_fill_buf(cx) {
            let n = bytes.len();
            total += n;
            Pin::new(&mut self.reader).consume(n);
        }
        Ok(total)
    }
}

/// The outbound path: messages go into the output buffer, which is emptied at the flush size.
pub struct Outbound(SendQueue);

impl Outbound {
    /// Creates channel 0 with the default budgets.
    pub fn new(base64: bool) -> Self {
        Self(SendQueue::new(format(base64), 1, WINDOW, WINDOW))
    }

    /// Queues one message, and returns how many bytes have left.
    pub fn write(&mut self, payload: &[u8]) -> usize {
        self.0.push(0, payload);
        if self.0.queued() < FLUSH {
            return 0;
        }
        let mut left = 0;
        while let Some(next) = self.0.next(false) {
            let n = next.slices().iter().map(|slice| slice.len()).sum();
            self.0.advance(n);
            left += n;
        }
        left
    }
}

/// The pipe of one channel: pieces go in, and chunks come out.
pub struct Queue {
    pipe: Pipe,
    chunks: Vec<Chunk>,
}

impl Queue {
    /// Creates a queue with the default window.
    #[expect(
        clippy::new_without_default,
        reason = "a benchmark names what it creates"
    )]
    pub fn new() -> Self {
        Self {
            pipe: Pipe::new(WINDOW),
            chunks: Vec::new(),
        }
    }

    /// Feeds one piece, and takes everything. Returns the number of bytes taken.
    pub fn pass(&mut self, piece: &[u8]) -> usize {
        if self.pipe.check_out(&mut self.chunks).is_none() {
            return 0;
        }
        crate::wire::fill(&mut self.chunks, Masked::plain(piece));
        let _ = self.pipe.commit(&mut self.chunks, Traffic::default());
        let cx = &mut Context::from_waker(Waker::noop());
        let mut total = 0;
        while let Poll::Ready(Take::Chunk(chunk)) = self.pipe.poll_take(cx) {
            total += chunk.bytes().len();
            let _ = self.pipe.release(Some(chunk));
        }
        total
    }
}

/// Appends the base64 of a payload.
pub fn base64_encode(payload: &[u8], out: &mut Vec<u8>) {
    encode_into(payload, out);
}

/// Decodes one message of base64. Returns `false` if it is invalid.
pub fn base64_decode(text: &[u8], out: &mut BytesMut) -> bool {
    let mut decoder = Base64Decoder::default();
    decoder.decode(text, out).is_ok() && decoder.finish().is_ok()
}

fn format(base64: bool) -> Format {
    match base64 {
        true => Format::Base64,
        false => Format::Binary,
    }
}

macro_rules! opaque {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }
    )*};
}
opaque!(Inbound, Outbound, Queue);
