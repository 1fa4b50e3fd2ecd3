use std::time::Duration;

/// The interval at which, while reading is paused, a chunk of the stall reserve is lent.
///
/// The chunk of 16 KiB is needed because client-go also gives up when one of its writes takes
/// longer than 60 s. Linux wakes a writer that waits for its send buffer only when a third of
/// the buffer is free, and the buffer grows to 4 MiB. Each proxy on the way passes data on in
/// such steps, of 1.5 MiB with the receive window, which opens in steps as well. A kubectl
/// behind one or two proxies waits for two of them: 3 MiB in 60 s are 51 KiB/s. A margin is needed
/// because Linux doubles the time between its attempts to send on a connection that stays full, so a
/// step may come late. At 80 KiB/s, two steps take 38 s. At 64 KiB/s, they take 48 s, and 3 of 32
/// kubectls died within ten minutes. At 48 KiB/s most died behind two proxies, and at 32 KiB/s all,
/// even behind one. Without a proxy, the longest wait at 28 KiB/s was 35 s in seven minutes.
pub(crate) const PAUSE_INTERVAL: Duration = Duration::from_millis(200);

/// The number of intervals after which a Pong is sent.
///
/// The Pong is needed because client-go gives up 61 s after the last one. It also provokes a
/// reset from the host of a client that has died. It is rarer than the chunk, because a client of
/// HTTP/2 may count the small frames that it has not read.
pub(crate) const INTERVALS_PER_PONG: u8 = 3;
