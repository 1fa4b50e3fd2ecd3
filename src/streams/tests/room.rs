//! Data that is not read, and answers that do not leave.

use tokio::io::AsyncReadExt;

use super::session::{Session, WINDOW, control, data_frame, read};
use crate::{error::EndCause, wire::End};

#[tokio::test(start_paused = true)]
async fn full_readers_pause_at_their_data_alone() {
    let (mut session, mut pairs) = Session::ports();
    let mut stalled = session.connect(&mut pairs, 1);
    let mut other = session.connect(&mut pairs, 5);
    stalled.answer.reply();
    other.answer.reply();
    session.data(3, &vec![7; WINDOW]);
    session.data(7, b"still heard");
    assert_eq!(read(&mut other.reader).await.unwrap(), "still heard");
    let frame = data_frame(3, true, b"more");
    assert_eq!(session.peer.decode(&frame), Ok(8), "the head needs no room");
    assert!(session.peer.poll_room().is_pending());
    assert!(!session.peer.waits_for_output());
    assert!(session.peer.extend(), "a loan from the reserve");
    assert!(session.peer.poll_room().is_ready());
    assert_eq!(session.peer.decode(&frame[8..]), Ok(4));
    let mut got = Vec::new();
    stalled.reader.read_to_end(&mut got).await.unwrap();
    assert_eq!(got.len(), WINDOW + 4);
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
    let pings: Vec<u8> = (0..2_000_u32)
        .flat_map(|n| control(6, &(2 * n + 1).to_be_bytes()))
        .collect();
    let taken = session.peer.decode(&pings).unwrap();
    assert!(taken < pings.len());
    assert!(session.peer.poll_room().is_pending() && session.peer.waits_for_output());
    assert!(!session.peer.extend(), "the reserve is for readers");
    // As the driver does when reading pauses, because it sees no answers then.
    session.wire.outbound.pause_pacing(true);
    assert_eq!(session.round().len() * 12, taken);
    assert!(session.peer.poll_room().is_ready());
    session.feed(&pings[taken..]);
    assert_eq!(session.round().len() * 12, pings.len() - taken);
}

#[tokio::test(start_paused = true)]
async fn after_a_lost_connection_the_rest_is_taken_without_room() {
    let (mut session, mut pairs) = Session::ports();
    let mut pair = session.connect(&mut pairs, 1);
    pair.answer.reply();
    session.data(3, &vec![7; WINDOW]);
    session.peer.take_regardless();
    session.data(3, b"rest");
    session.peer.end_all(&End::Error(EndCause::Aborted));
    let mut got = Vec::new();
    assert!(pair.reader.read_to_end(&mut got).await.is_err());
    assert_eq!(got.len(), WINDOW + 4);
}
