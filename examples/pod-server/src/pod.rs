//! The pod's one long-running process: started with the server, started again when it has died,
//! ended with the server.

use std::{
    ffi::OsString,
    fmt, io,
    os::unix::process::ExitStatusExt,
    pin::pin,
    process::ExitStatus,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tower_wsstream::remotecommand::ExitStatus as Code;

use crate::{
    hub::{Attached, Hub},
    process::{CannotStart, Process, Spec},
    seat::Stream,
    stdio::{Input, Output},
    target::CONTAINER,
};

/// The pieces of input that wait for the process, from all attached clients together. A client
/// with more waits for a place, first come first served.
const WAITING_INPUT: usize = 4;

/// One read of the output, and half of a pipe's capacity.
const PIECE: usize = 32 * 1024;

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
    let process = Process::start(Spec {
        argv,
        tty: false,
        stdin: true,
        stdout: true,
        stderr: true,
        size: None,
    })
    .await?;
    let hub = Arc::<Hub>::default();
    let (input, lines) = mpsc::channel(WAITING_INPUT);
    let run = Run {
        hub: Arc::clone(&hub),
        input: Ok(input),
    };
    let running = Running {
        process,
        hub,
        lines,
    };
    Ok((run, running))
}

/// The other side of a [`Run`]. Dropping it ends the process.
#[derive(Debug)]
struct Running {
    process: Process,
    hub: Arc<Hub>,
    lines: mpsc::Receiver<Bytes>,
}

impl Running {
    /// Moves bytes until the process has exited and its output has ended. The attached clients are
    /// told of the end even if this fails.
    async fn finish(self) -> ExitStatus {
        let Self {
            mut process,
            hub,
            lines,
        } = self;
        let status = match move_bytes(&mut process, &hub, lines).await {
            Ok(()) => process.finish().await,
            Err(error) => {
                // Dropped first, because the drop ends the process, and the log and the clients are
                // told that it was ended.
                drop(process);
                Err(error)
            }
        };
        let status = status.unwrap_or_else(|error| {
            tracing::error!(%error, "the pod's process was ended");
            ExitStatus::from_raw(Signal::KILL.as_raw())
        });
        hub.end(status);
        status
    }
}

async fn move_bytes(
    process: &mut Process,
    hub: &Hub,
    lines: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    let Process {
        exit,
        input,
        stdout,
        stderr,
        ..
    } = process;
    let mut output = pin!(async {
        tokio::try_join!(
            publish(stdout, Stream::Stdout, hub),
            publish(stderr, Stream::Stderr, hub)
        )?;
        exit.wait().await
    });
    tokio::select! {
        outcome = &mut output => return outcome,
        () = type_in(lines, input, hub) => {}
    }
    output.await
}

/// Hands all of an output to the attached clients, as fast as it arrives.
async fn publish(from: &mut Option<Output>, stream: Stream, hub: &Hub) -> io::Result<()> {
    let Some(from) = from else {
        return Ok(());
    };
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        hub.push(stream, &piece[..length]);
        // Without this, clients on the same thread would fall behind through no fault of their own.
        tokio::task::yield_now().await;
    }
}

/// Types the input of the attached clients, one piece after the other, until the process accepts no
/// more. While the process is slow, each client that waits has one piece here and keeps the rest.
async fn type_in(mut lines: mpsc::Receiver<Bytes>, input: &mut Option<Input>, hub: &Hub) {
    let Some(input) = input else {
        return;
    };
    while let Some(mut piece) = lines.recv().await {
        hub.calm().await;
        while !piece.is_empty() {
            match input.write(&piece).await {
                Ok(written) => piece.advance(written),
                Err(error) => {
                    tracing::debug!(%error, "the pod's process takes no more input");
                    return;
                }
            }
        }
    }
    // All senders are gone, and with them the pod itself.
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
