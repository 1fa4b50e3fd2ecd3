//! Sessions over in-memory streams at a hub without a process.

use std::{future::pending, io, os::unix::process::ExitStatusExt, sync::Arc};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, duplex},
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tower_wsstream::{BoxError, EndCause, remotecommand::ExitStatus};

use super::{End, LINES, Streams, drive, type_lines};
use crate::{
    hub::Hub,
    limit::{PAUSED, within},
    seat::{BACKLOG, Stream},
};

/// Less than a tick, so that every write has to wait.
const TINY: usize = 4;

/// The far end of a session.
struct Client {
    stdin: Option<DuplexStream>,
    stdout: DuplexStream,
    end: Option<oneshot::Sender<End>>,
    driving: JoinHandle<Result<ExitStatus, BoxError>>,
}

impl Client {
    fn attach(hub: &Arc<Hub>, input: &mpsc::Sender<Bytes>) -> Self {
        let (stdin, their_stdin) = duplex(TINY);
        let (stdout, their_stdout) = duplex(TINY);
        let (end, ended) = oneshot::channel();
        let streams = Streams {
            stdin: Some(BufReader::new(their_stdin)),
            stdout: Some(their_stdout),
            stderr: None,
        };
        let ended = async move {
            match ended.await {
                Ok(end) => end,
                Err(_) => pending().await,
            }
        };
        let driving = tokio::spawn(drive(hub.attach(), input.clone(), streams, ended));
        Self {
            stdin: Some(stdin),
            stdout,
            end: Some(end),
            driving,
        }
    }

    async fn type_in(&mut self, keys: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        within(PAUSED, stdin.write_all(keys.as_bytes()))
            .await
            .unwrap();
    }

    async fn hear(&mut self, expected: &str) {
        let mut heard = vec![0; expected.len()];
        within(PAUSED, self.stdout.read_exact(&mut heard))
            .await
            .unwrap();
        assert_eq!(str::from_utf8(&heard).unwrap(), expected);
    }

    fn end_session(&mut self, end: End) {
        self.end.take().unwrap().send(end).unwrap();
    }
}

fn hub() -> (Arc<Hub>, mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>) {
    let (input, lines) = mpsc::channel(1);
    (Arc::default(), input, lines)
}

/// Returns the pieces that are typed for an input.
async fn typed(from: impl tokio::io::AsyncBufRead + Unpin + Send + 'static) -> Vec<Bytes> {
    let (input, mut lines) = mpsc::channel(1);
    let typing = tokio::spawn(type_lines(from, input));
    let mut typed = Vec::new();
    while let Some(piece) = lines.recv().await {
        typed.push(piece);
    }
    typing.await.unwrap();
    typed
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_ends_alone() {
    let (hub, input, _lines) = hub();
    let mut stalled = Client::attach(&hub, &input);
    let mut reader = Client::attach(&hub, &input);
    let tick = "tick ".repeat(1000);
    for _ in 0..=BACKLOG / tick.len() + 1 {
        // `push` is not a future, so it cannot wait for anything.
        hub.push(Stream::Stdout, tick.as_bytes());
        reader.hear(&tick).await;
    }
    let lagged = within(PAUSED, stalled.driving).await.unwrap().unwrap_err();
    assert!(lagged.to_string().contains("too slowly"));
    // Earlier output is there.
    let mut heard = String::new();
    within(PAUSED, stalled.stdout.read_to_string(&mut heard))
        .await
        .unwrap();
    assert_eq!(heard, tick[..TINY]);
    hub.push(Stream::Stdout, b"tock");
    reader.hear("tock").await;
    reader.type_in("still here\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wants_no_output_never_lags() {
    let (hub, input, mut lines) = hub();
    let (mut stdin, their_stdin) = duplex(TINY);
    let streams = Streams::<_, DuplexStream> {
        stdin: Some(BufReader::new(their_stdin)),
        stdout: None,
        stderr: None,
    };
    let driving = tokio::spawn(drive(hub.attach(), input, streams, pending()));
    for number in 0..10 {
        hub.push(Stream::Stdout, &vec![b'x'; BACKLOG / 2]);
        hub.push(Stream::Stderr, &vec![b'x'; BACKLOG / 2]);
        stdin
            .write_all(format!("{number}\n").as_bytes())
            .await
            .unwrap();
        assert_eq!(
            within(PAUSED, lines.recv()).await.unwrap(),
            format!("{number}\n")
        );
    }
    assert!(!driving.is_finished());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_input_ends_neither_the_session_nor_the_input() {
    let (hub, input, mut lines) = hub();
    let mut first = Client::attach(&hub, &input);
    first.type_in("one\n").await;
    first.stdin = None;
    assert_eq!(within(PAUSED, lines.recv()).await.unwrap(), "one\n");
    hub.push(Stream::Stdout, b"tick");
    first.hear("tick").await;
    let mut second = Client::attach(&hub, &input);
    drop(input);
    second.type_in("two\n").await;
    assert_eq!(within(PAUSED, lines.recv()).await.unwrap(), "two\n");
}

#[tokio::test(start_paused = true)]
async fn lines_of_several_clients_stay_whole() {
    let (hub, input, mut lines) = hub();
    let (a, b) = ("a".repeat(5000), "b".repeat(5000));
    let clients = [&a, &b].map(|line| {
        let (hub, input, line) = (Arc::clone(&hub), input.clone(), format!("{line}\n"));
        tokio::spawn(async move {
            let mut client = Client::attach(&hub, &input);
            for _ in 0..20 {
                client.type_in(&line).await;
            }
            client
        })
    });
    let mut all = Vec::new();
    while all.len() < 2 * 20 * 5001 {
        all.extend(within(PAUSED, lines.recv()).await.unwrap());
    }
    let all = String::from_utf8(all).unwrap();
    assert!(all.lines().all(|line| line == a || line == b));
    assert_eq!(all.lines().filter(|line| *line == a).count(), 20);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_too_long_goes_in_pieces() {
    let line = "x".repeat(2 * LINES + 1) + "\nshort\n";
    let lengths = |pieces: &[Bytes]| pieces.iter().map(Bytes::len).collect::<Vec<_>>();
    let pieces = typed(BufReader::new(io::Cursor::new(line.clone()))).await;
    assert_eq!(lengths(&pieces), [LINES, LINES, "x\nshort\n".len()]);
    assert_eq!(pieces.concat(), line.as_bytes());
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_line_is_finished_at_the_end_of_the_input() {
    let pieces = typed(&b"one\ntwo"[..]).await;
    assert_eq!(pieces, ["one\n", "two\n"]);
    assert!(typed(&b""[..]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_cut_off_is_not_typed() {
    let from = tokio_test::io::Builder::new()
        .read(b"whole\nrm -r /tmp/x")
        .read_error(io::ErrorKind::ConnectionReset.into())
        .build();
    assert_eq!(typed(BufReader::new(from)).await, ["whole\n"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_takes_no_input_ends_no_session() {
    let (hub, input, lines) = hub();
    drop(lines);
    let mut client = Client::attach(&hub, &input);
    client.type_in("unread\n").await;
    hub.push(Stream::Stdout, b"tick");
    client.hear("tick").await;
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_process_is_told_after_its_output() {
    let (hub, input, _lines) = hub();
    let mut client = Client::attach(&hub, &input);
    hub.push(Stream::Stdout, b"the last words");
    hub.end(std::process::ExitStatus::from_raw(9));
    client.hear("the last words").await;
    assert_eq!(
        within(PAUSED, client.driving).await.unwrap().unwrap(),
        ExitStatus::from_code(137)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_leaves_at_once() {
    let (hub, input, _lines) = hub();
    let mut client = Client::attach(&hub, &input);
    // Neither a write nor an input that waits keeps it: one line is in the queue, one before it,
    // and one in the pipe.
    hub.push(Stream::Stdout, b"unread");
    client.type_in("one\ntwo\nabc\n").await;
    client.end_session(EndCause::Aborted.into());
    assert!(within(PAUSED, client.driving).await.unwrap().is_err());
}

/// A client that was told of a success takes that for the end of the process.
#[tokio::test(start_paused = true)]
async fn a_session_that_was_stopped_is_no_success() {
    for cause in [
        EndCause::Drained,
        EndCause::IdleTimeout,
        EndCause::TimeLimit,
    ] {
        let (hub, input, _lines) = hub();
        let mut client = Client::attach(&hub, &input);
        client.end_session(cause.clone().into());
        let error = within(PAUSED, client.driving).await.unwrap().unwrap_err();
        assert_eq!(EndCause::from_error(&*error), Some(&cause));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_has_said_all_and_leaves_has_not_failed() {
    let (hub, input, _lines) = hub();
    let mut client = Client::attach(&hub, &input);
    client.stdin = None;
    client.end_session(End::Closed("the client has left".into()));
    assert_eq!(
        within(PAUSED, client.driving).await.unwrap().unwrap(),
        ExitStatus::success()
    );
}

#[tokio::test(start_paused = true)]
async fn input_from_before_a_close_is_still_typed() {
    let (hub, input, mut lines) = hub();
    let mut client = Client::attach(&hub, &input);
    client.type_in("one\ntwo\n").await;
    client.end_session(End::Closed("the client has left".into()));
    client.type_in("abc\n").await;
    client.stdin = None;
    let mut all = Vec::new();
    while all.len() < "one\ntwo\nabc\n".len() {
        all.extend(within(PAUSED, lines.recv()).await.unwrap());
    }
    assert_eq!(all, b"one\ntwo\nabc\n");
    assert_eq!(
        within(PAUSED, client.driving).await.unwrap().unwrap(),
        ExitStatus::success()
    );
}
