//! Speed of decoding frames, and of encoding messages into the out buffer.
//!
//!     cargo bench --features __bench --bench frame

use divan::{Bencher, counter::BytesCount};
use tower_wsstream::bench::{Outbound, decode};

mod support;
use support::{READ, SIZES, many, messages};

fn main() {
    divan::main();
}

/// Decodes frames only: their payload stays masked.
#[divan::bench(args = SIZES)]
fn decoded(bencher: Bencher<'_, '_>, size: usize) {
    let wire = messages(size, false, many(size));
    bencher
        .counter(BytesCount::new(size * many(size)))
        .bench_local(|| decode(divan::black_box(&wire), READ));
}

#[divan::bench(args = SIZES)]
fn encoded(bencher: Bencher<'_, '_>, size: usize) {
    let payload = vec![7; size];
    let mut outbound = Outbound::new(false);
    bencher
        .counter(BytesCount::new(size * many(size)))
        .bench_local(|| {
            for _ in 0..many(size) {
                divan::black_box(outbound.write(divan::black_box(&payload)));
            }
        });
}
