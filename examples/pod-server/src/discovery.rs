//! The documents of an API server that holds one running pod.
//!
//! No more than clients ask for before an exec, an attach or the log: kubectl learns from discovery
//! that `pods` exist and gets the pod; kubectl on some machines is a dispatcher
//! that runs the client that fits `/version`; the other official clients go
//! straight there.

use std::fmt;

use http::StatusCode;
use serde_json::{Value, json};
use tower_wsstream::Status;

pub(crate) const NAMESPACE: &str = "default";
pub(crate) const POD: &str = "demo";
pub(crate) const CONTAINER: &str = "main";

/// The Kubernetes version that this server claims: the newest whose kubectl was
/// tried against it.
const MINOR: u32 = 33;

/// What a path means.
#[derive(Debug, PartialEq)]
pub(crate) enum Route<'a> {
    /// A document, ready to be sent.
    Document(Value),
    /// `.../pods/{name}/exec` or `attach`.
    Session {
        subresource: Subresource,
        target: Target<'a>,
    },
    /// `.../pods/{name}/log`.
    Log { target: Target<'a> },
    /// `.../pods/{name}/portforward`.
    Forward { target: Target<'a> },
}

/// The pod that a path names, and its container if a kubelet's path does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    pub(crate) container: Option<&'a str>,
}

/// What a session is for; goes with the request, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subresource {
    /// A command of its own.
    Exec,
    /// The process of the pod.
    Attach,
}

impl Subresource {
    fn of(self, target: Target<'_>) -> Route<'_> {
        Route::Session {
            subresource: self,
            target,
        }
    }
}

impl fmt::Display for Subresource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
        })
    }
}

/// Finds what `path` names; `Err` is the 404. `restarts` are those of the pod's
/// process.
///
/// The paths of a kubelet are served beside those of an API server, so that a real
/// API server can stand in front.
pub(crate) fn route(path: &str, restarts: u32) -> Result<Route<'_>, Status> {
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
    if let Some(route) = kubelet(&segments) {
        return Ok(route);
    }
    Ok(Route::Document(match segments[..] {
        ["version"] => version(),
        ["api"] => {
            json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
        }
        ["apis"] => json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] }),
        ["api", "v1"] => resources(),
        ["api", "v1", "pods"] => pod_list(true, restarts),
        ["api", "v1", "namespaces", namespace, "pods"] => {
            pod_list(namespace == NAMESPACE, restarts)
        }
        ["api", "v1", "namespaces", namespace, "pods", pod] => {
            Target::new(namespace, pod, None).check()?;
            demo(restarts)
        }
        [
            "api",
            "v1",
            "namespaces",
            namespace,
            "pods",
            pod,
            subresource,
        ] => {
            let target = Target::new(namespace, pod, None);
            return match subresource {
                "exec" => Ok(Subresource::Exec.of(target)),
                "attach" => Ok(Subresource::Attach.of(target)),
                "log" => Ok(Route::Log { target }),
                "portforward" => Ok(Route::Forward { target }),
                _ => Err(no_such_path()),
            };
        }
        _ => return Err(no_such_path()),
    }))
}

/// Finds what a kubelet's path names: the container is part of it, and the UID of
/// the pod may stand before that. Any UID is accepted, because only the API server
/// knows the one that it has given to the pod.
fn kubelet<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    let (&verb, rest) = segments.split_first()?;
    let (namespace, pod, container) = match (verb, rest) {
        ("portForward", &[namespace, pod] | &[namespace, pod, _]) => (namespace, pod, None),
        (
            "exec" | "attach" | "containerLogs",
            &[namespace, pod, container] | &[namespace, pod, _, container],
        ) => (namespace, pod, Some(container)),
        _ => return None,
    };
    let target = Target::new(namespace, pod, container);
    Some(match verb {
        "exec" => Subresource::Exec.of(target),
        "attach" => Subresource::Attach.of(target),
        "containerLogs" => Route::Log { target },
        _ => Route::Forward { target },
    })
}

impl<'a> Target<'a> {
    fn new(namespace: &'a str, pod: &'a str, container: Option<&'a str>) -> Self {
        Self {
            namespace,
            pod,
            container,
        }
    }

    /// There is one pod with one container; every other name is answered as a real
    /// server would.
    pub(crate) fn check(&self) -> Result<(), Status> {
        let Self {
            namespace,
            pod,
            container,
        } = *self;
        if namespace != NAMESPACE || pod != POD {
            return Err(not_found(&format!("pods \"{pod}\" not found")));
        }
        match container {
            Some(container) if container != CONTAINER => Err(not_found(&format!(
                "container \"{container}\" not found in pod \"{pod}\""
            ))),
            _ => Ok(()),
        }
    }
}

fn no_such_path() -> Status {
    not_found("the server could not find the requested resource")
}

fn not_found(message: &str) -> Status {
    Status::failure(
        "NotFound",
        message.to_owned(),
        StatusCode::NOT_FOUND.as_u16(),
    )
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": MINOR.to_string(),
        "gitVersion": format!("v1.{MINOR}.0"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}

fn resources() -> Value {
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod",
                "verbs": ["get", "list"], "shortNames": ["po"], "categories": ["all"],
            },
            {
                "name": "pods/log", "singularName": "", "namespaced": true, "kind": "Pod",
                "verbs": ["get"],
            },
            {
                "name": "pods/exec", "singularName": "", "namespaced": true, "kind": "PodExecOptions",
                "verbs": ["create", "get"],
            },
            {
                "name": "pods/attach", "singularName": "", "namespaced": true, "kind": "PodAttachOptions",
                "verbs": ["create", "get"],
            },
        ],
    })
}

fn pod_list(has_demo: bool, restarts: u32) -> Value {
    json!({
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": { "resourceVersion": "1" },
        "items": if has_demo { vec![demo(restarts)] } else { vec![] },
    })
}

fn demo(restarts: u32) -> Value {
    const BORN: &str = "2024-01-01T00:00:00Z";
    let condition = |kind| json!({ "type": kind, "status": "True", "lastTransitionTime": BORN });
    json!({
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "name": POD,
            "namespace": NAMESPACE,
            "uid": "00000000-0000-4000-8000-000000000001",
            "resourceVersion": "1",
            "creationTimestamp": BORN,
        },
        "spec": {
            "containers": [{
                "name": CONTAINER, "image": "this-machine",
                // Open for every attacher, one after the other too.
                "stdin": true, "stdinOnce": false, "tty": false,
            }],
            "nodeName": "this-machine",
            "restartPolicy": "Always",
        },
        "status": {
            "phase": "Running",
            "conditions": [condition("Initialized"), condition("Ready"), condition("ContainersReady"), condition("PodScheduled")],
            "podIP": "127.0.0.1",
            "startTime": BORN,
            "containerStatuses": [{
                "name": CONTAINER,
                "image": "this-machine",
                "imageID": "",
                "containerID": "process://this-machine",
                "ready": true,
                "started": true,
                "restartCount": restarts,
                "state": { "running": { "startedAt": BORN } },
                "lastState": {},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubectl_asks_for_is_there() {
        for path in [
            "/version",
            "/api",
            "/apis",
            "/api/v1",
            "/api/v1/",
            "/api/v1/namespaces/default/pods/demo",
        ] {
            assert!(matches!(route(path, 0), Ok(Route::Document(_))), "{path}");
        }
        let target = Target::new("default", "demo", None);
        for (name, door) in [
            ("exec", Subresource::Exec.of(target)),
            ("attach", Subresource::Attach.of(target)),
            ("log", Route::Log { target }),
            ("portforward", Route::Forward { target }),
        ] {
            let path = format!("/api/v1/namespaces/default/pods/demo/{name}");
            assert_eq!(route(&path, 0).as_ref(), Ok(&door), "{path}");
            assert_eq!(route(&format!("{path}/"), 0), Ok(door), "{path}/");
        }
    }

    #[test]
    fn what_an_api_server_asks_a_kubelet_for_is_there() {
        let main = Target::new("default", "demo", Some("main"));
        let pod = Target::new("default", "demo", None);
        for uid in ["", "/00000000-0000-4000-8000-000000000001"] {
            let path = |verb, end| format!("/{verb}/default/demo{uid}{end}");
            for (path, door) in [
                (path("exec", "/main"), Subresource::Exec.of(main)),
                (path("attach", "/main"), Subresource::Attach.of(main)),
                (path("containerLogs", "/main"), Route::Log { target: main }),
                (path("portForward", ""), Route::Forward { target: pod }),
            ] {
                assert_eq!(route(&path, 0), Ok(door), "{path}");
            }
        }
    }

    #[test]
    fn discovery_names_every_subresource() {
        let Ok(Route::Document(list)) = route("/api/v1", 0) else {
            panic!("a document");
        };
        let resources = list["resources"].as_array().unwrap();
        for name in ["pods", "pods/log", "pods/exec", "pods/attach"] {
            assert!(
                resources.iter().any(|entry| entry["name"] == name),
                "{name}"
            );
        }
    }

    #[test]
    fn the_pod_takes_input_has_no_terminal_and_counts_its_restarts() {
        let Ok(Route::Document(pod)) = route("/api/v1/namespaces/default/pods/demo", 3) else {
            panic!("a document");
        };
        let container = &pod["spec"]["containers"][0];
        assert_eq!(container["stdin"], true);
        assert_eq!(container["tty"], false);
        assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 3);
    }

    #[test]
    fn only_the_default_namespace_holds_the_pod() {
        let items = |path| match route(path, 0) {
            Ok(Route::Document(list)) => list["items"].as_array().unwrap().len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(items("/api/v1/pods"), 1);
        assert_eq!(items("/api/v1/namespaces/default/pods"), 1);
        assert_eq!(items("/api/v1/namespaces/other/pods"), 0);
    }

    #[test]
    fn the_rest_is_not_found() {
        for path in [
            "/",
            "/apis/apps/v1",
            "/api/v1/nodes",
            "/api/v1/namespaces/default/pods/demo/logs",
            "/api/v1/namespaces/default/pods/demo/portforward/x",
            "/api/v1/nodes/default/pods/demo/portforward",
            "/exec",
            "/exec/default/demo",
            "/exec/default/demo/uid/main/more",
            "/portforward/default/demo",
            "/containerlogs/default/demo/main",
        ] {
            assert_eq!(route(path, 0).unwrap_err().code(), Some(404), "{path}");
        }
        let status = route("/api/v1/namespaces/default/pods/nope", 0).unwrap_err();
        assert_eq!(status.message(), Some("pods \"nope\" not found"));
        for target in [
            Target::new("other", "demo", None),
            Target::new("default", "nope", Some("main")),
            Target::new("default", "demo", Some("nope")),
        ] {
            let status = target.check().unwrap_err();
            assert_eq!(status.code(), Some(404), "{target:?}");
        }
        assert!(Target::new("default", "demo", Some("main")).check().is_ok());
    }
}
