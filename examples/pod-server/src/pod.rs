//! The pod's one long-running process: started with the server, started again when it has died,
//! ended with the server.

use std::{
    ffi::OsString,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tower_wsstream::remotecommand::ExitStatus as Code;

use crate::{
    hub::{Attached, Hub},
    process::{CannotStart, Spec},
    running::Running,
    target::CONTAINER,
};

/// The pause before a process that has died is started again. One that dies at once must not
/// keep the machine busy.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A handle to the pod's process, across its restarts.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    current: Mutex<Run>,
    restarts: AtomicU32,
}

/// The newest run of the process, for clients that attach or read the log.
#[derive(Debug)]
struct Run {
    hub: Arc<Hub>,
    /// The input of the process, or the reason why it has none because it has ended.
    input: Result<mpsc::Sender<Bytes>, String>,
}

impl Pod {
    /// Starts the process. Returns a future that keeps it running for as long as it is polled;
    /// dropping it ends the process.
    pub(crate) async fn start(
        argv: Vec<OsString>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), CannotStart> {
        let (run, running) = start(&argv).await?;
        let pod = Self {
            inner: Arc::new(Inner {
                current: Mutex::new(run),
                restarts: AtomicU32::new(0),
            }),
        };
        let keep_running = pod.clone().keep_running(argv, running);
        Ok((pod, keep_running))
    }

    /// Attaches to the output from now on, and to the input. The sender takes whole lines, so
    /// that the lines of several clients do not mix.
    pub(crate) fn attach(&self) -> Result<(Attached, mpsc::Sender<Bytes>), NotRunning> {
        let run = self.current();
        match &run.input {
            Ok(input) => Ok((run.hub.attach(), input.clone())),
            Err(why) => Err(NotRunning(why.clone())),
        }
    }

    /// Returns the output of the process. Once it has ended, this is the output of that run until
    /// the next one has started.
    pub(crate) fn output(&self) -> Arc<Hub> {
        Arc::clone(&self.current().hub)
    }

    /// Returns how many times the process was restarted.
    pub(crate) fn restarts(&self) -> u32 {
        // Relaxed: the number is only shown.
        self.inner.restarts.load(Ordering::Relaxed)
    }

    async fn keep_running(self, argv: Vec<OsString>, mut running: Running) {
        loop {
            let status = Code::from(running.finish().await);
            let why = format!("it ended with exit code {}", status.code());
            running = self.restart(&argv, why).await;
        }
    }

    async fn restart(&self, argv: &[OsString], mut why: String) -> Running {
        loop {
            tracing::warn!(%why, "the pod's process is not running");
            self.current().input = Err(why);
            tokio::time::sleep(RESTART_PAUSE).await;
            match start(argv).await {
                Ok((run, running)) => {
                    self.inner.restarts.fetch_add(1, Ordering::Relaxed);
                    *self.current() = run;
                    return running;
                }
                Err(error) => why = error.to_string(),
            }
        }
    }

    fn current(&self) -> MutexGuard<'_, Run> {
        let current = self.inner.current.lock();
        current.unwrap_or_else(PoisonError::into_inner)
    }
}

async fn start(argv: &[OsString]) -> Result<(Run, Running), CannotStart> {
    let spec = Spec {
        argv,
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
        size: None,
    };
    let (running, input) = Running::start(spec).await?;
    let run = Run {
        hub: Arc::clone(running.hub()),
        input: Ok(input),
    };
    Ok((run, running))
}

/// The error of a pod whose process is not running at the moment. It contains the reason.
#[derive(Debug)]
pub(crate) struct NotRunning(String);

impl fmt::Display for NotRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "container {CONTAINER} is not running: {}; it is started again in a moment",
            self.0
        )
    }
}

impl std::error::Error for NotRunning {}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
