//! An idle session costs some KiB.

use std::{thread, time::Duration};

use crate::server::{allow_descriptors, start};

const SESSIONS: u64 = 9_000;

/// The bytes of resident memory that one session may cost. This includes hyper's memory and ours,
/// tokio's tasks, and the overhead of the allocator.
const EACH: u64 = 6 * 1024;

#[test]
fn an_idle_session_costs_some_kibibytes() {
    let Some(server) = start("idle::an_idle_session_costs_some_kibibytes") else {
        return;
    };
    allow_descriptors();
    for _ in 0..100 {
        drop(server.connect("/idle"));
    }
    thread::sleep(Duration::from_millis(200));
    let before = server.resident();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| server.connect("/idle")).collect();
    // Lets the last sessions settle.
    thread::sleep(Duration::from_millis(300));
    let each = (server.resident() - before) / SESSIONS;
    drop(sessions);
    println!("{SESSIONS} idle sessions: {each} bytes of resident memory each");
    assert!(each < EACH, "{each} bytes");
}
