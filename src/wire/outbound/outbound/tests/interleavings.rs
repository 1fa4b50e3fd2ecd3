//! Tests of every interleaving of a writer in a task of its own with the session's task and the
//! transport. To run them:
//! `RUSTFLAGS="--cfg wsstream_loom" cargo test --release --lib interleavings`.

use loom::thread;

use super::*;
use crate::wire::fixture::{
    SharedLine,
    park::{Park, check},
};

/// Returns a wire with one channel, whose budget is one byte, over a transport that is full.
fn full() -> (Arc<Wire>, SharedLine) {
    let config = WireConfig {
        format: Format::Binary,
        channels: 1,
        receive_window: 1,
        send_budget: 1,
        high_water: 1,
        stamps: false,
    };
    let reserve = StallReserve::new(0, &TotalReserve::new(0));
    let wire = Wire::new(Turn::new(), &config, reserve, |_| false, |_| true);
    let line = SharedLine::default();
    wire.outbound
        .install(WriteHalf::Whole(Box::pin(line.clone())));
    (wire, line)
}

/// Runs the session's task until `is_over`.
fn run_task(wire: &Wire, mut is_over: impl FnMut() -> bool) {
    let park = Park::new();
    loop {
        wire.turn.register(park.waker());
        let due = wire.turn.begin();
        wire.outbound.begin_turn(due);
        wire.turn.take_service();
        wire.outbound.end_turn(&mut Vec::new());
        if is_over() {
            return;
        }
        if wire.turn.end() {
            park.sleep();
        }
    }
}

#[test]
fn all_that_is_written_leaves_in_any_interleaving() {
    check(3, || {
        let (wire, line) = full();
        let writer = {
            let wire = Arc::clone(&wire);
            thread::spawn(move || {
                let park = Park::new();
                for byte in 0..2 {
                    let written = park.block_on(|cx| wire.outbound.poll_write(cx, 0, &[byte]));
                    assert!(matches!(written, Ok(1)));
                }
                let flushed = park.block_on(|cx| wire.outbound.poll_flush(cx, 0));
                assert!(flushed.is_ok());
                wire.outbound.drop_writer(0);
            })
        };
        let socket = {
            let line = line.clone();
            // The first bytes fill it again.
            thread::spawn(move || {
                line.wake(|line| line.room += 3);
                line.wake(|line| line.room += 100);
            })
        };
        run_task(&wire, || wire.outbound.open_writers() == 0);
        writer.join().unwrap();
        socket.join().unwrap();
        let out = line.with(|line| line.out.clone());
        assert_eq!(out, [0x82, 2, 0, 0, 0x82, 2, 0, 1]);
    });
}

#[test]
fn a_write_that_waits_is_refused_in_any_interleaving() {
    for taken in [false, true] {
        check(3, move || {
            let (wire, line) = full();
            let writer = {
                let wire = Arc::clone(&wire);
                thread::spawn(move || {
                    let park = Park::new();
                    // The first one may be accepted.
                    let _ = park.block_on(|cx| wire.outbound.poll_write(cx, 0, &[0]));
                    let second = park.block_on(|cx| wire.outbound.poll_write(cx, 0, &[1]));
                    assert!(second.is_err());
                    let flushed = park.block_on(|cx| wire.outbound.poll_flush(cx, 0));
                    // All of it has left if nothing was accepted.
                    assert!(taken || flushed.is_ok());
                    wire.outbound.drop_writer(0);
                })
            };
            wire.outbound.begin_turn(true);
            wire.outbound.end_turn(&mut Vec::new());
            wire.outbound.refuse_writers(&EndCause::Aborted);
            match taken {
                true => drop(wire.outbound.take_transport()),
                // Accepted data leaves.
                false => {
                    line.wake(|line| line.room += 100);
                    run_task(&wire, || wire.outbound.open_writers() == 0);
                }
            }
            writer.join().unwrap();
        });
    }
}
