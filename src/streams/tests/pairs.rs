//! Streams that become pairs, or do not.

use std::time::Duration;

use tokio::time::Instant;

use super::session::{Session, is_over, next, read, syn, write};
use crate::protocol::MAX_PAIRS;

#[tokio::test(start_paused = true)]
async fn half_a_pair_is_given_up_after_ten_seconds_without_a_text() {
    let (mut session, mut pairs) = Session::ports();
    session.open(1, "error", "7");
    session.open(3, "data", "8");
    assert_eq!(session.round(), ["reply 1", "reply 3"]);
    let before = Instant::now();
    assert_eq!(session.expire().await, None);
    assert_eq!(before.elapsed(), Duration::from_secs(10));
    assert_eq!(session.round(), ["rst 1 5", "rst 3 5"]);
    assert!(next(&mut pairs).is_none());
    // Their channels are free again.
    assert_eq!(session.connect(&mut pairs, 5).index, 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_stream_of_a_kind_is_told() {
    let (mut session, mut pairs) = Session::ports();
    session.open(1, "error", "7");
    session.open(3, "error", "7");
    let text = "data 1 error processing stream for request 7: error stream already assigned";
    assert_eq!(session.round(), ["reply 1", text, "fin 1", "rst 3 5"]);
    session.open(5, "data", "8");
    session.open(7, "data", "8");
    assert_eq!(session.round(), ["reply 5", "rst 5 5", "rst 7 5"]);
    assert!(next(&mut pairs).is_none());
    assert_eq!(session.mux.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_pair_in_the_other_order() {
    let (mut session, mut pairs) = Session::ports();
    session.open(1, "data", "7");
    session.data(1, b"early");
    session.open(3, "error", "7");
    assert_eq!(session.round(), ["reply 1", "reply 3"]);
    let mut pair = next(&mut pairs).unwrap();
    assert_eq!(read(&mut pair.reader).await.unwrap(), "early");
    pair.answer.reply();
    assert!(session.round().is_empty(), "it was answered");
    pair.answer.refuse();
    assert_eq!(session.round(), ["rst 1 5", "fin 3"]);
}

#[tokio::test(start_paused = true)]
async fn streams_of_no_use_are_reset() {
    let (mut session, _pairs) = Session::ports();
    session.syn(1, &[("streamtype", "data"), ("port", "0")]);
    session.syn(3, &[("streamtype", "stdin"), ("port", "80")]);
    let mut unidirectional = syn(5, &[("streamtype", "data"), ("port", "80")], false);
    unidirectional[4] = 2;
    session.feed(&unidirectional);
    assert_eq!(session.round(), ["rst 1 5", "rst 3 5", "rst 5 1"]);
}

/// A channel stands for another stream only once all handles of the stream before are dropped.
#[tokio::test(start_paused = true)]
async fn a_slot_is_used_again_once_its_handles_are_dropped() {
    let (mut session, mut pairs) = Session::ports();
    let mut first = session.connect(&mut pairs, 1);
    first.answer.reply();
    session.fin(1);
    session.fin(3);
    first.answer.finish();
    session.round();
    assert_eq!(session.connect(&mut pairs, 5).index, 1, "handles exist");
    session.fin(5);
    session.round();
    drop(first.reader);
    drop(first.data);
    session.round();
    assert_eq!(session.connect(&mut pairs, 9).index, 1, "a handle exists");
    session.fin(9);
    session.round();
    drop(first.errors);
    session.round();
    let mut again = session.connect(&mut pairs, 13);
    assert_eq!(again.index, 0);
    again.answer.reply();
    session.data(15, b"fresh");
    assert_eq!(read(&mut again.reader).await.unwrap(), "fresh");
    write(&mut again.data, "out").await.unwrap();
    assert_eq!(session.round(), ["reply 15", "data 15 out"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_too_many_is_refused_alone() {
    let (mut session, mut pairs) = Session::ports();
    let mut held = Vec::new();
    for n in 0..MAX_PAIRS as u32 {
        held.push(session.connect(&mut pairs, 4 * n + 1));
    }
    session.open(1001, "error", "more");
    assert_eq!(session.round(), ["rst 1001 3"]);
    held.pop();
    session.round();
    session.rst(4 * 126 + 1);
    session.open(1003, "error", "more");
    assert_eq!(session.round(), ["reply 1003"]);
}

#[tokio::test(start_paused = true)]
async fn pairs_that_the_service_does_not_take_are_refused() {
    let (mut session, pairs) = Session::ports();
    session.open(1, "error", "0");
    session.open(3, "data", "0");
    assert_eq!(session.round(), ["reply 1"]);
    drop(pairs);
    assert_eq!(session.round(), ["rst 3 3", "fin 1"]);
    session.open(5, "error", "1");
    session.open(7, "data", "1");
    assert_eq!(session.round(), ["reply 5", "rst 7 3", "fin 5"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_number_of_all_ends_the_service() {
    let (mut session, mut pairs) = Session::ports();
    session.open(0x7fff_fffd, "error", "0");
    assert!(next(&mut pairs).is_none() && !is_over(&mut pairs));
    session.open(0x7fff_ffff, "data", "0");
    assert!(next(&mut pairs).is_some() && is_over(&mut pairs));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_reset_at_once_does_not_reach_the_service() {
    let (mut session, mut pairs) = Session::ports();
    for error in [1, 5] {
        let request = error.to_string();
        session.open(error, "error", &request);
        session.open(error + 2, "data", &request);
        session.fin(error);
        session.rst(error + 2);
        let expected = [format!("reply {error}"), format!("fin {error}")];
        assert_eq!(session.round(), expected);
        assert!(next(&mut pairs).is_none());
    }
    // Nor does one that the service was not polled for until it was too late.
    session.open(9, "error", "9");
    session.open(11, "data", "9");
    session.fin(9);
    assert_eq!(session.expire().await, None);
    let expected = ["reply 9", "reply 11", "rst 11 5", "fin 9"];
    assert_eq!(session.round(), expected);
    assert!(next(&mut pairs).is_none() && session.mux.next_due().is_none());
    // Their channels are free again. The end of an error stream alone ends no connection.
    session.open(13, "error", "13");
    session.open(15, "data", "13");
    session.rst(13);
    assert_eq!(next(&mut pairs).unwrap().index, 0);
}
