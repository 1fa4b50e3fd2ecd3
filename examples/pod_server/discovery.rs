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
        namespace: &'a str,
        pod: &'a str,
    },
    /// `.../pods/{name}/log`.
    Log { namespace: &'a str, pod: &'a str },
}

/// What a session is for; goes with the request, in its extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subresource {
    /// A command of its own.
    Exec,
    /// The process of the pod.
    Attach,
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
pub(crate) fn route(path: &str, restarts: u32) -> Result<Route<'_>, Status> {
    let session = |subresource, namespace, pod| {
        Ok(Route::Session {
            subresource,
            namespace,
            pod,
        })
    };
    let segments: Vec<&str> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .collect();
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
            check_pod(namespace, pod)?;
            demo(restarts)
        }
        ["api", "v1", "namespaces", namespace, "pods", pod, "exec"] => {
            return session(Subresource::Exec, namespace, pod);
        }
        ["api", "v1", "namespaces", namespace, "pods", pod, "attach"] => {
            return session(Subresource::Attach, namespace, pod);
        }
        ["api", "v1", "namespaces", namespace, "pods", pod, "log"] => {
            return Ok(Route::Log { namespace, pod });
        }
        _ => {
            return Err(not_found(
                "the server could not find the requested resource",
            ));
        }
    }))
}

/// There is one pod; every other name is answered as a real server would.
pub(crate) fn check_pod(namespace: &str, pod: &str) -> Result<(), Status> {
    if namespace == NAMESPACE && pod == POD {
        Ok(())
    } else {
        Err(not_found(&format!("pods \"{pod}\" not found")))
    }
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
        for subresource in [Subresource::Exec, Subresource::Attach] {
            let path = format!("/api/v1/namespaces/default/pods/demo/{subresource}");
            let session = Route::Session {
                subresource,
                namespace: "default",
                pod: "demo",
            };
            assert_eq!(route(&path, 0), Ok(session));
        }
        let log = Route::Log {
            namespace: "default",
            pod: "demo",
        };
        assert_eq!(
            route("/api/v1/namespaces/default/pods/demo/log", 0),
            Ok(log)
        );
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
        ] {
            assert_eq!(route(path, 0).unwrap_err().code(), Some(404), "{path}");
        }
        let status = route("/api/v1/namespaces/default/pods/nope", 0).unwrap_err();
        assert_eq!(status.message(), Some("pods \"nope\" not found"));
        assert!(check_pod("other", "demo").is_err());
    }
}
