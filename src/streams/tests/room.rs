//! Data that is not read, and answers that do not leave.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt,
    time::{Instant, advance},
};

use super::session::{RESERVE, Session, WINDOW, control, data_frame, read};
use crate::{
    ChannelReader,
    error::EndCause,
    streams::{NewPair, NewPairs},
    wire::{CHUNK, End, StallReserve, TotalReserve},
};

/// Returns a connection that was answered.
fn answered(session: &mut Session, pairs: &mut NewPairs, error: u32) -> NewPair {
    session.round();
    let mut pair = session.connect(pairs, error);
    pair.answer.reply();
    pair
}

/// The most that a connection takes without being read.
const MOST: usize = WINDOW + RESERVE;

#[tokio::test(start_paused = true)]
async fn an_unread_upload_takes_the_reserve_at_once_and_then_pauses() {
    let (mut session, mut pairs) = Session::ports();
    let mut stalled = answered(&mut session, &mut pairs, 1);
    let mut other = answered(&mut session, &mut pairs, 5);
    session.data(3, &vec![7; MOST - 1]);
    session.data(7, b"still heard");
    assert_eq!(read(&mut other.reader).await.unwrap(), "still heard");
    let frame = data_frame(3, true, b"more");
    assert_eq!(session.feed_some(&frame), 8 + 1, "the head needs no room");
    assert!(!session.mux.waits_for_output());
    assert!(!session.mux.extend(), "the share of the session is used up");
    session.is_driver_due();
    let mut got = vec![0; CHUNK - 1];
    stalled.reader.read_exact(&mut got).await.unwrap();
    assert!(!session.is_driver_due(), "a chunk is not empty yet");
    stalled.reader.read_exact(&mut got[..1]).await.unwrap();
    assert!(session.is_driver_due(), "its loan can be lent again");
    session.feed(&frame[8 + 1..]);
    stalled.reader.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len() + 1, MOST - 1 + 4);
}

#[tokio::test(start_paused = true)]
async fn most_of_the_reserve_of_all_sessions_is_lent_only_in_a_pause() {
    let total = TotalReserve::new(8 * RESERVE);
    let (mut session, mut pairs) = Session::ports_with(StallReserve::new(RESERVE, &total), None);
    let _stalled = answered(&mut session, &mut pairs, 1);
    let upload = data_frame(3, false, &vec![7; MOST]);
    let mut fed = session.feed_some(&upload);
    assert_eq!(fed, 8 + WINDOW + RESERVE / 2);
    while session.mux.extend() {
        assert!(session.mux.poll_room().is_ready());
        fed += session.feed_some(&upload[fed..][..CHUNK]);
    }
    assert_eq!(fed, 8 + WINDOW + 3 * RESERVE / 4);
    let command = StallReserve::new(RESERVE, &total);
    assert!(command.take(7 * RESERVE / 8), "the quarter, and more");
}

#[tokio::test(start_paused = true)]
async fn connections_share_the_reserve_of_their_session() {
    let (mut session, mut pairs) = Session::ports();
    let mut one = answered(&mut session, &mut pairs, 1);
    let other = answered(&mut session, &mut pairs, 5);
    session.data(3, &vec![7; MOST]);
    session.data(7, &vec![7; WINDOW]);
    let rest = data_frame(7, false, &vec![7; 2 * CHUNK]);
    assert_eq!(session.feed_some(&rest), 8);
    session.is_driver_due();
    // The driver waits at the one, and the other gives back.
    one.reader.read_exact(&mut vec![0; CHUNK]).await.unwrap();
    assert!(session.is_driver_due());
    assert_eq!(session.feed_some(&rest[8..]), CHUNK);
    drop(one.reader);
    assert!(session.is_driver_due());
    session.feed(&rest[8 + CHUNK..]);
    // All of it goes back with the readers.
    drop(other.reader);
    let _again = answered(&mut session, &mut pairs, 9);
    session.data(11, &vec![7; MOST]);
}

/// All data of a command is for one service, which a fast upload would be kept in memory for.
#[tokio::test(start_paused = true)]
async fn the_input_of_a_command_takes_the_reserve_only_in_a_pause() {
    let mut session = Session::command();
    let _stdin = ChannelReader::new(Arc::clone(&session.wire), 0);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        session.syn(stream, &[("streamtype", kind)]);
    }
    let input = data_frame(3, false, &vec![7; MOST]);
    assert_eq!(session.feed_some(&input), 8 + WINDOW);
    assert!(session.mux.extend() && session.mux.poll_room().is_ready());
}

/// The time after which a connection that is not read is reset.
const STALL: Duration = Duration::from_secs(30);

/// Returns a session that does not wait for connections, and the reserve of all sessions.
fn impatient() -> (Session, NewPairs, Arc<TotalReserve>) {
    let total = TotalReserve::new(16 * RESERVE);
    let reserve = StallReserve::new(RESERVE, &total);
    let (session, pairs) = Session::ports_with(reserve, Some(STALL));
    (session, pairs, total)
}

/// Returns whether no session has any of the reserve.
fn is_whole(total: &Arc<TotalReserve>) -> bool {
    StallReserve::new(2 * RESERVE, total).take(2 * RESERVE)
}

/// Returns a connection of a session that does not wait for it, and which is paused at its data.
async fn paused_at(frame: &[u8]) -> (Session, NewPairs, NewPair) {
    let (mut session, mut pairs, _) = impatient();
    let pair = answered(&mut session, &mut pairs, 1);
    assert_eq!(session.round(), ["reply 3"]);
    assert!(session.feed_some(frame) < frame.len());
    (session, pairs, pair)
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_reset_gives_the_reserve_back() {
    let upload = data_frame(3, false, &vec![7; 2 * MOST]);
    let (mut session, mut pairs, mut stalled) = paused_at(&upload).await;
    assert_eq!(session.expire().await, None);
    assert_eq!(session.round(), ["rst 3 5"]);
    // The service has not noticed it yet, and the rest of the frame is discarded.
    session.feed(&upload[8 + MOST..]);
    let _next = answered(&mut session, &mut pairs, 5);
    session.data(7, &vec![7; MOST]);
    let error = read(&mut stalled.reader).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_piece_that_was_begun_counts_as_unread_and_can_be_read() {
    let upload = data_frame(3, false, &vec![7; 2 * MOST]);
    let (mut session, _pairs, mut begun) = paused_at(&upload).await;
    let mut most = vec![0; CHUNK - 1];
    begun.reader.read_exact(&mut most).await.unwrap();
    assert_eq!(session.expire().await, None);
    assert_eq!(session.round(), ["rst 3 5"]);
    assert_eq!(begun.reader.read_u8().await.unwrap(), 7);
    let error = begun.reader.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_read_slowly_is_not_reset() {
    let upload = data_frame(3, false, &vec![7; 2 * MOST]);
    let (mut session, _pairs, mut slow) = paused_at(&upload).await;
    let mut last = Instant::now();
    for _ in 0..3 {
        advance(STALL / 2).await;
        // The reserve may be lent to another session before the driver gets here.
        slow.reader.read_exact(&mut vec![0; CHUNK]).await.unwrap();
        last = Instant::now();
        assert_eq!(session.expire().await, None);
        assert!(session.round().is_empty());
    }
    assert_eq!(session.expire().await, None);
    assert_eq!(last.elapsed(), STALL);
    assert_eq!(session.round(), ["rst 3 5"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_lent_has_to_be_read_although_nothing_more_arrives() {
    type Act = fn(&mut Session);
    let ends: [(Act, &[&str]); 4] = [
        (|_| {}, &["rst 3 5"]),
        (|session| session.fin(3), &["rst 3 5"]),
        (|session| session.rst(3), &["fin 1"]),
        (
            |session| session.mux.end_all(&End::Error(EndCause::Aborted)),
            &["rst 3 5"],
        ),
    ];
    for (end, expected) in ends {
        let (mut session, mut pairs, total) = impatient();
        let mut unread = answered(&mut session, &mut pairs, 1);
        assert_eq!(session.round(), ["reply 3"]);
        session.data(3, &vec![7; MOST]);
        end(&mut session);
        session.round();
        assert!(session.mux.poll_room().is_ready() && !is_whole(&total));
        let before = Instant::now();
        while !is_whole(&total) {
            assert_eq!(session.expire().await, None);
        }
        assert_eq!(before.elapsed(), STALL);
        assert_eq!(session.round(), expected);
        read(&mut unread.reader).await.expect_err("data is missing");
    }
}

#[tokio::test(start_paused = true)]
async fn data_of_one_connection_does_not_put_off_the_deadline_of_another() {
    let (mut session, mut pairs, total) = impatient();
    let _pairs = [1, 5].map(|error| answered(&mut session, &mut pairs, error));
    session.round();
    let mut resets = Vec::new();
    for n in 0..10 {
        session.data([3, 7][n % 2], &vec![7; WINDOW]);
        advance(STALL / 6).await;
        assert_eq!(session.mux.expire(Instant::now()), None);
        resets.extend(session.round());
    }
    resets.retain(|line| line.starts_with("rst"));
    assert_eq!(resets, ["rst 3 5", "rst 7 5"]);
    assert!(is_whole(&total));
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_inherit_the_deadline_of_its_channel() {
    let (mut session, mut pairs, _total) = impatient();
    let pair = answered(&mut session, &mut pairs, 1);
    session.data(3, &vec![7; MOST]);
    session.rst(3);
    session.rst(1);
    drop(pair);
    advance(STALL - Duration::from_secs(1)).await;
    let next = answered(&mut session, &mut pairs, 5);
    assert_eq!(next.reader.id(), 0);
    session.data(7, &vec![7; MOST]);
    session.round();
    let before = Instant::now();
    while session.round() != ["rst 7 5"] {
        assert_eq!(session.expire().await, None);
    }
    assert_eq!(before.elapsed(), STALL);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_connection_begins_anew_with_each_read() {
    let (mut session, mut pairs, _total) = impatient();
    let mut pair = answered(&mut session, &mut pairs, 1);
    session.data(3, &vec![7; MOST]);
    session.round();
    advance(STALL / 10).await;
    pair.reader.read_exact(&mut vec![0; CHUNK]).await.unwrap();
    let before = Instant::now();
    while session.round() != ["rst 3 5"] {
        assert_eq!(session.expire().await, None);
    }
    assert_eq!(before.elapsed(), STALL);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_read_in_time_stays() {
    let (mut session, mut pairs, total) = impatient();
    let mut pair = answered(&mut session, &mut pairs, 1);
    session.data(3, &vec![7; MOST]);
    session.round();
    pair.reader.read_exact(&mut vec![0; RESERVE]).await.unwrap();
    assert!(is_whole(&total), "its window is full as before");
    assert_eq!(session.expire().await, None);
    assert!(session.round().is_empty());
    assert_eq!(session.mux.next_due(), None);
    pair.reader.read_exact(&mut vec![0; WINDOW]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn data_for_a_dropped_reader_is_discarded() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    drop(pair.reader);
    for _ in 0..10 {
        session.data(3, &vec![7; WINDOW]);
    }
    assert_eq!(session.round(), ["reply 3"]);
}

#[tokio::test(start_paused = true)]
async fn answers_that_do_not_leave_pause_reading() {
    let (mut session, _pairs) = Session::ports();
    session.unanswered = Some(Vec::new());
    let pings: Vec<u8> = (0..2_000_u32)
        .flat_map(|n| control(6, &(2 * n + 1).to_be_bytes()))
        .collect();
    let taken = session.mux.decode(&pings).unwrap();
    assert!(taken < pings.len());
    assert!(session.mux.poll_room().is_pending() && session.mux.waits_for_output());
    assert!(!session.mux.extend(), "the reserve is for readers");
    // As the driver does when reading pauses, because it sees no answers then.
    session.wire.outbound.pause_pacing(true);
    assert_eq!(session.round().len() * 12, taken);
    assert!(session.mux.poll_room().is_ready());
    session.feed(&pings[taken..]);
    assert_eq!(session.round().len() * 12, pings.len() - taken);
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_connection_the_rest_is_taken_without_room() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, &vec![7; WINDOW]);
    session.mux.take_regardless();
    session.data(3, b"rest");
    session.mux.end_all(&End::Error(EndCause::Aborted));
    let mut got = Vec::new();
    assert!(pair.reader.read_to_end(&mut got).await.is_err());
    assert_eq!(got.len(), WINDOW + 4);
}
