//! Tests of every interleaving of a turn with the threads that wake it. To run them:
//! `RUSTFLAGS="--cfg wsstream_loom" cargo test --release --lib wire::turn`.

use loom::{
    sync::{Arc as LoomArc, atomic::AtomicBool},
    thread,
};

use super::*;
use crate::wire::fixture::park::{Park, check};

/// Uses the turn in the same way as `Task::poll`.
fn poll(
    turn: &Turn,
    waker: &Waker,
    rounds: usize,
    mut driver: impl FnMut(),
    mut service: impl FnMut(),
) {
    turn.register(waker);
    for _ in 0..rounds {
        if turn.begin() {
            driver();
        }
        if turn.take_service() {
            service();
        }
        if turn.end() {
            return;
        }
    }
    turn.pass();
    waker.wake_by_ref();
}

fn no_wake_is_lost(rounds: usize) {
    // This many preemptions find every wake-up that a broken turn was seen to lose, in seconds.
    check(3, move || {
        let turn = Turn::new();
        let park = Park::new();
        // Always Relaxed, because the turn has to make them visible.
        let said = [(); 2].map(|()| LoomArc::new(AtomicBool::new(false)));
        let wakers = [turn.driver_waker(), turn.service_waker()];
        let threads: Vec<_> = said
            .iter()
            .cloned()
            .zip(wakers)
            .map(|(said, waker)| {
                thread::spawn(move || {
                    said.store(true, Ordering::Relaxed);
                    waker.wake();
                })
            })
            .collect();
        let mut heard = [false; 2];
        loop {
            let [driver, service] = &mut heard;
            poll(
                &turn,
                park.waker(),
                rounds,
                || *driver |= said[0].load(Ordering::Relaxed),
                || *service |= said[1].load(Ordering::Relaxed),
            );
            if heard == [true; 2] {
                break;
            }
            park.sleep();
        }
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn no_wake_is_lost_in_any_interleaving() {
    no_wake_is_lost(3);
}

#[test]
fn no_wake_is_lost_when_the_task_lets_others_run() {
    no_wake_is_lost(1);
}
