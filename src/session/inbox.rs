//! The commands from the handles of a session to its driver.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

use super::{Hold, LastWords, Outcome};
use crate::frame::ClosePayload;

/// The closure of [`Session::say_last`](crate::Session::say_last).
pub(super) type LastWordsFn = Box<dyn FnOnce(&Outcome<'_>) -> Option<LastWords> + Send>;

/// The commands that the driver has not taken yet.
#[derive(Default)]
pub(crate) struct Commands {
    /// The code and the payload of the Close frame that ends the session.
    pub(crate) close: Option<(u16, ClosePayload)>,
    pub(crate) hold: Option<Hold>,
    /// The deadline at which a drained session is aborted.
    pub(crate) drain: Option<Instant>,
}

/// The closure for the last words, which is called at most once.
#[derive(Default)]
enum Last {
    #[default]
    Unset,
    Set(LastWordsFn),
    /// The closure was taken, or none was set in time.
    Over,
}

/// The commands and the closure for the last words.
#[derive(Default)]
pub(super) struct Inbox {
    /// Set if there may be commands. It saves the driver the lock in rounds without any.
    pending: AtomicBool,
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    commands: Commands,
    last: Last,
}

impl Inbox {
    /// Adds a command. The caller has to wake the driver.
    pub(super) fn post(&self, command: impl FnOnce(&mut Commands)) {
        command(&mut self.lock().commands);
        // Release, and after the change: a driver that sees the flag takes the lock after us, and
        // finds the command. If the flag were set before the change, the driver could clear it and
        // find nothing, and the command would stay there until the next one.
        self.pending.store(true, Ordering::Release);
    }

    /// Takes the commands, if there may be any.
    pub(super) fn take(&self) -> Option<Commands> {
        // Acquire: see `post`. The flag is cleared before the commands are taken, so that a command
        // that is posted in between leaves it set for the next round.
        if !self.pending.swap(false, Ordering::Acquire) {
            return None;
        }
        Some(mem::take(&mut self.lock().commands))
    }

    /// Returns whether a Close was posted and has not been taken.
    pub(super) fn has_close(&self) -> bool {
        self.lock().commands.close.is_some()
    }

    /// Registers the closure for the last words, in place of an earlier one.
    ///
    /// Returns the closure that will never be called: the earlier one, or this one if the last words
    /// have already been taken. It may own a handle to the session, so the caller drops it without
    /// the lock.
    #[must_use]
    pub(super) fn set_last(&self, words: LastWordsFn) -> Option<LastWordsFn> {
        let mut contents = self.lock();
        match mem::replace(&mut contents.last, Last::Over) {
            Last::Over => Some(words),
            last @ (Last::Unset | Last::Set(_)) => {
                contents.last = Last::Set(words);
                last.into_closure()
            }
        }
    }

    /// Takes the closure for the last words, and refuses later ones: one could own a handle to the
    /// session, which would then own itself.
    pub(super) fn take_last(&self) -> Option<LastWordsFn> {
        mem::replace(&mut self.lock().last, Last::Over).into_closure()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        // A poisoned lock is fine: nothing under it panics between two steps of one change.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Last {
    fn into_closure(self) -> Option<LastWordsFn> {
        match self {
            Self::Set(words) => Some(words),
            Self::Unset | Self::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn words(channel: u8) -> LastWordsFn {
        Box::new(move |_| Some(LastWords::new(channel, "")))
    }

    fn channel(words: Option<LastWordsFn>) -> Option<u8> {
        let words = words?(&Outcome::Returned)?;
        words.message.map(|(channel, _)| channel)
    }

    #[test]
    fn commands_are_taken_once() {
        let inbox = Inbox::default();
        assert!(inbox.take().is_none());
        inbox.post(|commands| commands.hold = Some(Hold::default()));
        inbox.post(|commands| commands.drain = Some(Instant::now()));
        let commands = inbox.take().unwrap();
        assert!(commands.hold.is_some() && commands.drain.is_some());
        assert!(inbox.take().is_none());
    }

    #[test]
    fn a_close_is_seen_until_it_is_taken() {
        let inbox = Inbox::default();
        assert!(!inbox.has_close());
        let payload = crate::frame::close_payload(Some(4000), "");
        inbox.post(|commands| commands.close = Some((4000, payload)));
        assert!(inbox.has_close());
        assert!(inbox.take().unwrap().close.is_some());
        assert!(!inbox.has_close());
    }

    #[test]
    fn the_last_closure_counts_and_is_taken_once() {
        let inbox = Inbox::default();
        assert_eq!(channel(inbox.set_last(words(1))), None);
        assert_eq!(channel(inbox.set_last(words(2))), Some(1));
        assert_eq!(channel(inbox.take_last()), Some(2));
        assert_eq!(channel(inbox.take_last()), None);
    }

    #[test]
    fn a_closure_that_comes_too_late_is_not_kept() {
        let inbox = Arc::new(Inbox::default());
        assert_eq!(channel(inbox.take_last()), None);
        let session = Arc::clone(&inbox);
        let late = inbox.set_last(Box::new(move |_| {
            let _ = &session;
            None
        }));
        drop(late.unwrap());
        assert_eq!(Arc::strong_count(&inbox), 1);
    }

    #[test]
    fn a_closure_may_use_the_session_when_it_is_dropped() {
        struct Posts(Arc<Inbox>);
        impl Drop for Posts {
            fn drop(&mut self) {
                self.0.post(|_| {});
            }
        }
        let inbox = Arc::new(Inbox::default());
        let posts = Posts(Arc::clone(&inbox));
        let _ = inbox.set_last(Box::new(move |_| {
            let _ = &posts;
            None
        }));
        // This would deadlock if the lock were held.
        drop(inbox.set_last(words(1)));
        assert!(inbox.take().is_some());
    }
}
