//! Speed of messages from the bytes of a read to the reader of their channel, and the
//! share of the channel's queue in that.
//!
//!     cargo bench --features __bench --bench mux

use divan::{Bencher, counter::BytesCount};
use tower_wsstream::bench::{Inbound, Queue};

mod support;
use support::{READ, SIZES, many, messages};

fn main() {
    divan::main();
}

fn read(bencher: Bencher<'_, '_>, size: usize, base64: bool) {
    let wire = messages(size, base64, many(size));
    let mut inbound = Inbound::new(base64);
    bencher
        .counter(BytesCount::new(size * many(size)))
        .bench_local(|| {
            for read in divan::black_box(&wire).chunks(READ) {
                divan::black_box(inbound.read(read)).expect("valid frames");
            }
        });
}

#[divan::bench(args = SIZES)]
fn binary(bencher: Bencher<'_, '_>, size: usize) {
    read(bencher, size, false);
}

#[divan::bench(args = SIZES)]
fn base64(bencher: Bencher<'_, '_>, size: usize) {
    read(bencher, size, true);
}

#[divan::bench(args = SIZES)]
fn pipe(bencher: Bencher<'_, '_>, size: usize) {
    let piece = vec![7; size];
    let mut queue = Queue::new();
    bencher
        .counter(BytesCount::new(size))
        .bench_local(|| queue.pass(divan::black_box(&piece)));
}
