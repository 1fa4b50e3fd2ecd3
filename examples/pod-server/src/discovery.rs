//! The documents of an API server that holds one running pod.
//!
//! There are no more than clients read before they use a subresource: kubectl learns from
//! discovery that `pods` exist, and gets the pod; on some machines kubectl is a dispatcher that
//! runs the client that fits `/version`. The other official clients read none.

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    pod::Pod,
    target::{CONTAINER, NAMESPACE, POD, Target},
};

/// The version of Kubernetes that this server claims: the newest whose kubectl was tried
/// against it.
const MINOR: u32 = 33;

/// Routes to the documents.
pub(crate) fn router(pod: Pod) -> Router {
    Router::new()
        .route("/version", get(async || Json(version())))
        .route("/api", get(async || Json(versions())))
        .route("/apis", get(async || Json(groups())))
        .route("/api/v1", get(async || Json(resources())))
        .route("/api/v1/pods", get(all_pods))
        .route("/api/v1/namespaces/{namespace}/pods", get(pods))
        .route("/api/v1/namespaces/{namespace}/pods/{pod}", get(one_pod))
        .with_state(pod)
}

async fn all_pods(State(pod): State<Pod>) -> Json<Value> {
    Json(list(&[demo(&pod)]))
}

async fn pods(State(pod): State<Pod>, Path(namespace): Path<String>) -> Json<Value> {
    Json(match namespace.as_str() {
        NAMESPACE => list(&[demo(&pod)]),
        _ => list(&[]),
    })
}

async fn one_pod(_: Target, State(pod): State<Pod>) -> Json<Value> {
    Json(demo(&pod))
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

fn versions() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

fn groups() -> Value {
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [] })
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
            {
                "name": "pods/portforward", "singularName": "", "namespaced": true,
                "kind": "PodPortForwardOptions", "verbs": ["create", "get"],
            },
        ],
    })
}

fn list(pods: &[Value]) -> Value {
    json!({
        "kind": "PodList",
        "apiVersion": "v1",
        "metadata": { "resourceVersion": "1" },
        "items": pods,
    })
}

fn demo(pod: &Pod) -> Value {
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
                // It stays open when an attached client leaves.
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
                "restartCount": pod.restarts(),
                "state": { "running": { "startedAt": BORN } },
                "lastState": {},
            }],
        },
    })
}
