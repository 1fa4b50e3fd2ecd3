//! The hub by itself: no process, no client.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_test::{assert_pending, assert_ready, task::spawn};

use super::{Attached, Hub, Next, PATIENCE};
use crate::seat::{BACKLOG, BEHIND, Stream};

fn take(attached: &Attached) -> String {
    match spawn(attached.next()).poll() {
        std::task::Poll::Ready(Ok(Next::Output(_, bytes))) => {
            attached.written(bytes.len());
            String::from_utf8(bytes).unwrap()
        }
        other => panic!("{other:?}"),
    }
}

fn push(hub: &Hub, length: usize) {
    hub.push(Stream::Stdout, &vec![b'x'; length]);
}

#[test]
fn each_client_gets_all_output_from_the_attach_on() {
    let hub = Arc::<Hub>::default();
    hub.push(Stream::Stdout, b"before\n");
    let first = hub.attach();
    hub.push(Stream::Stdout, b"one\n");
    let second = hub.attach();
    hub.push(Stream::Stdout, b"two\n");
    assert_eq!(take(&first), "one\ntwo\n");
    assert_eq!(take(&second), "two\n");
    hub.push(Stream::Stdout, b"three\n");
    assert_eq!(
        (take(&second), take(&first)),
        ("three\n".into(), "three\n".into())
    );
}

#[test]
fn a_follower_begins_with_earlier_output() {
    let hub = Arc::<Hub>::default();
    hub.push(Stream::Stdout, b"one\ntwo\n");
    hub.push(Stream::Stderr, b"three\n");
    let (before, following) = hub.follow(Some(2));
    assert_eq!(before, b"two\nthree\n");
    hub.push(Stream::Stdout, b"four\n");
    assert_eq!(take(&following), "four\n");
    assert_eq!(hub.recent(None), b"one\ntwo\nthree\nfour\n");
    // After the end too.
    hub.end(ExitStatus::default());
    assert_eq!(hub.follow(Some(1)).0, b"four\n");
}

#[test]
fn output_wakes_a_client_that_waits_for_it() {
    let hub = Arc::<Hub>::default();
    let attached = hub.attach();
    let mut next = spawn(attached.next());
    assert_pending!(next.poll());
    hub.push(Stream::Stderr, b"oh");
    assert!(next.is_woken());
    let next = assert_ready!(next.poll());
    assert_eq!(next, Ok(Next::Output(Stream::Stderr, b"oh".to_vec())));
}

#[test]
fn the_end_comes_after_all_output_and_to_each_client() {
    let hub = Arc::<Hub>::default();
    let (slow, waiting) = (hub.attach(), hub.attach());
    hub.push(Stream::Stdout, b"last");
    assert_eq!(take(&waiting), "last");
    let mut next = spawn(waiting.next());
    assert_pending!(next.poll());
    let status = ExitStatus::from_raw(9);
    hub.end(status);
    assert!(next.is_woken());
    assert_eq!(assert_ready!(next.poll()), Ok(Next::Ended(status)));
    assert_eq!(take(&slow), "last");
    for late in [slow, hub.attach()] {
        let next = assert_ready!(spawn(late.next()).poll());
        assert_eq!(next, Ok(Next::Ended(status)));
    }
}

#[test]
fn a_full_backlog_is_kept_and_one_byte_more_loses_the_place() {
    let hub = Arc::<Hub>::default();
    let (slow, quick) = (hub.attach(), hub.attach());
    push(&hub, BACKLOG);
    assert_eq!(take(&quick).len(), BACKLOG);
    let mut lagging = spawn(slow.lagged());
    assert_pending!(lagging.poll());

    push(&hub, 1);
    assert!(lagging.is_woken());
    let lagged = assert_ready!(lagging.poll());
    let text = lagged.to_string();
    assert!(text.contains("read too slowly"), "{text}");
    assert!(text.contains(&(BACKLOG + 1).to_string()), "{text}");
    assert_eq!(assert_ready!(spawn(slow.next()).poll()), Err(lagged));
    assert_eq!(take(&quick), "x");
}

#[test]
fn both_streams_and_output_that_is_being_written_count() {
    let hub = Arc::<Hub>::default();
    let slow = hub.attach();
    push(&hub, BACKLOG / 2);
    let taken = assert_ready!(spawn(slow.next()).poll()).unwrap();
    assert!(matches!(taken, Next::Output(Stream::Stdout, bytes) if bytes.len() == BACKLOG / 2));
    slow.written(1);
    hub.push(Stream::Stderr, &vec![b'e'; BACKLOG / 4]);
    push(&hub, BACKLOG / 4 + 1);
    let mut lagging = spawn(slow.lagged());
    assert_pending!(lagging.poll());
    push(&hub, 1);
    assert_ready!(lagging.poll());
}

#[test]
fn a_lost_place_holds_nothing() {
    let hub = Arc::<Hub>::default();
    let slow = hub.attach();
    for _ in 0..100 {
        push(&hub, BACKLOG);
    }
    let held = {
        let state = hub.lock();
        let seat = state.seats.values().next().unwrap();
        seat.capacity()
    };
    assert_eq!(held, 0);
    drop(slow);
    assert!(hub.lock().seats.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_input_waits_until_a_reader_has_caught_up() {
    let hub = Arc::<Hub>::default();
    let (reader, _idle) = (hub.attach(), hub.attach());
    push(&hub, BEHIND);
    assert_ready!(spawn(hub.calm()).poll());
    drop(_idle);
    push(&hub, 1);
    let mut calm = spawn(hub.calm());
    assert_pending!(calm.poll());

    let Next::Output(_, bytes) = reader.next().await.unwrap() else {
        panic!("output");
    };
    // It was taken, but not written.
    assert_pending!(calm.poll());
    reader.written(1);
    assert!(calm.is_woken());
    assert_ready!(calm.poll());
    reader.written(bytes.len() - 1);
}

#[tokio::test(start_paused = true)]
async fn the_input_waits_once_and_not_long_for_one_that_does_not_read() {
    let hub = Arc::<Hub>::default();
    let _slow = hub.attach();
    push(&hub, BEHIND + 1);
    let start = Instant::now();
    tokio::time::sleep(PATIENCE / 2).await;
    push(&hub, 1);
    hub.calm().await;
    let waited = start.elapsed();
    assert!(
        waited >= PATIENCE && waited < PATIENCE + Duration::from_millis(10),
        "{waited:?}"
    );
    push(&hub, 1);
    assert_ready!(spawn(hub.calm()).poll());
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_is_not_waited_for() {
    let hub = Arc::<Hub>::default();
    let slow = hub.attach();
    push(&hub, BEHIND + 1);
    let mut calm = spawn(hub.calm());
    assert_pending!(calm.poll());
    drop(slow);
    assert!(calm.is_woken());
    assert_ready!(calm.poll());
}
