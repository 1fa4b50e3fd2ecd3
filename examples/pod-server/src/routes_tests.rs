//! The router as a client sees it, over no connection.

use std::{
    ffi::OsString,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header::ALLOW},
    response::Response,
};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    time::{sleep, timeout},
};
use tower::ServiceExt;
use tower_wsstream::{
    remotecommand::channel,
    testing::{Client, Connect, Received, Refused},
};

use super::*;
use crate::limit::{REAL, within};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// The paths of the subresources of the one pod, and of its container.
const SUBRESOURCES: [&str; 12] = [
    "/api/v1/namespaces/default/pods/demo/exec",
    "/api/v1/namespaces/default/pods/demo/attach",
    "/api/v1/namespaces/default/pods/demo/portforward",
    "/api/v1/namespaces/default/pods/demo/log",
    "/exec/default/demo/main",
    "/exec/default/demo/00000000-0000-4000-8000-000000000001/main",
    "/attach/default/demo/main",
    "/attach/default/demo/00000000-0000-4000-8000-000000000001/main",
    "/portForward/default/demo",
    "/portForward/default/demo/00000000-0000-4000-8000-000000000001",
    "/containerLogs/default/demo/main",
    "/containerLogs/default/demo/00000000-0000-4000-8000-000000000001/main",
];

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle_timeout: None,
            keep_alive: KeepAlive::default(),
            permits: SessionPermits::new(usize::MAX),
            refusals: SessionPermits::new(usize::MAX),
        }
    }
}

/// The router of a pod, and what keeps that running.
async fn server() -> (Router, impl Future<Output = ()>) {
    limited(&Limits::default()).await
}

async fn limited(limits: &Limits) -> (Router, impl Future<Output = ()> + use<>) {
    let argv = ["/bin/sh", "-c", "read go"].map(OsString::from);
    let (pod, keep_running) = Pod::start(argv.into()).await.unwrap();
    let router = router(&pod, Guard::new(None), limits, &Sessions::default());
    (router, keep_running)
}

async fn ask(router: &Router, method: Method, path: &str) -> Response {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn json(response: Response) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&body).unwrap()
}

async fn get(path: &str) -> (StatusCode, Value) {
    let (router, _pod) = server().await;
    let response = ask(&router, Method::GET, path).await;
    (response.status(), json(response).await)
}

#[tokio::test]
async fn documents_that_kubectl_reads_are_there() {
    let (router, _pod) = server().await;
    for path in [
        "/version",
        "/api",
        "/apis",
        "/api/v1",
        "/api/v1/",
        "/api/v1/namespaces/default/pods/demo",
    ] {
        for method in [Method::GET, Method::HEAD] {
            let response = ask(&router, method, path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(response.headers()["content-type"], "application/json");
        }
        let response = ask(&router, Method::POST, path).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert_eq!(json(response).await["reason"], "MethodNotAllowed");
    }
}

#[tokio::test]
async fn paths_of_clients_and_of_an_api_server_are_there() {
    let (router, _pod) = server().await;
    for path in SUBRESOURCES {
        // Only an upgrade is missing. The log needs none, but a number.
        let (query, expected) = match path.to_lowercase().contains("log") {
            true => ("?tailLines=x", StatusCode::BAD_REQUEST),
            false => ("", StatusCode::UPGRADE_REQUIRED),
        };
        for end in ["", "/"] {
            let path = format!("{path}{end}{query}");
            let response = ask(&router, Method::GET, &path).await;
            assert_eq!(response.status(), expected, "{path}");
        }
    }
}

#[tokio::test]
async fn other_paths_are_not_found() {
    let (router, _pod) = server().await;
    for path in [
        "/index.html",
        "/web",
        "/sessions/1",
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
        let response = ask(&router, Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(json(response).await["reason"], "NotFound", "{path}");
    }
}

/// A web page that has rebound its name reaches nothing.
#[tokio::test]
async fn every_path_is_behind_the_guard() {
    let (router, _pod) = server().await;
    let paths = [
        "/",
        "/web/main.js",
        "/web/npm/@xterm/xterm@6.0.0/lib/xterm.js",
        "/sessions",
        "/version",
        "/version/",
        "/api/v1/pods",
        "/no/such",
    ];
    for path in paths.into_iter().chain(SUBRESOURCES) {
        for method in [Method::GET, Method::POST, Method::CONNECT, Method::OPTIONS] {
            let request = Request::builder()
                .method(&method)
                .uri(path)
                .header("host", "evil.example");
            let request = request.body(Body::empty()).unwrap();
            let response = router.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
}

/// The page asks for the token, so it is there without one. Nothing else is.
#[tokio::test]
async fn the_page_alone_needs_no_token() {
    let argv = ["/bin/sh", "-c", "read go"].map(OsString::from);
    let (pod, _keep_running) = Pod::start(argv.into()).await.unwrap();
    let guard = Guard::new(Some("secret".into()));
    let router = router(&pod, guard, &Limits::default(), &Sessions::default());
    for path in ["/", "/web/main.js", "/web/style.css"] {
        let response = ask(&router, Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    for path in ["/sessions", "/version"].into_iter().chain(SUBRESOURCES) {
        let response = ask(&router, Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_only_read() {
    let (router, _pod) = server().await;
    for path in ["/", "/web/main.js", "/sessions"] {
        let response = ask(&router, Method::POST, path).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
    }
}

#[tokio::test]
async fn the_list_has_sessions_that_live_and_that_have_ended() {
    let (router, _pod) = server().await;
    let list = async || json(ask(&router, Method::GET, "/sessions").await).await;
    assert_eq!(
        list().await,
        serde_json::json!({ "draining": false, "live": [], "ended": [] })
    );

    let path = format!("{PODS}/demo/exec?command=cat&stdin=1&stdout=1");
    let client = Connect::to(path).offer("v5.channel.k8s.io");
    let mut client = client.connect(router.clone()).await.unwrap();
    client.send(channel::STDIN, b"twelve bytes").await.unwrap();
    // Until the echo has come, behind the ready message.
    while output(&mut client).await == 0 {}
    let live = &list().await["live"][0];
    assert_eq!(live["kind"], "exec");
    assert_eq!(live["subprotocol"], "v5.channel.k8s.io");
    assert_eq!(live["received"]["bytes"], 12);

    client.close_channel(channel::STDIN).await.unwrap();
    client.read_to_end().await;
    // A moment later: its connection has to end as well.
    let over = async {
        loop {
            let list = list().await;
            if list["live"] == serde_json::json!([]) && list["ended"][0].is_object() {
                return list;
            }
            tokio::task::yield_now().await;
        }
    };
    let mut list = within(REAL, over).await;
    let ended = &mut list["ended"][0];
    assert!(ended["seconds"].take().is_number());
    assert_eq!(ended["kind"], "exec");
    assert_eq!(ended["received"]["bytes"], 12);
    let status = tower_wsstream::Status::success().to_json();
    assert_eq!(ended["sent"]["bytes"], 12 + status.len());
    assert_eq!(ended["outcome"], "exit code 0");
    assert_eq!(ended["closeCode"], 1000);
}

/// A page is sent one window, and the rest as it acknowledges.
#[tokio::test]
async fn output_waits_for_a_client_that_acknowledges() {
    const WINDOW: usize = acknowledge::WINDOW;
    let (router, _pod) = server().await;
    let command = format!("command=head&command=-c&command={}", 2 * WINDOW);
    let path = format!("{PODS}/demo/exec?{command}&command=/dev/zero&stdout=1&acknowledge=true");
    for subprotocol in ["v5.channel.k8s.io", "v4.base64.channel.k8s.io"] {
        let client = Connect::to(&*path).offer(subprotocol);
        let mut client = client.connect(router.clone()).await.unwrap();
        let mut shown = 0;
        while shown < WINDOW {
            shown += output(&mut client).await;
        }
        assert_eq!(shown, WINDOW, "{subprotocol}");
        // There is more, and it does not come.
        let more = timeout(Duration::from_millis(100), client.receive()).await;
        assert!(more.is_err(), "{subprotocol}: {more:?}");

        let count = u32::try_from(WINDOW).unwrap().to_be_bytes();
        client.send(acknowledge::CHANNEL, &count).await.unwrap();
        let told = within(REAL, client.read_to_end()).await;
        assert_eq!(told.channel(channel::STDOUT).len(), WINDOW, "{subprotocol}");
        assert_eq!(told.exit_code(), Some(0), "{subprotocol}");
    }
}

/// Neither command writes anything. The counts would fill the reserve of the session.
#[tokio::test]
async fn a_client_that_acknowledges_nothing_loses_its_session() {
    let (router, _pod) = server().await;
    for path in [
        "exec?command=sleep&command=1000&stdout=1",
        "attach?stdout=1",
    ] {
        let path = format!("{PODS}/demo/{path}&acknowledge=true");
        let client = Connect::to(path).offer("v5.channel.k8s.io");
        let mut client = client.connect(router.clone()).await.unwrap();
        client.send(acknowledge::CHANNEL, &[0; 4]).await.unwrap();
        let told = within(REAL, client.read_to_end()).await;
        let status = told.status().unwrap();
        let message = status.message().unwrap_or_default();
        assert!(message.contains("acknowledged nothing"), "{message}");
    }
}

/// Returns the length of the next message of stdout.
async fn output(client: &mut Client) -> usize {
    match within(REAL, client.receive()).await {
        Received::Message(channel::STDOUT, bytes) => bytes.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn other_pods_and_containers_are_refused() {
    let (router, _pod) = server().await;
    let message = async |path: &str, code| {
        let response = ask(&router, Method::GET, path).await;
        assert_eq!(response.status().as_u16(), code, "{path}");
        json(response).await["message"].as_str().unwrap().to_owned()
    };
    for path in ["", "/exec", "/attach", "/portforward", "/log"] {
        let path = format!("{PODS}/nope{path}");
        assert_eq!(message(&path, 404).await, "pods \"nope\" not found");
    }
    for path in SUBRESOURCES {
        message(&path.replace("/default/", "/other/"), 404).await;
        if let Some(path) = path.strip_suffix("/main") {
            let told = message(&format!("{path}/nope"), 404).await;
            assert_eq!(told, "container \"nope\" not found in pod \"demo\"");
        } else {
            let told = message(&format!("{path}?container=nope&container=main"), 400).await;
            assert_eq!(told, "container nope is not valid for pod demo");
        }
    }
}

#[tokio::test]
async fn a_command_runs_through_all_layers() {
    let (router, _pod) = server().await;
    for path in [SUBRESOURCES[0], SUBRESOURCES[4]] {
        let path = format!("{path}?command=sh&command=-c&command=echo+hi%3B+exit+3&stdout=1");
        let client = Connect::to(path)
            .offer("v5.channel.k8s.io")
            .connect(router.clone());
        let told = client.await.unwrap().read_to_end().await;
        assert_eq!(told.channel(channel::STDOUT), b"hi\n");
        assert_eq!(told.exit_code(), Some(3));
    }
}

#[tokio::test]
async fn an_exec_without_a_command_is_refused() {
    let (router, _pod) = server().await;
    let client = Connect::to(format!("{PODS}/demo/exec?stdout=1")).offer("v5.channel.k8s.io");
    let error = client.connect(router).await.unwrap_err();
    let refusal = error.downcast_ref::<Refused>().unwrap().refusal().unwrap();
    assert_eq!(refusal.code(), Some(400));
    assert_eq!(
        refusal.message(),
        Some("you must specify at least one command for the container")
    );
}

#[tokio::test]
async fn sessions_of_all_kinds_share_one_limit() {
    let (router, _pod) = limited(&Limits {
        permits: SessionPermits::new(1),
        ..Limits::default()
    })
    .await;
    let log = format!("{PODS}/demo/log?follow=true");
    let connect = async |path: &str, subprotocol: &str| {
        let client = Connect::to(format!("{PODS}/demo/{path}")).offer(subprotocol);
        client.connect(router.clone()).await
    };
    let first = ask(&router, Method::GET, &log).await;
    assert_eq!(first.status(), StatusCode::OK);

    // kubectl shows a Status, and no other answer to these two.
    for path in ["exec?command=true&stdout=1", "attach?stdout=1"] {
        let client = connect(path, "v5.channel.k8s.io").await.unwrap();
        let status = client.read_to_end().await.status().unwrap();
        assert_eq!(status.code(), Some(429), "{path}");
    }
    for (path, subprotocol) in [
        ("portforward?ports=1", "v4.channel.k8s.io"),
        ("log", "binary.k8s.io"),
    ] {
        let error = connect(path, subprotocol).await.unwrap_err();
        let refused = error.downcast_ref::<Refused>().unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
    }
    let second = ask(&router, Method::GET, &log).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);

    drop(first);
    let attached = connect("attach?stdout=1", "v5.channel.k8s.io").await;
    let second = ask(&router, Method::GET, &log).await;
    assert_eq!(second.status(), StatusCode::TOO_MANY_REQUESTS);
    drop(attached);
}

/// A client can read everything and never answer the Close.
#[tokio::test]
async fn a_session_keeps_its_permit_until_its_connection_is_closed() {
    let (router, _pod) = limited(&Limits {
        permits: SessionPermits::new(1),
        ..Limits::default()
    })
    .await;
    let log = async || {
        let path = format!("{PODS}/demo/log");
        ask(&router, Method::GET, &path).await.status()
    };
    // Nothing listens at the port.
    for (path, subprotocol) in [
        ("exec?command=true&stdout=1", "v5.channel.k8s.io"),
        ("portforward?ports=1", "v4.channel.k8s.io"),
    ] {
        let client = Connect::to(format!("{PODS}/demo/{path}")).offer(subprotocol);
        let mut client = client.connect(router.clone()).await.unwrap();
        loop {
            match client.receive().await {
                Received::Closed { .. } => break,
                Received::Lost => panic!("{path}: no Close"),
                _ => {}
            }
        }
        assert_eq!(log().await, StatusCode::TOO_MANY_REQUESTS, "{path}");
        client.lose();
        within(REAL, async {
            while log().await != StatusCode::OK {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

/// A client that is told of the limit has a session too, and can keep it.
#[tokio::test]
async fn a_session_that_is_refused_counts_until_its_connection_is_closed() {
    let (router, _pod) = limited(&Limits {
        permits: SessionPermits::new(0),
        refusals: SessionPermits::new(1),
        ..Limits::default()
    })
    .await;
    for path in ["exec?command=true&stdout=1", "attach?stdout=1"] {
        let connect = async || {
            let client = Connect::to(format!("{PODS}/demo/{path}")).offer("v5.channel.k8s.io");
            client.connect(router.clone()).await
        };
        // The permit of the last session comes back a moment after its connection is closed.
        let told = async || loop {
            match connect().await {
                Ok(told) => return told,
                Err(_) => sleep(Duration::from_millis(1)).await,
            }
        };
        let mut first = within(REAL, told()).await;
        loop {
            match first.receive().await {
                Received::Closed { .. } => break,
                Received::Lost => panic!("{path}: no Close"),
                _ => {}
            }
        }
        let error = connect().await.unwrap_err();
        let refused = error.downcast_ref::<Refused>().unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
        first.lose();
        let second = within(REAL, told()).await;
        let status = second.read_to_end().await.status().unwrap();
        assert_eq!(status.code(), Some(429), "{path}");
    }
}

/// Sends a request for SPDY over a connection, and returns the head of the answer.
async fn post(router: &Router, path: &str, offer: &str) -> String {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let service = TowerToHyperService::new(router.clone());
    tokio::spawn(async move {
        let served = http1::Builder::new().serve_connection(TokioIo::new(server), service);
        served.with_upgrades().await
    });
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\
         Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: {offer}\r\n\r\n"
    );
    client.write_all(request.as_bytes()).await.unwrap();
    let mut head = String::new();
    let mut client = BufReader::new(client);
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(client.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    head
}

#[tokio::test]
async fn spdy_is_served_on_every_path() {
    let (router, _pod) = server().await;
    for path in SUBRESOURCES {
        let (offer, query) = match path.to_lowercase() {
            path if path.contains("log") => continue,
            path if path.contains("portforward") => ("portforward.k8s.io", ""),
            _ => ("v4.channel.k8s.io", "?command=true&stdout=1"),
        };
        let head = post(&router, &format!("{path}{query}"), offer).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{path}: {head}");
        let selected = format!("x-stream-protocol-version: {offer}\r\n");
        assert!(head.contains(&selected), "{path}: {head}");
    }
    // A client that offers nothing else is told what there is.
    let path = format!("{}?command=true&stdout=1", SUBRESOURCES[0]);
    let head = post(&router, &path, "v5.channel.k8s.io").await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(head.contains("x-accepted-stream-protocol-versions: v4.channel.k8s.io"));
}

#[tokio::test]
async fn discovery_names_every_subresource() {
    let (_, list) = get("/api/v1").await;
    let resources = list["resources"].as_array().unwrap();
    for name in [
        "pods",
        "pods/log",
        "pods/exec",
        "pods/attach",
        "pods/portforward",
    ] {
        assert!(
            resources.iter().any(|entry| entry["name"] == name),
            "{name}"
        );
    }
}

#[tokio::test]
async fn the_pod_takes_input_and_has_no_terminal() {
    let (_, pod) = get(&format!("{PODS}/demo")).await;
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["stdin"], true);
    assert_eq!(container["tty"], false);
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[tokio::test]
async fn only_the_default_namespace_holds_the_pod() {
    let items = async |path: &str| get(path).await.1["items"].as_array().unwrap().len();
    assert_eq!(items("/api/v1/pods").await, 1);
    assert_eq!(items("/api/v1/namespaces/default/pods").await, 1);
    assert_eq!(items("/api/v1/namespaces/other/pods").await, 0);
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No request can forge a line of the log.
#[tokio::test]
async fn a_refused_request_writes_one_line_of_the_log() {
    let (router, _pod) = server().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let path = format!(
        "{PODS}/demo/exec?stdout=1&command=id&container=x%0a2026-01-01T00:00:00Z%20%20INFO%20forged"
    );
    let response = ask(&router, Method::GET, &path).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.contains("forged"), "{log}");
}
