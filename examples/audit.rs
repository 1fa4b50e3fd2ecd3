//! An audit of sessions: a line of JSON for each read and write of a session, and for its end.
//!
//!     cargo run --example audit
//!     npx wscat -H 'x-user: ana' -s v4.base64.channel.k8s.io \
//!         -c 'ws://127.0.0.1:8012/exec?command=greet&stdin=1&stdout=1'
//!
//! Type `0YW5hCg==` ("ana" and a newline on channel 0): the greeting comes back as base64, and
//! the server prints
//!
//!     {"at_ms":0,"bytes":4,"channel":0,"direction":"in","session":1,"text":"ana\n","user":"ana"}
//!     {"at_ms":0,"bytes":11,"channel":1,"direction":"out","session":1,"text":"hello, ana\n","user":"ana"}
//!     {"at_ms":0,"end":"completed","session":1,"user":"ana"}
//!
//! A session waits while the audit is behind, so it carries nothing that is not recorded.
//! `examples/asciicast.rs` records terminals, and loses records rather than wait.

#[path = "support/serve.rs"]
mod serve;

use axum::Router;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    signal::ctrl_c,
    sync::mpsc,
    time::Instant,
};
use tower::ServiceBuilder;
use tower_wsstream::{
    BoxError, ChannelSet, Sessions, WsStreamLayer,
    channel::tap::{Direction, Overflow, Record, Tap, TapLayer, TapReader},
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
};

/// The lines that may wait to be written, for all sessions together.
const LINES: usize = 256;

/// The longest name, in bytes.
const NAME: u64 = 256;

type Lines = mpsc::Sender<Value>;

/// Greets by name.
async fn greet(mut command: RemoteCommand) -> Result<ExitStatus, BoxError> {
    let mut stdin = command.stdin.take().ok_or("no stdin")?;
    let mut stdout = command.stdout.take().ok_or("no stdout")?;
    let mut name = String::new();
    // A client that sends no newline must not fill the memory.
    (&mut stdin).take(NAME).read_line(&mut name).await?;
    stdout
        .write_all(format!("hello, {name}").as_bytes())
        .await?;
    Ok(ExitStatus::success())
}

/// Writes down one session.
async fn audit(session: u64, user: String, mut records: TapReader, lines: Lines) {
    let start = Instant::now();
    while let Some(record) = records.next().await {
        let mut line = match record {
            Record::Payload(it) => json!({
                "at_ms": millis(it.time, start),
                "channel": it.channel,
                "direction": match it.direction {
                    Direction::Inbound => "in",
                    Direction::Outbound => "out",
                },
                "bytes": it.bytes.len(),
                "text": String::from_utf8_lossy(&it.bytes),
            }),
            Record::End(it) => {
                json!({ "at_ms": millis(Instant::now(), start), "end": it.cause.name() })
            }
            _ => continue,
        };
        line["session"] = session.into();
        line["user"] = user.as_str().into();
        if lines.send(line).await.is_err() {
            // The writer is gone. Dropping the records lets the session go on without an audit; a
            // server for which that is too little ends the process instead.
            return;
        }
    }
}

fn millis(time: Instant, start: Instant) -> u64 {
    let since = time.saturating_duration_since(start).as_millis();
    u64::try_from(since).unwrap_or(u64::MAX)
}

fn app(lines: Lines, sessions: &Sessions) -> Router {
    let tap = TapLayer::new(move |channels: &ChannelSet| {
        // In a real server, authentication has inserted the user.
        let user = channels.request()?.headers.get("x-user");
        let user = user.map_or("-".into(), |user| {
            String::from_utf8_lossy(user.as_bytes()).into()
        });
        let (tap, records) = Tap::new(Overflow::Backpressure);
        let session = channels.session().id();
        tokio::spawn(audit(session, user, records, lines.clone()));
        Some(tap)
    });
    let exec = ServiceBuilder::new()
        .layer(WsStreamLayer::new(Protocols::default()).sessions(sessions.clone()))
        .layer(tap)
        .layer(RemoteCommandLayer::new())
        .service_fn(greet);
    Router::new().route_service("/exec", exec)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (lines, mut written) = mpsc::channel(LINES);
    let writer = tokio::spawn(async move {
        while let Some(line) = written.recv().await {
            println!("{line}");
        }
    });
    let listener = TcpListener::bind("127.0.0.1:8012").await?;
    eprintln!("listening on ws://{}/exec", listener.local_addr()?);
    let sessions = Sessions::default();
    serve::serve(listener, app(lines, &sessions), sessions, ctrl_c()).await;
    // The last line has been written once the last session has dropped its sender.
    writer.await?;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use http::HeaderName;
    use tower_wsstream::{subprotocols::V5, testing::Connect};

    use super::*;

    fn connect() -> Connect {
        Connect::to("/exec?command=greet&stdin=1&stdout=1")
            .header(HeaderName::from_static("x-user"), "ana")
            .offer(V5)
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_written_down() -> Result<(), BoxError> {
        let (lines, mut written) = mpsc::channel(LINES);
        let mut client = connect().connect(app(lines, &Sessions::default())).await?;
        client.send(0, b"ana\n").await?;
        let told = client.read_to_end().await;
        assert_eq!(told.channel(1), b"hello, ana\n");

        let line = written.recv().await.ok_or("no line")?;
        assert_eq!(
            (&line["text"], &line["direction"]),
            (&"ana\n".into(), &"in".into())
        );
        let line = written.recv().await.ok_or("no line")?;
        assert_eq!(
            (&line["text"], &line["channel"]),
            (&"hello, ana\n".into(), &1.into())
        );
        let line = written.recv().await.ok_or("no line")?;
        assert_eq!(
            (&line["end"], &line["user"]),
            (&"completed".into(), &"ana".into())
        );
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_vanishes_is_written_down() -> Result<(), BoxError> {
        let (lines, mut written) = mpsc::channel(LINES);
        let client = connect().connect(app(lines, &Sessions::default())).await?;
        client.lose();
        let line = written.recv().await.ok_or("no line")?;
        assert_eq!(line["end"], "connection_lost");
        Ok(())
    }
}
