use std::time::Duration;

/// The interval at which, while reading is paused, a Pong is sent and a chunk of the stall
/// reserve is lent.
///
/// The Pong is needed because client-go gives up 61 s after the last one. It also provokes a
/// reset from the host of a client that has died.
///
/// The chunk of 16 KiB is needed because client-go also gives up when one of its writes takes
/// longer than 60 s. Linux wakes a writer that waits for its send buffer only when a third of
/// the buffer is free, and the buffer grows to 4 MiB. This takes 23 KiB/s, and a little more
/// because a receive window opens in steps. kubectl 1.30 to 1.37 died within two minutes at
/// 26 KiB/s and survived at 28. At 32 KiB/s, a reserve of 16 MiB lasts for eight and a half
/// minutes.
pub(crate) const PAUSE_INTERVAL: Duration = Duration::from_millis(500);
