//! Thousands of sessions over TCP, with faults, for as long as one likes.
//!
//! The server is a child process, which runs this binary again. So its resident memory, its
//! descriptors and its tasks can be read from outside. Each visit of a client is random, and checks
//! every byte and the end of its session. A visit that breaks its connection asks afterwards what the
//! service has seen of it.
//!
//! ```console
//! SECONDS=600 cargo test --release --all-features --test soak -- --nocapture
//! ```
//!
//! `SEED` makes the visits the same again, but not the order of what both processes do.

#![cfg(target_os = "linux")]

mod figures;
mod server;
mod visit;

#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/head.rs"]
mod head;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/random.rs"]
mod random;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/raw.rs"]
mod raw;

use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use self::{figures::Figures, random::Random, server::Server};

/// The clients that visit at the same time.
const CLIENTS: usize = 24;

/// The growth of resident memory after the warm-up that is not a leak: tables that grow with the most
/// sessions at once, and pages that the allocator keeps.
const GROWTH: u64 = 4 << 20;

/// The growth of the heap. The thread keeps up to 16 chunks and 8 buffers for later sessions.
const KEPT: u64 = 1120 * 1024;

#[test]
fn nothing_is_lost_and_nothing_is_left() {
    let Some(server) = server::start("nothing_is_lost_and_nothing_is_left") else {
        return;
    };
    let number = |name| env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let seconds = Duration::from_secs(number("SECONDS").unwrap_or(10));
    let seed = number("SEED").unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let tally = Arc::new(Mutex::new(BTreeMap::new()));
    let (warm, sessions) = runtime.block_on(async {
        visits(&server, seed, seconds / 4, &tally).await;
        let warm = Figures::at_rest(&server).await;
        let sessions = visits(&server, seed ^ 0x5eed, seconds * 3 / 4, &tally).await;
        (warm, sessions)
    });
    let end = runtime.block_on(Figures::at_rest(&server));
    println!("seed {seed}, {seconds:?}, {sessions} sessions after the warm-up");
    for (what, n) in tally.lock().expect("no panic").iter() {
        println!("  {n:>8} {what}");
    }
    println!("after the warm-up: {warm}\nat the end:        {end}");
    assert_eq!(warm.tasks, end.tasks, "tasks are left");
    assert_eq!(warm.descriptors, end.descriptors, "descriptors are left");
    assert_eq!(end.sessions, 0, "sessions are left");
    assert!(end.heap < warm.heap + KEPT, "the heap has grown");
    assert!(end.resident < warm.resident + GROWTH, "memory has grown");
    assert_eq!(end.panics, 0, "a panic that was not on purpose");
}

/// The outcomes of the visits, by kind.
type Tally = Arc<Mutex<BTreeMap<String, u64>>>;

/// Visits the server for a while. Returns the number of visits.
async fn visits(server: &Server, seed: u64, time: Duration, tally: &Tally) -> u64 {
    let until = Instant::now() + time;
    let visits = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|client| {
            let (address, visits) = (server.address.clone(), Arc::clone(&visits));
            let tally = Arc::clone(tally);
            let mut random = Random::of_seed(seed.wrapping_mul(CLIENTS as u64) + client);
            tokio::spawn(async move {
                while Instant::now() < until {
                    let id = visits.fetch_add(1, Ordering::Relaxed);
                    let name = format!("{seed}-{client}-{id}");
                    let came = visit::visit(&address, &name, &mut random).await;
                    let came = came.unwrap_or_else(|wrong| panic!("visit {name}: {wrong}"));
                    *tally.lock().expect("no panic").entry(came).or_default() += 1;
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a visit failed");
    }
    visits.load(Ordering::Relaxed)
}
