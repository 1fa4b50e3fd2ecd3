//! One thread that ends commands.
//!
//! Each scan of the machine's processes serves all commands that are being ended at that moment. A
//! thousand sessions that are lost together therefore cost a few scans, rather than a few each.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use process_wrap::tokio::ChildWrapper;

use crate::{
    ending::{Ending, Manner, advance},
    stat::processes,
};

/// The shortest pause between two scans.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The ratio of a pause to the scan before it. On a machine with many processes, the thread uses a
/// fifth of one processor, however many sessions end.
const REST: u32 = 4;

/// The longest pause, so that SIGKILL is not late.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Ends what is left of a command, and then drops `held`, our ends of its pipes.
///
/// The first signal goes to its process group before this returns, even if the server exits
/// next. The rest is left to the thread, because this is called from destructors, which cannot
/// wait.
pub(crate) fn end(leader: Box<dyn ChildWrapper>, manner: Manner, held: impl Send + 'static) {
    match Ending::new(leader, manner, Box::new(held)) {
        Ok(ending) => ENDINGS.add(ending),
        Err(error) => tracing::error!(%error, "a command cannot be ended"),
    }
}

/// Waits until every command that is being ended has ended, or `limit` is over.
pub fn wait_for_all(limit: Duration) {
    ENDINGS.wait(limit);
}

static ENDINGS: Endings = Endings {
    state: Mutex::new(State {
        new: Vec::new(),
        is_running: false,
    }),
    all_ended: Condvar::new(),
};

/// All commands that are being ended, and the thread that ends them. The thread exists only as long
/// as there are such commands.
struct Endings {
    state: Mutex<State>,
    all_ended: Condvar,
}

struct State {
    /// The endings that the thread has not taken over yet.
    new: Vec<Ending>,
    /// Set while the thread exists.
    is_running: bool,
}

impl Endings {
    fn add(&'static self, ending: Ending) {
        let mut state = self.lock();
        state.new.push(ending);
        if state.is_running {
            return;
        }
        let thread = thread::Builder::new().name("endings".into());
        match thread.spawn(|| self.run()) {
            Ok(_) => state.is_running = true,
            // This command waits until the next one is ended, which tries again to start the
            // thread.
            Err(error) => tracing::error!(%error, "no thread to end a command with"),
        }
    }

    fn run(&self) {
        let mut endings = Vec::new();
        loop {
            {
                let mut state = self.lock();
                endings.append(&mut state.new);
                if endings.is_empty() {
                    state.is_running = false;
                    self.all_ended.notify_all();
                    return;
                }
            }
            let start = Instant::now();
            advance(&mut endings, processes);
            thread::sleep((start.elapsed() * REST).clamp(LOOK_AGAIN, LONGEST_PAUSE));
        }
    }

    fn wait(&self, limit: Duration) {
        let state = self.lock();
        let waited = self
            .all_ended
            .wait_timeout_while(state, limit, |state| state.is_running);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic can leave a change half done, so poisoning does not matter.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
