use std::time::Duration;

/// The interval at which, while reading is paused, a chunk of the stall reserve is lent. A Pong is sent
/// in every second one.
///
/// The Pong is needed because client-go gives up 61 s after the last one. It also provokes a
/// reset from the host of a client that has died.
///
/// The chunk of 16 KiB is needed because client-go also gives up when one of its writes takes
/// longer than 60 s. Linux wakes a writer that waits for its send buffer only when a third of
/// the buffer is free, and the buffer grows to 4 MiB. Each proxy on the way passes data on in
/// such steps, of 1.5 MiB with the receive window, which opens in steps as well. A kubectl
/// behind one or two proxies waits for two of them: 3 MiB in 60 s are 51 KiB/s. Measured
/// with the default settings of Linux, its longest wait at 64 KiB/s was 52 s; at 48 KiB/s, it died
/// behind two proxies, and at 32 KiB/s behind one. Without a proxy, 28 KiB/s are enough.
pub(crate) const PAUSE_INTERVAL: Duration = Duration::from_millis(250);
