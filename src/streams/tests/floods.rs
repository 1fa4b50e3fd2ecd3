//! Peers that send more than they may.

use std::sync::Arc;

use super::session::{Session, control, data_frame, next, syn};
use crate::{
    ChannelReader,
    error::EndCause,
    spdy::{self, ResetStatus, fixture},
};

/// Feeds frames until the peer is told off, and returns their number.
fn flood(session: &mut Session, mut frame: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for n in 0..100_000 {
        let frame = frame(n);
        match session.mux.decode(&frame) {
            Ok(taken) => assert_eq!(taken, frame.len()),
            Err(EndCause::ProtocolError { .. }) => return n,
            Err(other) => panic!("{other:?}"),
        }
        session.round();
    }
    panic!("the flood was never stopped");
}

#[tokio::test(start_paused = true)]
async fn floods_of_frames_that_move_nothing_are_stopped() {
    let floods: [&dyn Fn(u32) -> Vec<u8>; 7] = [
        &|n| control(6, &(2 * n + 1).to_be_bytes()),
        &|_| control(4, &[0; 4]),
        &|_| control(9, &[0; 8]),
        &|_| data_frame(9, false, b"x"),
        &|_| data_frame(9, false, b""),
        &|_| data_frame(9, true, b""),
        &|n| {
            let head = if n == 0 { "7801" } else { "" };
            let block = fixture::bytes(&format!("{head}000400fbff00000000000000ffff"));
            control(8, &[&[0, 0, 0, 1], &*block].concat())
        },
    ];
    for frame in floods {
        let (mut session, _pairs) = Session::ports();
        assert_eq!(flood(&mut session, frame), 10_000);
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_behind_an_end_moves_nothing() {
    let (mut session, mut pairs) = Session::ports();
    let _pair = session.connect(&mut pairs, 1);
    let frame = |_| data_frame(3, true, b"");
    assert_eq!(flood(&mut session, frame), 10_001);
}

/// `kubectl exec -i` goes on sending its stdin when the command has closed it, and does so even
/// behind the FIN with which it answers ours.
#[tokio::test(start_paused = true)]
async fn input_that_flows_on_is_no_flood() {
    let mut session = Session::command();
    let stdin = ChannelReader::new(Arc::clone(&session.wire), 0);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        session.syn(stream, &[("streamtype", kind)]);
    }
    drop(stdin);
    session.round();
    let before = session.mux.ignored();
    session.fin(3);
    for _ in 0..20_000 {
        session.data(3, b"input");
    }
    assert_eq!(session.mux.ignored() - before, 20_000);
}

#[tokio::test(start_paused = true)]
async fn rapid_resets_are_stopped() {
    let (mut session, mut pairs) = Session::ports();
    let stopped = flood(&mut session, |n| {
        let id = 4 * n + 1;
        let request = n.to_string();
        let fields = |kind| {
            [
                ("streamtype", kind),
                ("port", "80"),
                ("requestid", &*request),
            ]
        };
        let mut frames = syn(id, &fields("error"), n == 0);
        frames.extend(syn(id + 2, &fields("data"), false));
        for stream in [id, id + 2] {
            spdy::rst_stream(&mut frames, stream, ResetStatus::Cancel);
        }
        assert!(next(&mut pairs).is_none(), "they were reset before");
        frames
    });
    assert_eq!(stopped, 500);
}

/// kubectl resets a stream that this end has ended before: it is how it closes a connection.
#[tokio::test(start_paused = true)]
async fn a_reset_behind_our_end_is_no_flood() {
    let (mut session, mut pairs) = Session::ports();
    for n in 0..3_000 {
        let mut pair = session.connect(&mut pairs, 4 * n + 1);
        session.fin(4 * n + 1);
        pair.answer.reply();
        pair.answer.finish();
        drop((pair.reader, pair.data, pair.errors));
        session.round();
        session.rst(4 * n + 3);
    }
}
