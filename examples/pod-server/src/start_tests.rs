//! A server that stops while it answers.

use std::ffi::OsString;

use axum::{body::Bytes, http::Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::duplex;
use tokio_test::{assert_pending, task::spawn};

use super::*;
use crate::{
    hub::Next,
    limit::{REAL, within},
};

/// A log that fits into no buffer on the way to its client, and into the hub.
const LENGTH: usize = 128 * 1024;

/// Starts a pod that has printed [`LENGTH`] bytes, and that is still running.
async fn pod() -> Pod {
    let script = format!("head -c {LENGTH} /dev/zero; read forever");
    let argv = ["/bin/sh", "-c", &script].map(OsString::from);
    let (pod, keep_running) = Pod::start(argv.into()).await.unwrap();
    let attached = pod.output().attach();
    tokio::spawn(keep_running);
    let mut printed = 0;
    while printed < LENGTH {
        let Next::Output(_, bytes) = within(REAL, attached.next()).await.unwrap() else {
            panic!("it ended after {printed} bytes");
        };
        attached.written(bytes.len());
        printed += bytes.len();
    }
    pod
}

/// No session stands for the answer.
#[tokio::test]
async fn a_log_that_is_being_sent_is_completed() {
    let pod = pod().await;
    for query in ["", "?follow=true"] {
        let sessions = Sessions::default();
        let router = routes::router(&pod, Guard::new(None), &Limits::default(), &sessions);
        let (stopping, stop) = watch::channel(());
        let (client, server) = duplex(1024);
        tokio::spawn(Connections::new(None, router, stop).serve(server, None));
        let (mut client, connection) = http1::handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("/api/v1/namespaces/default/pods/demo/log{query}"))
            .header("host", "localhost")
            .body(Empty::<Bytes>::new());
        let answer = within(REAL, client.send_request(request.unwrap()))
            .await
            .unwrap();

        let mut draining = spawn(drain(&sessions, &pod, &stopping));
        assert_pending!(draining.poll(), "{query}");
        let log = within(REAL, answer.into_body().collect()).await.unwrap();
        assert_eq!(log.to_bytes().len(), LENGTH, "{query}");
        within(REAL, draining).await;
        assert_eq!(stopping.receiver_count(), 0, "{query}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_longest_time_to_finish_is_no_limit() {
    finish(&Sessions::default(), Duration::MAX).await;
}
