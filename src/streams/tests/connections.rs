//! A connection, from its two streams to its end.

use std::{
    io,
    pin::Pin,
    task::{Context, Waker},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    time::{Instant, advance},
};

use super::session::{Session, data_frame, is_over, next, read, write};
use crate::{error::EndCause, spdy::fixture};

#[tokio::test(start_paused = true)]
async fn the_recorded_session() {
    for cut in [1, 3, 8, 1000] {
        let (mut session, mut pairs) = Session::ports();
        let mut sent = Vec::new();
        let mut held = Vec::new();
        for piece in fixture::up().chunks(cut) {
            session.feed(piece);
            while let Some(mut pair) = next(&mut pairs) {
                assert_eq!(pair.port, 9000);
                pair.answer.reply();
                held.push(pair);
            }
            sent.extend(session.round());
        }
        let expected = ["reply 1", "reply 3", "reply 5", "reply 7", "ping 1"];
        let mut sorted = sent.clone();
        sorted.sort();
        assert_eq!(sent.len(), expected.len(), "{cut}");
        assert!(
            expected
                .iter()
                .all(|line| sorted.contains(&String::from(*line)))
        );
        let mut got = Vec::new();
        for pair in &mut held {
            pair.reader.read_to_end(&mut got).await.unwrap();
        }
        assert!(
            got.starts_with(b"GET /hi HTTP/1.1\r\n") && got.ends_with(b"GET /slow HTTP/1.1\r\n")
        );
        let heard = session.mux.take_heard();
        assert!(heard.data && matches!(heard.close, Some(EndCause::PeerClosed { code: None, .. })));
        assert!(is_over(&mut pairs));
        held.into_iter().for_each(|pair| pair.answer.finish());
        assert_eq!(session.round(), ["fin 1", "fin 3", "fin 5", "fin 7"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_from_its_reply_to_its_end() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    session.fin(1);
    assert_eq!((pair.port, pair.index), (80, 0));
    assert!(session.round().is_empty(), "the service has not decided");
    assert!(!pair.answer.is_touched());
    assert!(read(&mut pair.reader).await.is_err(), "it is pending");
    pair.answer.reply();
    pair.answer.reply();
    write(&mut pair.data, "hello").await.unwrap();
    assert_eq!(session.round(), ["reply 3", "data 3 hello"]);
    session.data(3, b"request");
    assert_eq!(read(&mut pair.reader).await.unwrap(), "request");
    session.fin(3);
    assert_eq!(read(&mut pair.reader).await.unwrap(), "");
    write(&mut pair.data, "late").await.unwrap();
    pair.answer.finish();
    drop((pair.data, pair.reader, pair.errors));
    assert_eq!(session.round(), ["data 3 late", "fin 1", "fin 3"]);
    assert_eq!(session.mux.next_due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_has_touched_the_connection() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    let poll = Pin::new(&mut pair.reader).poll_read(
        &mut Context::from_waker(Waker::noop()),
        &mut ReadBuf::new(&mut [0; 1]),
    );
    assert!(poll.is_pending() && pair.answer.is_touched());
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_takes_the_place_of_the_reply() {
    let (mut session, mut pairs) = Session::ports();
    for (error, dropped) in [(1, false), (5, true)] {
        let pair = session.connect(&mut pairs, error);
        session.fin(error);
        if dropped {
            drop(pair);
        } else {
            drop((pair.reader, pair.data));
            pair.answer.refuse();
        }
        let data = error + 2;
        let expected = [format!("rst {data} 3"), format!("fin {error}")];
        assert_eq!(session.round(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_behind_the_reply_is_a_reset() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    assert_eq!(session.round(), ["reply 3"]);
    drop((pair.reader, pair.data));
    pair.answer.refuse();
    assert_eq!(session.round(), ["rst 3 5", "fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_text_goes_in_front_of_the_reset() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    pair.errors.send("the target is gone").await.unwrap();
    pair.answer.reset();
    let expected = ["reply 3", "data 1 the target is gone", "fin 1", "rst 3 5"];
    assert_eq!(session.round(), expected);
    // Nothing can be written from here on.
    assert!(write(&mut pair.data, "x").await.is_err());
    assert!(write(&mut pair.errors, "x").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reset_ends_both_directions_and_keeps_what_was_read() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, b"half");
    session.rst(3);
    assert_eq!(read(&mut pair.reader).await.unwrap(), "half");
    let error = read(&mut pair.reader).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let error = write(&mut pair.data, "x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    session.round();
    pair.answer.finish();
    assert_eq!(session.round(), ["fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn error_stream_ends_with_its_data_stream() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.fin(1);
    session.fin(3);
    drop(pair.data);
    assert_eq!(session.round(), ["reply 3", "fin 3"]);
    // The service runs on, and kubectl waits for the end of the error stream.
    let before = Instant::now();
    assert_eq!(session.expire().await, None);
    assert_eq!(before.elapsed(), Duration::from_millis(50));
    assert_eq!(session.round(), ["fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_pods_eof_is_passed_on_at_once() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, b"request");
    advance(Duration::from_millis(50)).await;
    pair.data.shutdown().await.unwrap_or_default();
    session.round();
    drop(pair.data);
    assert!(session.round().is_empty());
    assert_eq!(read(&mut pair.reader).await.unwrap(), "request");
}

#[tokio::test(start_paused = true)]
async fn an_upload_in_flight_delays_the_fin() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, b"some");
    drop(pair.data);
    assert_eq!(session.round(), ["reply 3"]);
    advance(Duration::from_millis(40)).await;
    // The rest of a frame counts like its beginning.
    session.feed(&data_frame(3, false, &[b'.'; 10])[..12]);
    assert_eq!(session.expire().await, None);
    assert!(session.round().is_empty(), "the upload goes on");
    session.feed(&[b'.'; 6]);
    assert_eq!(session.expire().await, None);
    assert_eq!(session.round(), ["fin 3", "fin 1"]);
    assert_eq!(read(&mut pair.reader).await.unwrap(), "some..........");
    // Without a reader, there is nothing to wait for.
    let mut pair = session.connect(&mut pairs, 5);
    pair.answer.reply();
    session.data(7, b"some");
    drop((pair.data, pair.reader));
    assert_eq!(session.round(), ["reply 7", "fin 7", "fin 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_not_answered_is_given_up() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    let before = Instant::now();
    assert_eq!(session.expire().await, None);
    assert_eq!(before.elapsed(), Duration::from_secs(25));
    assert_eq!(session.round(), ["reply 3", "rst 3 5"]);
    pair.answer.reply();
    assert!(write(&mut pair.data, "hello").await.is_err());
    let error = read(&mut pair.reader).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(session.round(), ["fin 1"]);
}

/// A Go client that has given up a stream hangs on a reset of it without a reply, and on data.
#[tokio::test(start_paused = true)]
async fn no_reset_in_place_of_a_late_reply() {
    let (mut session, mut pairs) = Session::ports();
    let pair = session.connect(&mut pairs, 1);
    advance(Duration::from_secs(25)).await;
    drop(pair);
    assert_eq!(session.round(), ["reply 3", "rst 3 5", "fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn no_reset_in_place_of_a_reply_that_may_come_late() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.round();
    // Its data stream is in the queue of stream 3, whose reader stands still.
    let other = session.connect(&mut pairs, 11);
    session.unanswered = Some(Vec::new());
    while write(&mut pair.data, "x").now_or_never().is_some() {
        session.round();
    }
    other.answer.refuse();
    assert_eq!(session.round(), ["reply 13", "rst 13 5", "fin 11"]);
}

#[tokio::test(start_paused = true)]
async fn no_data_behind_a_late_reply() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    advance(Duration::from_secs(25)).await;
    pair.answer.reply();
    assert!(write(&mut pair.data, "hello").await.is_err());
    assert_eq!(session.round(), ["fin 1", "reply 3", "rst 3 5"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_fails_at_the_end_of_its_connection() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.unanswered = Some(Vec::new());
    let mut data = pair.data;
    let writer = tokio::spawn(async move {
        loop {
            if let Err(error) = data.write_all(b"x").await {
                return error.kind();
            }
        }
    });
    tokio::task::yield_now().await;
    assert!(!writer.is_finished());
    pair.answer.finish();
    session.round();
    assert_eq!(writer.await.unwrap(), io::ErrorKind::BrokenPipe);
}
