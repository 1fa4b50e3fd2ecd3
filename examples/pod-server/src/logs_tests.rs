//! The log of a hub without a process, and of a pod with one.

use std::{ffi::OsString, process::ExitStatus, time::Duration};

use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio_test::{assert_pending, assert_ready, task::spawn};
use tower::ServiceExt;

use super::*;
use crate::seat::{BACKLOG, Stream};

fn hub(printed: &[u8]) -> Arc<Hub> {
    let hub = Arc::<Hub>::default();
    hub.push(Stream::Stdout, printed);
    hub
}

fn asked(query: &str) -> Result<Asked, Rejection> {
    let request = Request::get(format!("/log?{query}")).body(()).unwrap();
    let mut head = request.into_parts().0;
    assert_ready!(spawn(Asked::from_request_parts(&mut head, &())).poll())
}

fn log(query: &str, hub: &Arc<Hub>) -> Body {
    body(&asked(query).unwrap(), hub, ())
}

/// Returns all of a log that ends, and ends at once.
fn all(body: Body) -> Bytes {
    let collected = assert_ready!(spawn(body.collect()).poll());
    collected.unwrap().to_bytes()
}

/// Returns the next part of a log, which is there.
fn part(body: &mut Body) -> Bytes {
    let frame = assert_ready!(spawn(body.frame()).poll());
    frame.unwrap().unwrap().into_data().unwrap()
}

#[test]
fn the_log_is_earlier_output() {
    let hub = hub(b"one\ntwo\nthree\n");
    for (query, expected) in [
        ("", "one\ntwo\nthree\n"),
        ("tailLines=2", "two\nthree\n"),
        ("tailLines=0", ""),
        ("limitBytes=5", "one\nt"),
        ("limitBytes=5&tailLines=1", "three"),
        ("follow=false&container=main", "one\ntwo\nthree\n"),
    ] {
        assert_eq!(all(log(query, &hub)), expected, "{query}");
    }
}

#[test]
fn followed_it_goes_on_until_the_process_ends() {
    let hub = hub(b"one\ntwo\n");
    let mut body = log("follow=true&tailLines=1", &hub);
    assert_eq!(part(&mut body), "two\n");
    let mut next = spawn(body.frame());
    assert_pending!(next.poll());
    hub.push(Stream::Stderr, b"three\n");
    assert!(next.is_woken());
    drop(next);
    assert_eq!(part(&mut body), "three\n");
    hub.push(Stream::Stdout, b"four\n");
    hub.end(ExitStatus::default());
    assert_eq!(all(body), "four\n");
}

#[test]
fn a_followed_log_ends_at_its_limit() {
    let hub = hub(b"one\n");
    let body = log("follow=true&limitBytes=6", &hub);
    hub.push(Stream::Stdout, b"two\n");
    assert_eq!(all(body), "one\ntw");
}

/// hyper would keep a log that it gets as a whole, with its end.
#[test]
fn a_long_log_is_handed_out_in_pieces() {
    let hub = hub(&[b'x'; 2 * PIECE + 1]);
    for query in ["", "follow=true"] {
        let mut body = log(query, &hub);
        let pieces: Vec<_> = (0..3).map(|_| part(&mut body).len()).collect();
        assert_eq!(pieces, [PIECE, PIECE, 1], "{query}");
    }
    assert_eq!(
        all(log(&format!("limitBytes={}", PIECE + 1), &hub)).len(),
        PIECE + 1
    );
}

#[test]
fn a_client_that_leaves_leaves_nothing_behind() {
    let hub = hub(b"one\n");
    let mut waiting = log("follow=true&tailLines=0", &hub);
    let unread = log("follow=true", &hub);
    assert_pending!(spawn(waiting.frame()).poll());
    assert_eq!(Arc::strong_count(&hub), 3);
    drop((waiting, unread));
    assert_eq!(Arc::strong_count(&hub), 1);
}

#[test]
fn a_log_that_lost_its_place_does_not_look_complete() {
    let hub = hub(b"");
    let body = log("follow=true", &hub);
    hub.push(Stream::Stdout, &vec![b'x'; BACKLOG + 1]);
    hub.end(ExitStatus::default());
    let error = assert_ready!(spawn(body.collect()).poll()).unwrap_err();
    assert!(error.to_string().contains("read too slowly"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_input_waits_for_a_log_that_is_being_read() {
    let hub = hub(b"");
    let mut body = log("follow=true", &hub);
    hub.push(Stream::Stdout, &vec![b'x'; BACKLOG / 2]);
    for _ in 0..BACKLOG / 2 / PIECE {
        assert_eq!(part(&mut body).len(), PIECE);
    }
    // It was handed out, but is not known to have been written.
    let mut calm = spawn(hub.calm());
    assert_pending!(calm.poll());
    assert_pending!(spawn(body.frame()).poll());
    assert!(calm.is_woken());
    assert_ready!(calm.poll());
}

#[test]
fn a_query_is_read_as_the_api_server_reads_it() {
    let read = |query| asked(query).map_err(|rejection| rejection.status().as_u16());
    let lines = |tail_lines| {
        Ok(Asked {
            tail_lines,
            ..Asked::default()
        })
    };
    for query in ["", "container=", "unknown=%zz", "&&", "previous=false"] {
        assert_eq!(read(query), lines(None), "{query}");
    }
    assert_eq!(read("tailLines=3&tailLines=x"), lines(Some(3)));
    for (query, follow) in [
        ("follow", true),
        ("follow=true", true),
        ("follow=1&follow=0", true),
        ("follow=0", false),
        ("follow=False", false),
    ] {
        assert_eq!(read(query).unwrap().follow, follow, "{query}");
    }
    for wrong in [
        "tailLines=",
        "tailLines=x",
        "tailLines=-1",
        "tailLines=9223372036854775808",
        "limitBytes=0",
        "limitBytes=1k",
        "previous=true",
    ] {
        assert_eq!(read(wrong), Err(400), "{wrong}");
    }
}

#[tokio::test]
async fn the_route_shows_the_pods_process_and_refuses_other_requests() {
    let argv = ["/bin/sh", "-c", "echo hello; read go"].map(OsString::from);
    let (pod, keeping) = Pod::start(argv.into()).await.unwrap();
    let _keeping = tokio::spawn(keeping);
    let ask = |method, uri: &str| {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .body(Body::empty())
            .unwrap();
        route(pod.clone(), SessionPermits::new(1)).oneshot(request)
    };
    let Ok(response) = ask(Method::GET, "/log?follow=true&limitBytes=6").await;
    assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
    let text = response.into_body().collect();
    let text = tokio::time::timeout(Duration::from_secs(30), text).await;
    assert_eq!(text.unwrap().unwrap().to_bytes(), "hello\n");

    let Ok(response) = ask(Method::POST, "/log").await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    let Ok(response) = ask(Method::GET, "/log?tailLines=x").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let status: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        (&status["kind"], &status["code"]),
        (&"Status".into(), &400.into())
    );
}
