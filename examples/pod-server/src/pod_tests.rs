//! Real processes at a hub.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{Bytes, Pod};
use crate::hub::{Attached, Next};
use crate::limit::{REAL, within};
use crate::ticker;

async fn pod(argv: Vec<OsString>) -> (Pod, JoinHandle<()>) {
    let (pod, keeping) = Pod::start(argv).await.unwrap();
    (pod, tokio::spawn(keeping))
}

fn sh(script: &str) -> Vec<OsString> {
    ["/bin/sh", "-c", script].map(OsString::from).to_vec()
}

/// Returns the output up to `expected`, and with it.
async fn hear(attached: &Attached, expected: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(expected) {
        match attached.next().await {
            Ok(Next::Output(_, bytes)) => {
                attached.written(bytes.len());
                heard.push_str(str::from_utf8(&bytes).unwrap());
            }
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard
}

/// Returns the exit code, which comes after all output.
async fn code(attached: &Attached) -> u8 {
    loop {
        match attached.next().await.unwrap() {
            Next::Output(_, bytes) => attached.written(bytes.len()),
            Next::Ended(status) => return super::Code::from(status).code(),
        }
    }
}

#[tokio::test]
async fn the_ticker_ticks_and_echoes_each_line_to_all_clients() {
    let (pod, _keeping) = pod(ticker::argv()).await;
    let (first, input) = pod.attach().unwrap();
    let (second, _) = pod.attach().unwrap();
    input.send(Bytes::from_static(b"hello\n")).await.unwrap();
    within(REAL, hear(&first, "hello\n")).await;
    within(REAL, hear(&second, "hello\n")).await;
    within(REAL, hear(&second, "tick ")).await;
    // A client that leaves, and its sender, end nothing.
    drop((first, input));
    let (third, input) = pod.attach().unwrap();
    input.send(Bytes::from_static(b"again\n")).await.unwrap();
    within(REAL, hear(&third, "again\n")).await;
    assert_eq!(pod.restarts(), 0);
}

#[tokio::test]
async fn one_that_does_not_read_stops_neither_the_process_nor_another() {
    // More than its backlog and both pipes together.
    let (pod, _keeping) = pod(sh("read go; seq 200000; read go; echo done; read go")).await;
    let (stalled, input) = pod.attach().unwrap();
    let (reader, _) = pod.attach().unwrap();
    input.send(Bytes::from_static(b"go\n")).await.unwrap();
    within(REAL, hear(&reader, "200000\n")).await;
    input.send(Bytes::from_static(b"go\n")).await.unwrap();
    within(REAL, hear(&reader, "done\n")).await;
    assert!(within(REAL, stalled.next()).await.is_err());
}

#[tokio::test]
async fn a_flood_of_input_loses_no_client_that_reads() {
    let (pod, _keeping) = pod(vec!["/bin/cat".into()]).await;
    let (reader, input) = pod.attach().unwrap();
    let flood = tokio::spawn(async move {
        for _ in 0..1000 {
            input.send(Bytes::from(vec![b'\n'; 8192])).await.unwrap();
        }
        input.send(Bytes::from_static(b"over\n")).await.unwrap();
    });
    let mut total = 0;
    while total < 1000 * 8192 + 5 {
        let Next::Output(_, bytes) = within(REAL, reader.next()).await.unwrap() else {
            panic!("output");
        };
        total += bytes.len();
        // Written in parts and with pauses, as to a client.
        for part in bytes.chunks(32 * 1024) {
            tokio::task::yield_now().await;
            reader.written(part.len());
        }
    }
    flood.await.unwrap();
}

/// In a second of real time, because paused time would run ahead of a real process.
#[tokio::test]
async fn a_process_that_has_died_is_reported_and_started_again() {
    let (pod, _keeping) = pod(sh("read go; echo down; kill -9 $$")).await;
    let (attached, input) = pod.attach().unwrap();
    let (other, _) = pod.attach().unwrap();
    input.send(Bytes::from_static(b"go\n")).await.unwrap();
    within(REAL, hear(&attached, "down\n")).await;
    assert_eq!(within(REAL, code(&attached)).await, 137);
    assert_eq!(within(REAL, code(&other)).await, 137);
    // The end is told a moment before an attach is refused.
    let error = within(REAL, async {
        loop {
            match pod.attach() {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => return error.to_string(),
            }
        }
    });
    let error = error.await;
    // Its log can still be read.
    assert_eq!(pod.output().recent(None), b"down\n");
    assert!(
        error.contains("not running") && error.contains("137"),
        "{error}"
    );
    let again = within(REAL, async {
        loop {
            match pod.attach() {
                Ok(again) => return again,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let (attached, input) = again.await;
    assert_eq!(pod.restarts(), 1);
    input.send(Bytes::from_static(b"go\n")).await.unwrap();
    within(REAL, hear(&attached, "down\n")).await;
}

#[tokio::test]
async fn a_process_that_closes_its_input_runs_on() {
    let (pod, _keeping) = pod(sh("read go; exec <&-; echo closed; sleep 0.1; exit 7")).await;
    let (attached, input) = pod.attach().unwrap();
    input.send(Bytes::from_static(b"go\n")).await.unwrap();
    within(REAL, hear(&attached, "closed\n")).await;
    // It has no reader, and the sender learns that in the end.
    within(REAL, async {
        while input.send(Bytes::from_static(b"more\n")).await.is_ok() {}
    })
    .await;
    assert_eq!(within(REAL, code(&attached)).await, 7);
}

#[tokio::test]
async fn the_process_ends_with_the_pod() {
    let (pod, keeping) = pod(sh("read go; echo $$; trap '' HUP TERM; sleep 1000")).await;
    let (attached, input) = pod.attach().unwrap();
    input.send(Bytes::from_static(b"go\n")).await.unwrap();
    let process = within(REAL, hear(&attached, "\n")).await;
    keeping.abort();
    let stat = format!("/proc/{}/stat", process.trim());
    let start = Instant::now();
    while std::fs::read(&stat).is_ok() {
        assert!(start.elapsed() < Duration::from_secs(2), "alive");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_pod_that_cannot_start_says_so() {
    let error = Pod::start(vec!["/no/such".into()]).await.err().unwrap();
    assert!(error.to_string().contains("/no/such"), "{error}");
}
