//! Tests of every interleaving of a turn with the threads that wake it. To run them:
//! `RUSTFLAGS="--cfg wsstream_loom" cargo test --release --lib wire::turn`.

use std::task::Wake;

use loom::{
    sync::{Arc as LoomArc, Condvar, Mutex, atomic::AtomicBool},
    thread,
};

use super::*;

/// The thread of an executor, which sleeps until its task is woken. A lost wake-up is a deadlock,
/// which loom reports.
struct Park(LoomArc<(Mutex<bool>, Condvar)>);

impl Wake for Park {
    fn wake(self: Arc<Self>) {
        let (woken, wakes) = &*self.0;
        *woken.lock().unwrap() = true;
        wakes.notify_one();
    }
}

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
    let mut model = loom::model::Builder::new();
    // This finds every wake-up that a broken turn was seen to lose, in seconds.
    model.preemption_bound = Some(3);
    model.check(move || {
        let turn = Turn::new();
        let park = LoomArc::new((Mutex::new(false), Condvar::new()));
        let waker = Waker::from(Arc::new(Park(LoomArc::clone(&park))));
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
                &waker,
                rounds,
                || *driver |= said[0].load(Ordering::Relaxed),
                || *service |= said[1].load(Ordering::Relaxed),
            );
            if heard == [true; 2] {
                break;
            }
            let (woken, wakes) = &*park;
            let mut woken = woken.lock().unwrap();
            while !*woken {
                woken = wakes.wait(woken).unwrap();
            }
            *woken = false;
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
