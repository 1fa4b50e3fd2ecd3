//! Thousands of sessions over TCP, with faults, for as long as one likes.
//!
//! The server is a child process, which runs this binary again. So its resident memory, its
//! descriptors and its tasks can be read from outside. Each visit of a client is random: a WebSocket
//! over HTTP/1.1, several over one connection of HTTP/2, a command over SPDY, or connections of
//! port-forward in a tunnel or by POST. A share of the connections leads through a [`proxy`] that cuts,
//! resets, stalls, delays or splits. Whatever happens, the client then asks what the server has seen of
//! its session, and [`judge`] compares both sides.
//!
//! ```console
//! SECONDS=600 cargo test --release --all-features --test soak -- --nocapture
//! ```
//!
//! `SEED` makes the visits the same again, but not the order of what both processes do.

#![cfg(all(
    target_os = "linux",
    feature = "auto-server",
    feature = "http2",
    feature = "portforward",
    feature = "remotecommand",
    feature = "spdy"
))]

mod carrier;
mod client;
mod figures;
mod judge;
mod lane;
mod proxy;
mod server;
mod services;
mod tally;
mod visit;

#[path = "../it/support/frames.rs"]
mod frames;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/head.rs"]
mod head;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/http2.rs"]
mod http2;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/random.rs"]
mod random;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/raw.rs"]
mod raw;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/serve.rs"]
mod serve;
#[expect(dead_code, unused_imports, reason = "these are for other tests")]
#[path = "../it/support/spdy.rs"]
mod spdy;
#[expect(dead_code, reason = "these are for other tests")]
#[path = "../it/support/time.rs"]
mod time;

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use self::{figures::Figures, random::Random, server::Server, tally::Tally, visit::Visitor};

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
    let tally = Tally::default();
    let (start, warm, end) = runtime.block_on(async {
        let start = Figures::at_rest(&server).await;
        visits(&server, seed, seconds / 4, &Tally::default()).await;
        let warm = Figures::at_rest(&server).await;
        visits(&server, seed ^ 0x5eed, seconds * 3 / 4, &tally).await;
        (start, warm, Figures::at_rest(&server).await)
    });
    println!("seed {seed}, {seconds:?}; after the warm-up:\n{tally}");
    println!("at the start:      {start}\nafter the warm-up: {warm}\nat the end:        {end}");
    assert_eq!(warm.tasks, end.tasks, "tasks are left");
    assert_eq!(warm.descriptors, end.descriptors, "descriptors are left");
    assert_eq!(end.sessions, 0, "sessions are left");
    assert!(end.heap < warm.heap + KEPT, "the heap has grown");
    assert!(end.resident < warm.resident + GROWTH, "memory has grown");
    assert_eq!(end.panics, 0, "a panic that was not on purpose");
}

/// Visits the server for a while.
async fn visits(server: &Server, seed: u64, time: Duration, tally: &Tally) {
    let until = Instant::now() + time;
    let visits = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS as u64)
        .map(|client| {
            let visits = Arc::clone(&visits);
            let visitor = Visitor {
                address: server.address.clone(),
                tally: tally.clone(),
            };
            let mut random = Random::of_seed(seed.wrapping_mul(CLIENTS as u64) + client);
            tokio::spawn(async move {
                while Instant::now() < until {
                    let id = visits.fetch_add(1, Ordering::Relaxed);
                    let name = format!("{seed}-{client}-{id}");
                    let visited = visitor.visit(&name, &mut random).await;
                    visited.unwrap_or_else(|wrong| panic!("visit {name}: {wrong}"));
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("a visit failed");
    }
}
