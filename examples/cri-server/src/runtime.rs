//! The gRPC service of the runtime: sandboxes, containers, and URLs to stream at.

use std::{ffi::OsString, future::pending, time::Duration};

use axum::http::uri::PathAndQuery;
use pod_server::{
    exec::{self, Channels},
    process::Spec,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status};
use tower_wsstream::{
    BoxError,
    remotecommand::{ExitStatus, TerminalSizes},
};

use crate::{
    captured::Captured,
    container::State,
    generated::{
        self, AttachRequest, AttachResponse, CgroupDriver, ContainerStatus, ContainerStatusRequest,
        ContainerStatusResponse, CreateContainerRequest, CreateContainerResponse, ExecRequest,
        ExecResponse, ExecSyncRequest, ExecSyncResponse, LinuxPodSandboxStatus,
        LinuxRuntimeConfiguration, ListContainersRequest, ListContainersResponse,
        ListPodSandboxRequest, ListPodSandboxResponse, Namespace, NamespaceMode, NamespaceOption,
        PodSandbox, PodSandboxNetworkStatus, PodSandboxState, PodSandboxStatus,
        PodSandboxStatusRequest, PodSandboxStatusResponse, PortForwardRequest, PortForwardResponse,
        RemoveContainerRequest, RemoveContainerResponse, RemovePodSandboxRequest,
        RemovePodSandboxResponse, RunPodSandboxRequest, RunPodSandboxResponse, RuntimeCondition,
        RuntimeConfigRequest, RuntimeConfigResponse, RuntimeStatus, StartContainerRequest,
        StartContainerResponse, StatusRequest, StatusResponse, StopContainerRequest,
        StopContainerResponse, StopPodSandboxRequest, StopPodSandboxResponse,
        UpdateRuntimeConfigRequest, UpdateRuntimeConfigResponse, VersionRequest, VersionResponse,
        runtime_service_server::RuntimeService,
    },
    node::{Node, Sandbox, has_labels},
    streams::Stream,
    tokens::Tokens,
};

const NAME: &str = "cri-server";
/// The version of the Container Runtime Interface.
const API_VERSION: &str = "v1";

/// The service. Streams wait in `streams` for a client with their token.
pub(crate) struct Runtime {
    node: Node,
    base: String,
    streams: Tokens<Stream>,
}

impl Runtime {
    /// Creates the service. Clients reach the streaming server at `base`, such as
    /// `http://127.0.0.1:8006`.
    pub(crate) fn new(base: String, node: Node, streams: Tokens<Stream>) -> Self {
        Self {
            node,
            base,
            streams,
        }
    }

    /// Returns the URL at which a client reaches the stream, once and for a minute.
    fn url(&self, stream: Stream) -> Result<String, Status> {
        let path = stream.path();
        let token = self
            .streams
            .issue(stream)
            .map_err(|error| Status::internal(format!("no token: {error}")))?
            .ok_or_else(|| Status::resource_exhausted("too many streams wait for their client"))?;
        Ok(format!("{}/{path}/{token}", self.base))
    }
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<VersionRequest>) -> Reply<VersionResponse> {
        reply(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: NAME.into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: API_VERSION.into(),
        })
    }

    async fn status(&self, _: Request<StatusRequest>) -> Reply<StatusResponse> {
        let conditions = ["RuntimeReady", "NetworkReady"].map(|name| RuntimeCondition {
            r#type: name.into(),
            status: true,
        });
        reply(StatusResponse {
            status: Some(RuntimeStatus {
                conditions: conditions.into(),
            }),
        })
    }

    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Reply<UpdateRuntimeConfigResponse> {
        reply(UpdateRuntimeConfigResponse {})
    }

    async fn runtime_config(
        &self,
        _: Request<RuntimeConfigRequest>,
    ) -> Reply<RuntimeConfigResponse> {
        // There are no cgroups here, and this driver asks the least of a client.
        let linux = LinuxRuntimeConfiguration {
            cgroup_driver: CgroupDriver::Cgroupfs.into(),
        };
        reply(RuntimeConfigResponse { linux: Some(linux) })
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Reply<RunPodSandboxResponse> {
        let config = request.into_inner().config;
        let config = config.ok_or_else(|| Status::invalid_argument("missing config"))?;
        let sandbox = self.node.run_sandbox(config)?;
        reply(RunPodSandboxResponse {
            pod_sandbox_id: sandbox.id.clone(),
        })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Reply<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        if let Some(sandbox) = unless_gone(self.node.sandbox(&id))? {
            self.node.stop_sandbox(&sandbox).await;
        }
        reply(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Reply<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        if let Some(sandbox) = unless_gone(self.node.sandbox(&id))? {
            self.node.stop_sandbox(&sandbox).await;
            self.node.remove_sandbox(&sandbox);
        }
        reply(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Reply<PodSandboxStatusResponse> {
        let sandbox = self.node.sandbox(&request.into_inner().pod_sandbox_id)?;
        let status = PodSandboxStatus {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: state_of(&sandbox).into(),
            created_at: sandbox.created_at,
            network: Some(PodSandboxNetworkStatus {
                ip: match sandbox.is_host() {
                    true => String::new(),
                    false => sandbox.address.to_string(),
                },
            }),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace {
                    options: Some(NamespaceOption {
                        network: match sandbox.is_host() {
                            true => NamespaceMode::Node.into(),
                            false => NamespaceMode::Pod.into(),
                        },
                    }),
                }),
            }),
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        };
        reply(PodSandboxStatusResponse {
            status: Some(status),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Reply<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut sandboxes = self.node.sandboxes();
        sandboxes.retain(|sandbox| {
            sandbox.id.starts_with(&filter.id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == state_of(sandbox))
                && has_labels(&sandbox.config.labels, &filter.label_selector)
        });
        let items = sandboxes.iter().map(|sandbox| PodSandbox {
            id: sandbox.id.clone(),
            metadata: sandbox.config.metadata.clone(),
            state: state_of(sandbox).into(),
            created_at: sandbox.created_at,
            labels: sandbox.config.labels.clone(),
            annotations: sandbox.config.annotations.clone(),
        });
        reply(ListPodSandboxResponse {
            items: items.collect(),
        })
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Reply<CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config;
        let config = config.ok_or_else(|| Status::invalid_argument("missing config"))?;
        let container = self
            .node
            .create_container(&request.pod_sandbox_id, config)?;
        reply(CreateContainerResponse {
            container_id: container.id.clone(),
        })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Reply<StartContainerResponse> {
        let container = self.node.container(&request.into_inner().container_id)?;
        container.start().await?;
        reply(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Reply<StopContainerResponse> {
        let id = request.into_inner().container_id;
        if let Some(container) = unless_gone(self.node.container(&id))? {
            container.stop().await;
        }
        reply(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Reply<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        if let Some(container) = unless_gone(self.node.container(&id))? {
            container.stop().await;
            self.node.remove_container(&container);
        }
        reply(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Reply<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut containers = self.node.containers();
        containers.retain(|container| {
            container.id.starts_with(&filter.id)
                && container.sandbox.id.starts_with(&filter.pod_sandbox_id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == container.state().name())
                && has_labels(&container.config.labels, &filter.label_selector)
        });
        let containers = containers.iter().map(|container| generated::Container {
            id: container.id.clone(),
            pod_sandbox_id: container.sandbox.id.clone(),
            metadata: container.config.metadata.clone(),
            image: container.config.image.clone(),
            image_ref: container.image().to_owned(),
            state: container.state().name().into(),
            created_at: container.created_at,
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
            image_id: container.image().to_owned(),
        });
        reply(ListContainersResponse {
            containers: containers.collect(),
        })
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Reply<ContainerStatusResponse> {
        let container = self.node.container(&request.into_inner().container_id)?;
        let state = container.state();
        let mut status = ContainerStatus {
            id: container.id.clone(),
            metadata: container.config.metadata.clone(),
            state: state.name().into(),
            created_at: container.created_at,
            image: container.config.image.clone(),
            image_ref: container.image().to_owned(),
            image_id: container.image().to_owned(),
            labels: container.config.labels.clone(),
            annotations: container.config.annotations.clone(),
            ..ContainerStatus::default()
        };
        match state {
            State::Created | State::Starting => {}
            State::Running(run) => status.started_at = run.started_at,
            State::Exited(exited) => {
                status.started_at = exited.started_at;
                status.finished_at = exited.finished_at;
                status.exit_code = exited.code;
                status.reason = exited.reason.into();
            }
        }
        reply(ContainerStatusResponse {
            status: Some(status),
        })
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Reply<ExecSyncResponse> {
        let request = request.into_inner();
        let container = self.node.container(&request.container_id)?;
        container.running()?;
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("missing required cmd"));
        }
        let argv = container.argv(request.cmd.into_iter().map(OsString::from));
        let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
        let running = run(&argv, &mut stdout, &mut stderr);
        let ended = async {
            tokio::select! {
                status = running => status,
                () = container.ended() => Err("the container has ended".into()),
            }
        };
        let status = match u64::try_from(request.timeout) {
            Ok(seconds @ 1..) => timeout(Duration::from_secs(seconds), ended)
                .await
                .map_err(|_| Status::deadline_exceeded("the command took too long"))?,
            _ => ended.await,
        };
        let status = status.map_err(|error| Status::unknown(error.to_string()))?;
        reply(ExecSyncResponse {
            stdout: stdout.into_bytes(),
            stderr: stderr.into_bytes(),
            exit_code: status.code().into(),
        })
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Reply<ExecResponse> {
        let request = request.into_inner();
        if request.cmd.is_empty() {
            return Err(Status::invalid_argument("missing required cmd"));
        }
        let wanted = Streams {
            container: &request.container_id,
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        wanted.check()?;
        let query = wanted.query(&request.cmd)?;
        let container = self.node.container(&request.container_id)?;
        container.running()?;
        let url = self.url(Stream::Exec { container, query })?;
        reply(ExecResponse { url })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Reply<AttachResponse> {
        let request = request.into_inner();
        let wanted = Streams {
            container: &request.container_id,
            tty: request.tty,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
        };
        wanted.check()?;
        let query = wanted.query(&[])?;
        let container = self.node.container(&request.container_id)?;
        container.running()?;
        if request.tty != container.config.tty {
            return Err(Status::invalid_argument(
                "tty differs from that of the container",
            ));
        }
        let url = self.url(Stream::Attach { container, query })?;
        reply(AttachResponse { url })
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Reply<PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.node.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(Status::failed_precondition("the sandbox was stopped"));
        }
        // Only clients whose ports are channels need them.
        let mut query = form_urlencoded::Serializer::new(String::from("/portforward?"));
        for port in &request.port {
            query.append_pair("ports", &port.to_string());
        }
        let query = path(query.finish())?;
        let url = self.url(Stream::PortForward { sandbox, query })?;
        reply(PortForwardResponse { url })
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(message: T) -> Reply<T> {
    Ok(Response::new(message))
}

/// Calls that stop and remove succeed if there is nothing to do.
fn unless_gone<T>(found: Result<T, Status>) -> Result<Option<T>, Status> {
    match found {
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn state_of(sandbox: &Sandbox) -> PodSandboxState {
    match sandbox.is_ready() {
        true => PodSandboxState::SandboxReady,
        false => PodSandboxState::SandboxNotready,
    }
}

/// Runs a command to its end, and captures its output.
async fn run(
    argv: &[OsString],
    stdout: &mut Captured,
    stderr: &mut Captured,
) -> Result<ExitStatus, BoxError> {
    let spec = Spec {
        argv,
        tty: false,
        stdin: false,
        stdout: true,
        stderr: true,
        size: None,
    };
    let channels = Channels {
        stdin: None::<tokio::io::Empty>,
        stdout: Some(stdout),
        stderr: Some(stderr),
        resize: None::<TerminalSizes>,
    };
    Ok(exec::drive(spec, channels, pending()).await?.into())
}

/// The streams that a call asks for.
struct Streams<'a> {
    container: &'a str,
    tty: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Streams<'_> {
    /// Makes the checks of Kubernetes' streaming server.
    fn check(&self) -> Result<(), Status> {
        let invalid = |message| Err(Status::invalid_argument(message));
        if self.container.is_empty() {
            return invalid("missing required container_id");
        }
        if self.tty && self.stderr {
            return invalid("tty and stderr cannot both be true");
        }
        if !(self.stdin || self.stdout || self.stderr) {
            return invalid("one of stdin, stdout, or stderr must be set");
        }
        Ok(())
    }

    /// Returns the query in which
    /// [`Protocols`](tower_wsstream::remotecommand::Protocols) and
    /// [`RemoteCommandLayer`](tower_wsstream::remotecommand::RemoteCommandLayer) read the streams
    /// and the command.
    fn query(&self, command: &[String]) -> Result<PathAndQuery, Status> {
        let mut query = form_urlencoded::Serializer::new(String::from("/?"));
        let flags = [
            ("tty", self.tty),
            ("stdin", self.stdin),
            ("stdout", self.stdout),
            ("stderr", self.stderr),
        ];
        for (name, _) in flags.iter().filter(|(_, wanted)| *wanted) {
            query.append_pair(name, "true");
        }
        for word in command {
            query.append_pair("command", word);
        }
        path(query.finish())
    }
}

/// A URI of `http` holds 64 KiB at most.
fn path(query: String) -> Result<PathAndQuery, Status> {
    PathAndQuery::from_maybe_shared(query)
        .map_err(|_| Status::invalid_argument("the command is too long"))
}
