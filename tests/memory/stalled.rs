//! A client that does not read holds as much memory as is configured, and no CPU.

use std::{thread, time::Duration};

use crate::server::start;

const SESSIONS: u64 = 64;

/// The high-water mark of a session, and 16 KiB of its own.
const EACH: u64 = (256 + 16) * 1024;

#[test]
fn stalled_readers_hold_what_is_allowed_and_no_cpu() {
    let Some(server) = start("stalled::stalled_readers_hold_what_is_allowed_and_no_cpu") else {
        return;
    };
    for _ in 0..8 {
        drop(server.connect("/source"));
    }
    thread::sleep(Duration::from_millis(200));
    let before = server.resident();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| server.connect("/source")).collect();
    // Each session fills its socket, and then waits.
    thread::sleep(Duration::from_secs(1));
    let rise = server.resident().saturating_sub(before);
    let cpu = server.cpu();
    thread::sleep(Duration::from_millis(500));
    let cpu = server.cpu() - cpu;
    drop(sessions);
    println!("{SESSIONS} stalled readers: {rise} bytes more, {cpu} ticks in half a second");
    assert!(rise < SESSIONS * EACH, "{rise} bytes");
    // A tick is 10 ms. One may be due to anything.
    assert!(cpu <= 1, "{cpu} ticks of CPU");
}
