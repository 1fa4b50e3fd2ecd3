//! The end of a session.

use super::session::{Session, WINDOW, control, is_over, read};
use crate::{error::EndCause, wire::End};

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_new_streams_and_ends_the_service() {
    let (mut session, mut pairs) = Session::ports();
    let pair = session.connect(&mut pairs, 1);
    session.peer.end_all(&End::Error(EndCause::Drained));
    assert!(is_over(&mut pairs));
    session.open(5, "error", "1");
    assert_eq!(session.round(), ["rst 5 3"]);
    pair.answer.finish();
    assert_eq!(session.round(), ["fin 1", "reply 3", "fin 3"]);
}

#[tokio::test(start_paused = true)]
async fn pings_are_echoed_in_order() {
    let (mut session, _pairs) = Session::ports();
    for id in [1_u32, 3, 4, 5] {
        session.feed(&control(6, &id.to_be_bytes()));
    }
    assert_eq!(session.round(), ["ping 1", "ping 3", "ping 5"]);
    assert_eq!(session.peer.take_heard().pong, None, "not one of ours");
}

#[tokio::test(start_paused = true)]
async fn a_failed_session_resets_its_streams() {
    let (mut session, mut pairs) = Session::ports();
    let mut answered = session.connect(&mut pairs, 1);
    answered.answer.reply();
    let _new = session.connect_more(&mut pairs, 5);
    session.peer.end_streams(true);
    let expected = ["rst 7 6", "rst 5 6", "rst 3 6", "rst 1 6"];
    assert_eq!(session.round(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_end_in_order_ends_every_stream() {
    let (mut session, mut pairs) = Session::ports();
    let mut answered = session.connect(&mut pairs, 1);
    answered.answer.reply();
    let _new = session.connect_more(&mut pairs, 5);
    session.peer.end_all(&End::Error(EndCause::Drained));
    assert!(read(&mut answered.reader).await.is_err());
    session.peer.end_streams(false);
    assert_eq!(session.round(), ["rst 7 3", "fin 5", "fin 3", "fin 1"]);
    // Data that still comes is discarded, and a breach of the protocol is one.
    session.data(3, &vec![0; 2 * WINDOW]);
    assert!(session.peer.decode(&[0x80, 2, 0, 0, 0, 0, 0, 0]).is_err());
}
