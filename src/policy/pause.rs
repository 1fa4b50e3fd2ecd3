use std::time::Duration;

use tokio::time::Instant;

/// While reading is paused, a Pong leaves this often, and a chunk of the stall
/// reserve is lent.
///
/// The Pong: client-go gives up 61 s after the last one; and it draws the reset of
/// a client that has died.
///
/// The chunk, 16 KiB: client-go gives up as well when one of its writes takes more
/// than 60 s. Linux wakes a writer that waits for its send buffer only when a
/// third of that is free, and the buffer grows to 4 MiB: so 23 KiB/s are needed,
/// and a little for the steps in which a receive window opens. kubectl 1.30 to 1.37
/// died within two minutes at 26 KiB/s and lived at 28. At 32 KiB/s a reserve of
/// 16 MiB lasts for eight and a half minutes.
const BEAT: Duration = Duration::from_millis(500);

/// The clock of a pause: reading has stopped because the next byte has no room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause {
    next: Instant,
}

impl Pause {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now + BEAT }
    }

    /// Whether a Pong and a chunk are due.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + BEAT;
        }
        due
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.next
    }
}
