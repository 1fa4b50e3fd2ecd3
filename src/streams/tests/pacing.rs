//! A client in which data stands still, because it is not read.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::advance;

use super::session::{Session, control, next, write};
use crate::{
    error::EndCause,
    streams::{NewPair, NewPairs},
    wire::End,
};

/// Returns a session whose client does not read stream 3, so that it answers no PINGs, and opens
/// streams of the same queue and of another one.
async fn standing_still() -> (Session, NewPairs, NewPair) {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.round();
    session.unanswered = Some(Vec::new());
    while write(&mut pair.data, "x").now_or_never().is_some() {
        session.round();
    }
    for stream in [13, 15, 23] {
        session.open(stream, "error", &stream.to_string());
    }
    assert_eq!(session.round(), ["reply 15"]);
    (session, pairs, pair)
}

#[tokio::test(start_paused = true)]
async fn a_stream_behind_unread_data_is_opened_when_that_was_read() {
    let (mut session, _pairs, _pair) = standing_still().await;
    advance(Duration::from_secs(20)).await;
    session.open(33, "error", "33");
    session.open(43, "error", "43");
    session.rst(43);
    assert!(session.round().is_empty());
    // The client has given up those that are older than 25 s.
    advance(Duration::from_secs(10)).await;
    for id in session.unanswered.take().unwrap() {
        session.feed(&control(6, &id.to_be_bytes()));
    }
    assert_eq!(session.round(), ["reply 33"]);
}

#[tokio::test(start_paused = true)]
async fn a_postponed_stream_takes_its_place_among_later_ones() {
    let (mut session, mut pairs, _pair) = standing_still().await;
    // What comes for a stream that was not opened is not kept.
    session.data(23, b"early");
    assert_eq!(session.round(), ["rst 23 3"]);
    advance(Duration::from_secs(11)).await;
    let mut sent = Vec::new();
    for id in session.unanswered.take().unwrap() {
        session.feed(&control(6, &id.to_be_bytes()));
        sent.extend(session.round());
    }
    assert_eq!(sent, ["reply 13"]);
    // Each is found under its own number.
    session.open(25, "data", "13");
    assert_eq!(next(&mut pairs).unwrap().port, 80);
    session.rst(13);
    session.rst(25);
    assert!(session.round().iter().all(|frame| !frame.contains("reply")));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_postpones_no_stream() {
    let (mut session, _pairs, _pair) = standing_still().await;
    session.mux.end_all(&End::Error(EndCause::Drained));
    for stream in (33..30_000).step_by(10) {
        session.open(stream, "error", "late");
        session.data(stream, b"x");
    }
    let queued = session.wire.outbound.queued_frames();
    assert!((16 * 1024..17 * 1024).contains(&queued), "{queued}");
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_our_ping_confirms_what_was_sent_before() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    write(&mut pair.data, "hello").await.unwrap();
    session.wire.outbound.ping();
    session.mux.take_heard();
    // Its PING is answered here.
    assert_eq!(session.round(), ["reply 3", "data 3 hello"]);
    let heard = session.mux.take_heard();
    assert!(!heard.data, "an answer keeps no session from being idle");
    assert_eq!(heard.pong, Some(session.wire.outbound.sent() - 12));
}
