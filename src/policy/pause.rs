use std::time::Duration;

/// How often a Pong leaves while reading is paused, and a chunk of the stall reserve is
/// lent.
///
/// The Pong: client-go gives up 61 s after the last one. It also draws the reset of
/// a client that has died.
///
/// The chunk, 16 KiB: client-go gives up as well when one of its writes takes more
/// than 60 s. Linux wakes a writer that waits for its send buffer only when a
/// third of that is free, and the buffer grows to 4 MiB. So 23 KiB/s are needed,
/// and a little more for the steps in which a receive window opens. kubectl 1.30 to 1.37
/// died within two minutes at 26 KiB/s and lived at 28. At 32 KiB/s a reserve of
/// 16 MiB lasts for eight and a half minutes.
pub(crate) const PAUSE_INTERVAL: Duration = Duration::from_millis(500);
