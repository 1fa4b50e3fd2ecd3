//! Exec and attach over SPDY, with a client that opens its streams as client-go does.

mod words;

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::Sink;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::oneshot,
    time::{Instant, timeout},
};
use tower::ServiceBuilder;
use tower_wsstream::{
    AcceptMode, EndCause, SessionConfig,
    remotecommand::{
        ExitStatus, RemoteCommand, RemoteCommandLayer,
        channel::{ERROR, RESIZE, STDERR, STDIN, STDOUT},
    },
    session::SessionSummary,
    subprotocols::{CHANNEL, V2, V3, V4},
};

use super::*;
use crate::support::{
    HttpService, Random, assert_after, secs, soon,
    spdy::{Said, Spdy, data, fin, go_away, ping, reset},
};

/// The order in which client-go opens streams.
const ORDER: [(u8, &str); 5] = [
    (ERROR, "error"),
    (STDIN, "stdin"),
    (STDOUT, "stdout"),
    (STDERR, "stderr"),
    (RESIZE, "resize"),
];

/// Returns a service for commands that run a function.
fn serves<F, Fut>(config: SessionConfig, run: F) -> impl HttpService
where
    F: Fn(RemoteCommand) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<ExitStatus, BoxError>> + Send + 'static,
{
    ServiceBuilder::new()
        .layer(layer().config(config))
        .layer(RemoteCommandLayer::new())
        .service_fn(run)
}

/// The client of a command.
struct Client {
    spdy: Spdy<DuplexStream>,
    /// The streams by their channels, or 0.
    streams: [u32; 5],
}

/// Everything that a client receives.
#[derive(Debug, Default)]
struct Told {
    output: [Vec<u8>; 5],
    /// The channels in the order in which the server has ended them.
    ended: Vec<u8>,
    /// The channels that were reset.
    reset: Vec<u8>,
    go_away: Option<(u32, u32)>,
}

impl Told {
    fn text(&self, channel: u8) -> &str {
        std::str::from_utf8(&self.output[usize::from(channel)]).unwrap()
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.output[usize::from(ERROR)]).unwrap()
    }
}

impl Client {
    /// Opens a session for the query, and no stream.
    async fn connect(service: impl HttpService, query: &str, offer: &str) -> Self {
        let path = format!("/exec?command=x&{query}");
        Self {
            spdy: Spdy::post(service, &path, offer).await,
            streams: [0; 5],
        }
    }

    /// Opens the streams of these channels, each after the reply to the one before.
    async fn open(&mut self, channels: &[u8]) {
        for (channel, kind) in ORDER.iter().filter(|(id, _)| channels.contains(id)) {
            // The first one is 1.
            let stream = self.streams.iter().max().map_or(1, |last| (last + 1) | 1);
            self.streams[usize::from(*channel)] = stream;
            self.open_stream(stream, kind).await;
        }
    }

    /// Opens a stream, and awaits the reply.
    async fn open_stream(&mut self, stream: u32, kind: &str) {
        let syn = self.spdy.syn(stream, &[("streamtype", kind)]);
        self.spdy.bytes(&syn).await;
        assert_eq!(self.spdy.next().await, Some(Said::Reply(stream)));
    }

    /// Opens a session and all of its streams.
    async fn start(service: impl HttpService, query: &str, offer: &str, channels: &[u8]) -> Self {
        let mut client = Self::connect(service, query, offer).await;
        client.open(channels).await;
        client
    }

    fn stream(&self, channel: u8) -> u32 {
        self.streams[usize::from(channel)]
    }

    async fn send(&mut self, channel: u8, bytes: &[u8]) {
        let frame = data(self.stream(channel), bytes);
        self.spdy.bytes(&frame).await;
    }

    async fn fin(&mut self, channel: u8) {
        let frame = fin(self.stream(channel));
        self.spdy.bytes(&frame).await;
    }

    fn channel_of(&self, stream: u32) -> u8 {
        let found = self.streams.iter().position(|id| *id == stream);
        found.expect("a stream of ours") as u8
    }

    /// Reads up to the server's GOAWAY, or to the end of the connection.
    async fn read_to_end(&mut self) -> Told {
        let mut told = Told::default();
        while let Some(said) = self.spdy.next().await {
            match said {
                Said::Data(stream, bytes) => {
                    let channel = self.channel_of(stream);
                    assert!(!told.ended.contains(&channel), "data behind a FIN");
                    told.output[usize::from(channel)].extend_from_slice(&bytes);
                }
                Said::Fin(stream) => told.ended.push(self.channel_of(stream)),
                Said::Reset(stream, _) => told.reset.push(self.channel_of(stream)),
                Said::GoAway(last, status) => {
                    told.go_away = Some((last, status));
                    break;
                }
                said => panic!("{said:?} is not expected"),
            }
        }
        told
    }
}

/// Returns a configuration, and a receiver for the summary of its session.
fn watched() -> (SessionConfig, oneshot::Receiver<SessionSummary>) {
    let (sender, receiver) = oneshot::channel();
    let sender = Mutex::new(Some(sender));
    let config = SessionConfig::default().on_end(move |summary| {
        if let Some(sender) = sender.lock().unwrap().take() {
            let _ = sender.send(summary.clone());
        }
    });
    (config, receiver)
}

async fn exits_with_17(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let mut stdout = command.stdout.take().unwrap();
    stdout.write_all(b"out").await?;
    Ok(ExitStatus::from_code(17))
}

#[tokio::test(start_paused = true)]
async fn exit_code_17_behind_stdout() {
    let (config, summary) = watched();
    let service = serves(config, exits_with_17);
    let mut client = Client::start(service, "stdout=1", V4, &[ERROR, STDOUT]).await;
    let told = client.read_to_end().await;
    assert_eq!(told.text(STDOUT), "out");
    let status = told.status();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(status["details"]["causes"][0]["message"], "17");
    assert_eq!(told.ended, [STDOUT, ERROR], "the Status is last");
    assert_eq!((told.go_away, told.reset), (Some((3, 0)), vec![]));

    // The server waits for the client before it shuts its own side down: a proxy that copies bytes
    // would cut off what the client has not read yet.
    let waits = timeout(secs(29), client.spdy.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(client);
    let summary = soon(summary).await.unwrap();
    assert_eq!(summary.cause, EndCause::Completed);
    assert_eq!(summary.subprotocol, V4);
}

#[tokio::test(start_paused = true)]
async fn status_by_version() {
    for (version, expected) in [
        (
            V3,
            "command terminated with non-zero exit code: exit status 17",
        ),
        (
            V2,
            "command terminated with non-zero exit code: exit status 17",
        ),
        (
            CHANNEL,
            "command terminated with non-zero exit code: exit status 17",
        ),
    ] {
        let service = serves(SessionConfig::default(), exits_with_17);
        let mut client = Client::start(service, "stdout=1", version, &[ERROR, STDOUT]).await;
        let told = client.read_to_end().await;
        assert_eq!(told.text(ERROR), expected, "{version}");
        assert_eq!(told.ended, [STDOUT, ERROR], "{version}");
        assert_eq!(told.go_away, Some((3, 0)), "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn success_is_silent_before_v4() {
    for version in [V4, V3, V2, CHANNEL] {
        let service = serves(
            SessionConfig::default(),
            async |_| Ok(ExitStatus::success()),
        );
        let mut client = Client::start(service, "stdout=1", version, &[ERROR, STDOUT]).await;
        let told = client.read_to_end().await;
        match version {
            V4 => assert_eq!(told.status()["status"], "Success"),
            _ => assert_eq!(told.text(ERROR), "", "{version}"),
        }
        assert_eq!(told.ended, [STDOUT, ERROR], "{version}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_never_come_are_told() {
    let (config, summary) = watched();
    let started = Arc::new(AtomicUsize::new(0));
    let service = serves(config, {
        let started = Arc::clone(&started);
        move |_| {
            let started = Arc::clone(&started);
            async move {
                tokio::task::yield_now().await;
                started.fetch_add(1, Ordering::Relaxed);
                Ok(ExitStatus::success())
            }
        }
    });
    let start = Instant::now();
    let mut client = Client::connect(service, "stdin=1&stdout=1", V4).await;
    client.open(&[ERROR, STDOUT]).await;
    let told = client.read_to_end().await;
    assert_after(start, secs(30));
    assert_eq!(told.status()["reason"], "Timeout");
    assert!(told.ended.contains(&ERROR), "{told:?}");
    assert_eq!(told.go_away, Some((3, 0)));
    drop(client);
    assert_eq!(soon(summary).await.unwrap().cause, EndCause::StreamsMissing);
    assert_eq!(
        started.load(Ordering::Relaxed),
        0,
        "the command has started"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_before_all_streams() {
    let started = Arc::new(AtomicUsize::new(0));
    let service = serves(SessionConfig::default(), {
        let started = Arc::clone(&started);
        move |mut command: RemoteCommand| {
            let started = Arc::clone(&started);
            async move {
                // The first poll comes before the answer. A write waits even there.
                let _stdin = command.stdin.take();
                let stdout = command.stdout.as_mut().unwrap();
                stdout.write_all(b"early").await?;
                tokio::task::yield_now().await;
                started.fetch_add(1, Ordering::Relaxed);
                Ok(ExitStatus::success())
            }
        }
    });
    let mut client = Client::connect(service, "stdin=1&stdout=1", V4).await;
    for channel in [ERROR, STDIN] {
        client.open(&[channel]).await;
        let nothing = timeout(secs(5), client.spdy.next()).await;
        assert!(nothing.is_err(), "{nothing:?}");
        assert_eq!(started.load(Ordering::Relaxed), 0);
    }
    // A stream that nobody asked for is accepted, and is none of them.
    client.open_stream(5, "stderr").await;
    client.streams[usize::from(STDERR)] = 5;
    assert_eq!(started.load(Ordering::Relaxed), 0);
    client.open(&[STDOUT]).await;
    let told = client.read_to_end().await;
    assert_eq!(started.load(Ordering::Relaxed), 1);
    assert_eq!(told.text(STDOUT), "early");
    assert_eq!(told.go_away, Some((7, 0)));
}

async fn cat(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let mut stdin = command.stdin.take().unwrap();
    let mut stdout = command.stdout.take().unwrap();
    tokio::io::copy_buf(&mut stdin, &mut stdout).await?;
    Ok(ExitStatus::success())
}

const CAT: [u8; 3] = [ERROR, STDIN, STDOUT];

#[tokio::test(start_paused = true)]
async fn a_mebibyte_comes_back_and_the_end_of_stdin_ends_the_command() {
    let service = serves(SessionConfig::default(), cat);
    let mut client = Client::start(service, "stdin=1&stdout=1", V4, &CAT).await;
    let mut random = Random::of_seed(15);
    let sent: Vec<u8> = (0..1 << 20).map(|_| random.next(256) as u8).collect();
    let mut echo = Vec::new();
    for piece in sent.chunks(32 * 1024) {
        client.send(STDIN, piece).await;
        let expected = echo.len() + piece.len();
        while echo.len() < expected {
            match client.spdy.next().await {
                Some(Said::Data(_, bytes)) => echo.extend_from_slice(&bytes),
                said => panic!("{said:?} instead of the echo"),
            }
        }
    }
    assert!(echo == sent);
    client.fin(STDIN).await;
    let told = client.read_to_end().await;
    assert_eq!(told.status()["status"], "Success");
    assert!(told.ended.contains(&STDIN), "the client stops copying");
}

#[tokio::test(start_paused = true)]
async fn massive_output_waits_for_a_slow_client_and_is_complete() {
    const TOTAL: usize = 8 << 20;
    let written = Arc::new(AtomicUsize::new(0));
    let service = serves(SessionConfig::default(), {
        let written = Arc::clone(&written);
        move |mut command: RemoteCommand| {
            let written = Arc::clone(&written);
            async move {
                let mut stdout = command.stdout.take().unwrap();
                for n in 0..TOTAL / 1024 {
                    stdout.write_all(&[n as u8; 1024]).await?;
                    written.fetch_add(1024, Ordering::Relaxed);
                }
                Ok(ExitStatus::success())
            }
        }
    });
    let mut client = Client::start(service, "stdout=1", V4, &[ERROR, STDOUT]).await;
    tokio::time::sleep(secs(1)).await;
    let before = written.load(Ordering::Relaxed);
    assert!(
        before < TOTAL / 8,
        "{before} bytes for a client that does not read"
    );
    let told = client.read_to_end().await;
    let output = &told.output[usize::from(STDOUT)];
    assert_eq!(output.len(), TOTAL);
    let complete = output
        .chunks(1024)
        .enumerate()
        .all(|(n, piece)| piece == [n as u8; 1024]);
    assert!(complete);
    assert_eq!(told.status()["status"], "Success");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_dropped_ends_the_stream_and_input_is_discarded() {
    let service = serves(
        SessionConfig::default(),
        async |mut command: RemoteCommand| {
            tokio::task::yield_now().await;
            drop(command.stdin.take());
            command.session.ended().await;
            Ok(ExitStatus::success())
        },
    );
    let mut client = Client::start(service, "stdin=1&stdout=1", V4, &CAT).await;
    let stdin = client.stream(STDIN);
    assert_eq!(client.spdy.next().await, Some(Said::Fin(stdin)));
    // More than any window.
    for _ in 0..64 {
        client.send(STDIN, &[0; 32 * 1024]).await;
    }
    client.spdy.bytes(&ping(1)).await;
    assert_eq!(client.spdy.next().await, Some(Said::Ping(1)));
}

#[tokio::test(start_paused = true)]
async fn sizes_come_on_their_own_stream() {
    let sizes = |version: &'static str, channels: &'static [u8]| async move {
        let service = serves(
            SessionConfig::default(),
            async |mut command: RemoteCommand| {
                // From here on, all streams are open.
                tokio::task::yield_now().await;
                let mut stdout = command.stdout.take().unwrap();
                let Some(mut resize) = command.resize.take() else {
                    stdout.write_all(b"none").await?;
                    return Ok(ExitStatus::success());
                };
                while let Some(size) = resize.next().await {
                    let text = format!("{}x{} ", size.width, size.height);
                    stdout.write_all(text.as_bytes()).await?;
                }
                Ok(ExitStatus::success())
            },
        );
        let mut client = Client::start(service, "stdin=1&stdout=1&tty=1", version, channels).await;
        if channels.contains(&RESIZE) {
            client.send(RESIZE, b"{\"Width\":80,\"Height\":24}\n").await;
            client
                .send(RESIZE, b"{\"Width\":0,\"Height\":0}\n{\"Width\":1")
                .await;
            client.send(RESIZE, b"00,\"Height\":30}\n").await;
            client.fin(RESIZE).await;
        }
        client.read_to_end().await.text(STDOUT).to_owned()
    };
    let all = &[ERROR, STDIN, STDOUT, RESIZE];
    for version in [V4, V3] {
        assert!(sizes(version, all).await.ends_with("100x30 "), "{version}");
    }
    // Older clients open no stream for sizes, and are not waited for.
    for version in [V2, CHANNEL] {
        assert_eq!(sizes(version, &CAT).await, "none", "{version}");
    }
}

/// Sizes hold nothing up, whether there are any and whether they are read.
#[tokio::test(start_paused = true)]
async fn the_reader_of_sizes_ends_with_its_client() {
    for (sent, read) in [(true, true), (true, false), (false, true), (false, false)] {
        let (config, summary) = watched();
        let service = serves(config, move |command: RemoteCommand| async move {
            let mut command = command;
            tokio::task::yield_now().await;
            let mut resize = command.resize.take().unwrap();
            if !read {
                command.session.ended().await;
            }
            while let Some(size) = resize.next().await {
                assert_eq!((size.width, size.height), (80, 24));
            }
            Ok(ExitStatus::success())
        });
        let before = tasks();
        let all = &[ERROR, STDIN, STDOUT, RESIZE];
        let query = "stdin=1&stdout=1&tty=1";
        let mut client = Client::start(service, query, V4, all).await;
        if sent {
            client.send(RESIZE, b"{\"Width\":80,\"Height\":24}\n").await;
        }
        drop(client);
        let start = Instant::now();
        let cause = soon(summary).await.unwrap().cause;
        assert!(
            matches!(cause, EndCause::ConnectionLost { .. }),
            "{cause:?}"
        );
        tokio::task::yield_now().await;
        assert!(tasks() <= before, "a task is left");
        assert!(start.elapsed() < secs(1));
    }
}

/// An empty message would be an empty frame, which means nothing on a stream. A sink takes one
/// without waiting, even before the streams are open.
#[tokio::test(start_paused = true)]
async fn an_empty_message_sends_nothing() {
    let service = serves(
        SessionConfig::default(),
        async |mut command: RemoteCommand| {
            let mut sink = command.stdout.take().unwrap().into_sink();
            let empty = || bytes::Bytes::new();
            std::pin::Pin::new(&mut sink).start_send(empty())?;
            let mut stdout = sink.into_inner();
            stdout.send(empty()).await?;
            stdout.write_all(b"text").await?;
            stdout.send(empty()).await?;
            Ok(ExitStatus::success())
        },
    );
    let mut client = Client::start(service, "stdout=1", V4, &[ERROR, STDOUT]).await;
    // The client panics for a frame of data without any.
    let told = client.read_to_end().await;
    assert_eq!(told.text(STDOUT), "text");
    assert_eq!(told.ended, [STDOUT, ERROR]);
}

/// The service learns that its client has gone, in each way in which it can.
#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_its_command() {
    for leaves_with_go_away in [true, false] {
        let (config, summary) = watched();
        let service = serves(config, async |mut command: RemoteCommand| {
            let mut stdin = command.stdin.take().unwrap();
            let error = stdin.read_to_end(&mut Vec::new()).await.unwrap_err();
            Err::<ExitStatus, BoxError>(error.into())
        });
        let mut client = Client::start(service, "stdin=1&stdout=1", V4, &CAT).await;
        client.send(STDIN, b"half of a li").await;
        if leaves_with_go_away {
            client.spdy.bytes(&go_away()).await;
            let told = client.read_to_end().await;
            assert_ne!(told.text(ERROR), "", "{told:?}");
        }
        drop(client);
        let cause = soon(summary).await.unwrap().cause;
        match leaves_with_go_away {
            true => assert!(matches!(cause, EndCause::PeerClosed { .. }), "{cause:?}"),
            false => assert!(
                matches!(cause, EndCause::ConnectionLost { .. }),
                "{cause:?}"
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_client_resets_fails_alone() {
    let service = serves(
        SessionConfig::default(),
        async |mut command: RemoteCommand| {
            let mut stdout = command.stdout.take().unwrap();
            let mut stderr = command.stderr.take().unwrap();
            let failed = loop {
                match stdout.write_all(&[0; 1024]).await {
                    Ok(()) => tokio::task::yield_now().await,
                    Err(error) => break error,
                }
            };
            stderr
                .write_all(format!("{:?}", failed.kind()).as_bytes())
                .await?;
            Ok(ExitStatus::from_code(3))
        },
    );
    let channels = [ERROR, STDOUT, STDERR];
    let mut client = Client::start(service, "stdout=1&stderr=1", V4, &channels).await;
    let stdout = client.stream(STDOUT);
    client.spdy.bytes(&reset(stdout)).await;
    let told = client.read_to_end().await;
    assert_eq!(told.text(STDERR), "ConnectionReset");
    assert_eq!(told.status()["reason"], "NonZeroExitCode");
}

#[tokio::test(start_paused = true)]
async fn a_drain_is_told_and_takes_no_more_streams() {
    let sessions = Sessions::default();
    let config = SessionConfig::default().sessions(sessions.clone());
    let service = serves(config, async |command: RemoteCommand| {
        command.session.ended().await;
        std::future::pending().await
    });
    let mut client = Client::start(service, "stdout=1", V4, &[ERROR, STDOUT]).await;
    let drained = tokio::spawn(sessions.drain(secs(30)));
    let told = client.read_to_end().await;
    assert_eq!(told.status()["reason"], "ServiceUnavailable");
    assert_eq!(told.go_away.map(|(_, status)| status), Some(0));
    drop(client);
    soon(drained).await.unwrap();
    assert!(sessions.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_explicit_acceptance_comes_before_the_answer() {
    let config = || SessionConfig::default().accept(AcceptMode::Explicit);
    let service = serves(config(), async |mut command: RemoteCommand| {
        tokio::time::sleep(secs(1)).await;
        command.session.accept().await;
        let mut stdout = command.stdout.take().unwrap();
        stdout.write_all(b"accepted").await?;
        Ok(ExitStatus::success())
    });
    let start = Instant::now();
    let mut client = Client::start(service, "stdout=1", V4, &[ERROR, STDOUT]).await;
    assert!(start.elapsed() >= secs(1));
    assert_eq!(client.read_to_end().await.text(STDOUT), "accepted");
}
