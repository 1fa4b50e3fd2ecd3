//! The streams of a command.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::session::{Session, read, write};
use crate::{ChannelReader, ChannelWriter, error::EndCause, wire::Condition};

#[tokio::test(start_paused = true)]
async fn the_streams_of_a_command() {
    let mut session = Session::command();
    session.wire.outbound.wait_for(Condition::Streams);
    let [mut out, mut err] = [1, 2].map(|id| ChannelWriter::new(Arc::clone(&session.wire), id));
    let mut stdin = ChannelReader::new(Arc::clone(&session.wire), 0);
    for (stream, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr")] {
        assert!(!session.mux.is_complete());
        session.syn(stream, &[("streamtype", kind)]);
        assert_eq!(session.round(), [format!("reply {stream}")]);
    }
    assert!(session.mux.is_complete());
    assert_eq!(session.mux.next_due(), None);
    session.wire.outbound.accept(Condition::Streams);
    session.syn(9, &[("streamtype", "other")]);
    session.syn(11, &[("streamtype", "stdin")]);
    assert_eq!(session.round(), ["reply 9", "rst 11 5"]);
    session.data(9, b"ignored");
    session.data(5, b"ignored");
    assert_eq!(session.mux.ignored(), 2);
    session.data(3, b"input");
    session.fin(3);
    assert_eq!(read(&mut stdin).await.unwrap(), "input");
    assert_eq!(read(&mut stdin).await.unwrap(), "");
    write(&mut out, "out").await.unwrap();
    write(&mut err, "err").await.unwrap();
    drop((out, err));
    // The error stream ends last, whatever happens to its writer.
    drop(ChannelWriter::new(Arc::clone(&session.wire), 3));
    let expected = ["data 5 out", "data 7 err", "fin 5", "fin 7"];
    assert_eq!(session.round(), expected);
    drop(stdin);
    assert_eq!(session.round(), ["fin 3"]);
    session
        .wire
        .outbound
        .last_words(&EndCause::Completed, 3, "status".into());
    session.mux.end_streams(false);
    assert_eq!(session.round(), ["data 1 status", "fin 9", "fin 1"]);
}

#[tokio::test(start_paused = true)]
async fn streams_that_never_come_are_told() {
    let mut session = Session::command();
    session.syn(1, &[("streamtype", "error")]);
    let before = Instant::now();
    assert_eq!(session.expire().await, Some(EndCause::StreamsMissing));
    assert_eq!(before.elapsed(), Duration::from_secs(30));
    assert_eq!(session.mux.next_due(), None);
}
