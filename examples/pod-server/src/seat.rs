//! One client's place at the output of the pod's process: a bounded backlog.

use std::{fmt, sync::Arc};

use tokio::{sync::Notify, time::Instant};

/// The bytes by which a client may be behind, beside those that its connection holds. This is
/// hours of ticks, and little enough that a hundred clients that have gone to sleep cost 25 MiB.
pub(crate) const BACKLOG: usize = 256 * 1024;

/// From here on a client is behind, and the input waits for it. There is still room above for
/// everything that is on its way through the process by then: a pipe in and a pipe out of 64 KiB
/// each, and a piece or a line in each future that moves them.
pub(crate) const BEHIND: usize = BACKLOG / 4;

/// An output of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The place of one client.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// Taken by the session and not yet written to its client.
    in_hand: usize,
    pub(crate) behind_since: Option<Instant>,
    pub(crate) lagged: Option<Lagged>,
    /// Notified when there is output, or when the place is lost.
    pub(crate) news: Arc<Notify>,
}

impl Seat {
    fn backlog(&self) -> usize {
        self.stdout.len() + self.stderr.len() + self.in_hand
    }

    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8], now: Instant) {
        if self.lagged.is_some() {
            return;
        }
        let backlog = self.backlog() + bytes.len();
        if backlog > BACKLOG {
            self.lagged = Some(Lagged { backlog });
            // Not later: its session may be in a write for a long time.
            (self.stdout, self.stderr) = (Vec::new(), Vec::new());
            self.behind_since = None;
        } else {
            match stream {
                Stream::Stdout => self.stdout.extend_from_slice(bytes),
                Stream::Stderr => self.stderr.extend_from_slice(bytes),
            }
            if backlog > BEHIND {
                self.behind_since.get_or_insert(now);
            }
        }
        self.news.notify_one();
    }

    /// Takes all output that waits on one of the streams.
    pub(crate) fn take(&mut self) -> Option<(Stream, Vec<u8>)> {
        // Stderr first: there is little of it, and people wait for it.
        let waiting = [
            (Stream::Stderr, &mut self.stderr),
            (Stream::Stdout, &mut self.stdout),
        ];
        let (stream, bytes) = waiting.into_iter().find(|(_, bytes)| !bytes.is_empty())?;
        let bytes = std::mem::take(bytes);
        self.in_hand += bytes.len();
        Some((stream, bytes))
    }

    /// Notes that so many bytes of the output that was taken have gone to the client. Returns
    /// whether it has caught up with that.
    pub(crate) fn written(&mut self, length: usize) -> bool {
        self.in_hand -= length;
        self.backlog() <= BEHIND && self.behind_since.take().is_some()
    }

    /// The bytes that this place holds.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.stdout.capacity() + self.stderr.capacity()
    }
}

/// The client was further behind than [`BACKLOG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lagged {
    backlog: usize,
}

impl fmt::Display for Lagged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the client read too slowly: {} bytes of output waited for it, and the limit is {BACKLOG}",
            self.backlog
        )
    }
}

impl std::error::Error for Lagged {}
