//! Tests of every interleaving of a driver that fills the pipe of a channel with the reader that
//! empties it. To run them:
//! `RUSTFLAGS="--cfg wsstream_loom" cargo test --release --lib interleavings`.

use std::sync::Arc;

use loom::thread;

use super::{CHUNK, End, Inbound, StallReserve, Take, TotalReserve, fill};
use crate::{
    frame::Masked,
    protocol::Format,
    wire::{
        Traffic, Turn, WireConfig,
        fixture::park::{Park, check},
    },
};

/// The part of the reader.
#[derive(Clone, Copy)]
enum Reads {
    All,
    /// It is dropped after the first chunk.
    OneChunk,
}

/// Passes pieces of this size through a pipe with a window of one chunk, and then an end.
fn nothing_is_lost(pieces: &'static [usize], reads: Reads) {
    check(2, move || {
        let turn = Turn::new();
        let config = WireConfig {
            format: Format::Binary,
            channels: 1,
            receive_window: 1,
            send_budget: 1,
            high_water: 1,
            stamps: false,
        };
        let reserve = StallReserve::new(0, &TotalReserve::new(0));
        let inbound = Arc::new(Inbound::new(&turn, &config, reserve, |_| true));
        let reader = {
            let inbound = Arc::clone(&inbound);
            thread::spawn(move || read(&inbound, pieces, reads))
        };
        drive(&turn, &inbound, pieces);
        reader.join().unwrap();
    });
}

/// Feeds the pieces as a session's task does: as much as there is room for, whenever it is due.
fn drive(turn: &Turn, inbound: &Inbound, pieces: &[usize]) {
    let park = Park::new();
    let pipe = inbound.pipe(0).unwrap();
    let mut next = 0;
    while next < pieces.len() {
        turn.register(park.waker());
        turn.take_service();
        if turn.begin() {
            while let Some(&len) = pieces.get(next) {
                let mut chunks = Vec::new();
                let fits = pipe.check_out(&mut chunks).is_none_or(|room| room >= len);
                if fits {
                    fill(&mut chunks, Masked::plain(&vec![next as u8; len]));
                }
                inbound.commit(0, &mut chunks, Traffic::default());
                if fits {
                    next += 1;
                } else if pipe.poll_room(len).is_pending() {
                    break;
                }
            }
        }
        if next < pieces.len() && turn.end() {
            park.sleep();
        }
    }
    pipe.end(End::Eof);
}

fn read(inbound: &Inbound, pieces: &[usize], reads: Reads) {
    let park = Park::new();
    let pipe = inbound.pipe(0).unwrap();
    let mut got = Vec::new();
    loop {
        match park.block_on(|cx| pipe.poll_take(cx)) {
            Take::Chunk(chunk) => {
                got.extend_from_slice(chunk.bytes());
                inbound.release(0, Some(chunk));
            }
            Take::End(end) => {
                assert_eq!(end, End::Eof);
                break;
            }
        }
        if let Reads::OneChunk = reads {
            return inbound.discard(0);
        }
    }
    let sent = pieces.iter().enumerate();
    let sent: Vec<u8> = sent.flat_map(|(at, &len)| vec![at as u8; len]).collect();
    assert!(got == sent, "other bytes");
    // The end stays.
    assert!(park.block_on(|cx| pipe.poll_take(cx).map(|take| matches!(take, Take::End(_)))));
}

#[test]
fn a_full_window_is_filled_again_in_any_interleaving() {
    nothing_is_lost(&[CHUNK, CHUNK], Reads::All);
}

#[test]
fn a_reader_may_take_the_tail_in_any_interleaving() {
    nothing_is_lost(&[1, 1, CHUNK], Reads::All);
}

#[test]
fn a_reader_may_be_dropped_in_any_interleaving() {
    nothing_is_lost(&[CHUNK, CHUNK, CHUNK], Reads::OneChunk);
}
