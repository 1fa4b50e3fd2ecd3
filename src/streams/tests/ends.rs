//! The end of a session.

use super::session::{Session, WINDOW, control, is_over, read, syn};
use crate::{error::EndCause, wire::End};

#[tokio::test(start_paused = true)]
async fn a_drain_refuses_new_streams_and_ends_the_service() {
    let (mut session, mut pairs) = Session::ports();
    let pair = session.connect(&mut pairs, 1);
    session.mux.end_all(&End::Error(EndCause::Drained));
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
    assert_eq!(session.mux.take_heard().pong, None, "not one of ours");
}

#[tokio::test(start_paused = true)]
async fn a_failed_session_resets_its_streams() {
    let (mut session, mut pairs) = Session::ports();
    let mut answered = session.connect(&mut pairs, 1);
    answered.answer.reply();
    let _new = session.connect_more(&mut pairs, 5);
    session.mux.end_streams(true);
    let expected = ["rst 7 6", "rst 5 6", "rst 3 6", "rst 1 6"];
    assert_eq!(session.round(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_end_in_order_carries_out_what_was_decided_before() {
    let (mut session, mut pairs) = Session::ports();
    let mut dropped = session.connect(&mut pairs, 1);
    dropped.answer.reply();
    let mut answered = session.connect_more(&mut pairs, 5);
    session.round();
    answered.answer.reply();
    drop(dropped);
    session.mux.end_streams(false);
    let sent = session.round();
    let expected = ["reply 7", "fin 1", "rst 3 5", "fin 5", "fin 7"];
    let mut sorted = sent.clone();
    sorted.sort_unstable_by_key(|line| expected.iter().position(|other| other == line));
    assert_eq!(sorted, expected, "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_in_order_ends_every_stream() {
    let (mut session, mut pairs) = Session::ports();
    let mut answered = session.connect(&mut pairs, 1);
    answered.answer.reply();
    let _new = session.connect_more(&mut pairs, 5);
    session.mux.end_all(&End::Error(EndCause::Drained));
    assert!(read(&mut answered.reader).await.is_err());
    session.mux.end_streams(false);
    assert_eq!(session.round(), ["rst 7 3", "fin 5", "fin 3", "fin 1"]);
    // Data that still comes is discarded, and a breach of the protocol is one.
    session.data(3, &vec![0; 2 * WINDOW]);
    assert!(session.mux.decode(&[0x80, 2, 0, 0, 0, 0, 0, 0]).is_err());
}

/// Until the service is done, a session that ends reads on, so that it sees the end of its peer.
#[tokio::test(start_paused = true)]
async fn answers_are_bounded_while_a_session_ends() {
    let (mut session, _pairs) = Session::ports();
    session.mux.end_all(&End::Error(EndCause::Drained));
    let mut frames: Vec<u8> = (0..4_000_u32)
        .flat_map(|n| control(6, &(2 * n + 1).to_be_bytes()))
        .collect();
    for n in 0..4_000 {
        frames.extend(syn(2 * n + 1, &[("streamtype", "data")], n == 0));
    }
    for piece in frames.chunks(16 * 1024) {
        session.feed(piece);
    }
    let queued = session.wire.outbound.queued_frames();
    assert!((16 * 1024..17 * 1024).contains(&queued), "{queued}");
    // As the driver does when reading pauses, because no answers to PINGs are seen then.
    session.wire.outbound.pause_pacing(true);
    assert!(!session.round().is_empty());
    session.feed(&control(6, &[0, 0, 0, 1]));
    session.feed(&syn(8_001, &[("streamtype", "data")], false));
    assert_eq!(session.round(), ["ping 1", "rst 8001 3"]);
}
