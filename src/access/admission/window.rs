use std::time::Duration;

use tokio::time::Instant;

/// Counts the sessions that begin in each window of time.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    sessions: u64,
    per: Duration,
    current: Option<Window>,
}

/// One window. It stores its beginning, because its end may lie beyond the range of an [`Instant`].
#[derive(Clone, Debug)]
struct Window {
    began: Instant,
    admitted: u64,
}

impl Windows {
    /// Creates windows of the length `per`, with at most this many sessions in each.
    pub(super) fn new(sessions: u64, per: Duration) -> Self {
        Self {
            sessions,
            per,
            current: None,
        }
    }

    /// Counts a session. If the window is full, returns how much of it is left instead.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        // Callers read the clock before they take the lock, so the window may have begun later than
        // `now`.
        let elapsed = |window: &Window| now.saturating_duration_since(window.began);
        let window = match &mut self.current {
            Some(window) if elapsed(window) < self.per => window,
            over => over.insert(Window {
                began: now,
                admitted: 0,
            }),
        };
        if window.admitted < self.sessions {
            window.admitted += 1;
            Ok(())
        } else {
            Err(self.per.saturating_sub(elapsed(window)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_that_read_the_clock_before_the_window_began_counts_in_it() {
        let began = Instant::now();
        let earlier = began - Duration::from_millis(1);
        let second = Duration::from_secs(1);
        let mut windows = Windows::new(2, second);
        assert_eq!(windows.admit(began), Ok(()));
        assert_eq!(windows.admit(earlier), Ok(()));
        assert_eq!(windows.admit(earlier), Err(second));
        assert_eq!(windows.admit(began + second / 4), Err(second * 3 / 4));
        assert_eq!(windows.admit(began + second), Ok(()));
    }
}
