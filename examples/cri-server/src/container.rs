//! A container: a process of this machine, or a small web server.

use std::{
    ffi::OsString,
    os::unix::{ffi::OsStringExt, process::ExitStatusExt},
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use pod_server::{hub::Hub, process::Spec, running::Running};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Status;
use tower_wsstream::remotecommand::ExitStatus as Code;

use crate::{
    generated::{ContainerConfig, ContainerState},
    node::{Sandbox, now},
    web::WebServer,
};

/// The status of a container that was stopped: SIGKILL.
const KILLED: i32 = 9;

/// A container that was created, until it is removed.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) config: ContainerConfig,
    pub(crate) created_at: i64,
    state: watch::Sender<State>,
    stop: Notify,
}

/// The life of a container, which only goes forward.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Created,
    Starting,
    Running(Arc<Run>),
    Exited(Exited),
}

/// A container that runs.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) started_at: i64,
    /// Its output.
    pub(crate) hub: Arc<Hub>,
    /// `None` if it has no input, or if that has ended.
    input: Mutex<Option<mpsc::Sender<Bytes>>>,
}

/// A container that has ended, or that could not be started.
#[derive(Clone, Debug)]
pub(crate) struct Exited {
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
}

impl State {
    pub(crate) fn name(&self) -> ContainerState {
        match self {
            Self::Created | Self::Starting => ContainerState::ContainerCreated,
            Self::Running(_) => ContainerState::ContainerRunning,
            Self::Exited(_) => ContainerState::ContainerExited,
        }
    }
}

impl Container {
    pub(crate) fn new(id: String, sandbox: Arc<Sandbox>, config: ContainerConfig) -> Self {
        Self {
            id,
            sandbox,
            config,
            created_at: now(),
            state: watch::Sender::new(State::Created),
            stop: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Returns the name of the image.
    pub(crate) fn image(&self) -> &str {
        self.config.image.as_ref().map_or("", |image| &image.image)
    }

    /// Returns what runs.
    ///
    /// # Errors
    /// Fails if the container was not started, or has ended.
    pub(crate) fn running(&self) -> Result<Arc<Run>, Status> {
        match &*self.state.borrow() {
            State::Running(run) => Ok(Arc::clone(run)),
            other => Err(Status::failed_precondition(format!(
                "container {:?} is not running: {}",
                self.id,
                other.name().as_str_name()
            ))),
        }
    }

    /// Starts the container, and returns once it runs.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<(), Status> {
        let was_created = self.state.send_if_modified(|state| {
            let is_created = matches!(state, State::Created);
            if is_created {
                *state = State::Starting;
            }
            is_created
        });
        if !was_created {
            return Err(Status::failed_precondition(
                "the container was started before",
            ));
        }
        // In a task of its own, which a client that leaves does not stop halfway.
        let (started, result) = oneshot::channel();
        tokio::spawn(Arc::clone(self).run(started));
        result
            .await
            .unwrap_or_else(|_| Err(Status::aborted("the server stops")))
    }

    async fn run(self: Arc<Self>, started: oneshot::Sender<Result<(), Status>>) {
        let started_at = now();
        let (code, reason) = match self.main(started_at, started).await {
            Ok(0) => (0, "Completed"),
            Ok(code) => (code, "Error"),
            Err(NotStarted) => (128, "StartError"),
        };
        self.state.send_replace(State::Exited(Exited {
            started_at,
            finished_at: now(),
            code,
            reason,
        }));
    }

    async fn main(
        &self,
        started_at: i64,
        started: oneshot::Sender<Result<(), Status>>,
    ) -> Result<i32, NotStarted> {
        let main = match Main::start(self).await {
            Ok(main) => main,
            Err(error) => {
                let message = format!("container {:?} was not started: {error}", self.id);
                let _ = started.send(Err(Status::unknown(message)));
                return Err(NotStarted);
            }
        };
        let (hub, input) = main.handles();
        self.state.send_replace(State::Running(Arc::new(Run {
            started_at,
            hub: Arc::clone(&hub),
            input: Mutex::new(input),
        })));
        let _ = started.send(Ok(()));
        let status = tokio::select! {
            status = main.finish() => status,
            () = self.stop.notified() => {
                let killed = ExitStatus::from_raw(KILLED);
                hub.end(killed);
                killed
            }
        };
        Ok(Code::from(status).code().into())
    }

    /// Stops the container if it runs. A process gets SIGHUP, and SIGKILL soon after: this does
    /// not wait for it.
    pub(crate) async fn stop(&self) {
        if !matches!(*self.state.borrow(), State::Created | State::Exited(_)) {
            self.stop.notify_one();
            self.ended().await;
        }
    }

    /// Waits until the container has ended.
    pub(crate) async fn ended(&self) {
        let mut state = self.state.subscribe();
        // Fails if the sender is gone, which this holds.
        let _ = state
            .wait_for(|state| matches!(state, State::Exited(_)))
            .await;
    }

    /// Returns the argument vector of a process, with the environment and the directory that the
    /// container asks for.
    pub(crate) fn argv(&self, words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
        let config = &self.config;
        let mut argv = Vec::new();
        if !config.working_dir.is_empty() || !config.envs.is_empty() {
            argv.push("env".into());
        }
        if !config.working_dir.is_empty() {
            argv.extend(["-C".into(), OsString::from(&config.working_dir)]);
        }
        argv.extend(config.envs.iter().map(|pair| {
            let pair = [pair.key.as_bytes(), b"=", &pair.value].concat();
            OsString::from_vec(pair)
        }));
        argv.extend(words);
        argv
    }
}

impl Run {
    /// Returns the input for one more client. With `once` there is none for later ones, so that
    /// the input ends with the input of this client.
    pub(crate) fn input(&self, once: bool) -> Option<mpsc::Sender<Bytes>> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        match once {
            true => input.take(),
            false => input.clone(),
        }
    }
}

/// The container could not be started, as its client was told.
struct NotStarted;

/// The process of a container.
enum Main {
    Process {
        running: Running,
        input: Option<mpsc::Sender<Bytes>>,
    },
    Web {
        server: WebServer,
        hub: Arc<Hub>,
    },
}

impl Main {
    async fn start(
        container: &Container,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let config = &container.config;
        let words: Vec<_> = [&config.command[..], &config.args].concat();
        if words.is_empty() && container.image().contains("nginx") {
            return Ok(Self::Web {
                server: WebServer::start(&container.sandbox).await?,
                hub: Arc::default(),
            });
        }
        let mut words: Vec<_> = words.into_iter().map(OsString::from).collect();
        if words.is_empty() {
            // The entry point of most small images.
            words.push("sh".into());
        }
        if words == ["top"] && !config.tty {
            // The first process of many test containers. That of their images needs no terminal.
            words.push("-b".into());
        }
        let argv = container.argv(words);
        let spec = Spec {
            argv: &argv,
            tty: config.tty,
            stdin: config.stdin,
            stdout: true,
            stderr: !config.tty,
            size: None,
        };
        let (running, input) = Running::start(spec).await?;
        Ok(Self::Process {
            running: running.ended_by_hanging_up(),
            input: config.stdin.then_some(input),
        })
    }

    fn handles(&self) -> (Arc<Hub>, Option<mpsc::Sender<Bytes>>) {
        match self {
            Self::Process { running, input } => (Arc::clone(running.hub()), input.clone()),
            Self::Web { hub, .. } => (Arc::clone(hub), None),
        }
    }

    async fn finish(self) -> ExitStatus {
        match self {
            Self::Process { running, input } => {
                // The handles have their own: the input ends with them.
                drop(input);
                running.finish().await
            }
            Self::Web { server, .. } => server.serve().await,
        }
    }
}
