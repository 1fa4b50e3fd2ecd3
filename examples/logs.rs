//! Logs: an ordinary response for curl, and messages for a WebSocket.
//!
//!     cargo run --example logs
//!     curl http://127.0.0.1:8010/log                       the last lines
//!     curl -N 'http://127.0.0.1:8010/log?follow=true'      and each new one
//!     npx wscat -s base64.binary.k8s.io -c 'ws://127.0.0.1:8010/log?follow=true'
//!
//! The last one prints an empty message, and then each line as base64: `dGljayAxCg==` is
//! "tick 1". A client that falls more than 1,000 lines behind is disconnected with an error,
//! because a log with a gap must not look complete. At most 64 logs are sent at once, followed or
//! not: a further request is answered with 429.

#[path = "support/serve.rs"]
mod serve;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, State},
    response::{IntoResponse, Response},
    routing::any,
};
use bytes::Bytes;
use futures_util::stream;
use tokio::{
    net::TcpListener,
    signal::ctrl_c,
    sync::broadcast::{self, error::RecvError},
    time::interval,
};
use tower_wsstream::{
    BoxError, Sessions, access::SessionPermits, body::NoBody, reader::WsReaderLayer,
};

/// The lines that are kept, and the lines that a client may fall behind.
const LINES: usize = 1000;

/// The logs that may be sent at once.
const READERS: usize = 64;

/// A log with its readers. Clones share it.
#[derive(Clone)]
struct Log {
    recent: Arc<Mutex<VecDeque<Bytes>>>,
    lines: broadcast::Sender<Bytes>,
    permits: SessionPermits<()>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            recent: Arc::default(),
            lines: broadcast::channel(LINES).0,
            permits: SessionPermits::new(READERS),
        }
    }
}

impl Log {
    fn add(&self, line: String) {
        let line = Bytes::from(line);
        // Under the lock, so that a reader that begins now has each line once.
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == LINES {
            recent.pop_front();
        }
        recent.push_back(line.clone());
        // Fails if there is no reader.
        let _ = self.lines.send(line);
    }

    /// The lines so far, and those from then on.
    fn read(&self) -> (Vec<Bytes>, broadcast::Receiver<Bytes>) {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (recent.iter().cloned().collect(), self.lines.subscribe())
    }
}

/// An ordinary handler, which knows nothing of WebSockets.
async fn show(State(log): State<Log>, RawQuery(query): RawQuery) -> Response {
    let permit = match log.permits.try_acquire(()) {
        Ok(permit) => permit,
        Err(refused) => return refused.into_response::<NoBody>().map(Body::new),
    };
    let (recent, lines) = log.read();
    let follows = query.as_deref() == Some("follow=true");
    // The permit is part of the body, not of this function, which returns before the first line is
    // sent. It is released when the body ends, or is dropped because the client has left.
    let reading = (recent.into_iter(), follows.then_some(lines), permit);
    let body = stream::try_unfold(reading, async |(mut recent, mut lines, permit)| {
        let line = match (recent.next(), &mut lines) {
            (Some(line), _) => line,
            (None, None) => return Ok(None),
            (None, Some(lines)) => match lines.recv().await {
                Ok(line) => line,
                Err(RecvError::Closed) => return Ok(None),
                Err(lagged) => return Err(lagged),
            },
        };
        Ok(Some((line, (recent, lines, permit))))
    });
    Body::from_stream(body).into_response()
}

fn app(log: Log, sessions: &Sessions) -> Router {
    let layer = WsReaderLayer::new()
        // A page learns at once that it is connected, even if the log is silent.
        .ping(true)
        .sessions(sessions.clone());
    Router::new()
        .route("/log", any(show).layer(layer))
        .with_state(log)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let log = Log::default();
    let writer = log.clone();
    tokio::spawn(async move {
        let mut ticks = interval(Duration::from_secs(1));
        for number in 1.. {
            ticks.tick().await;
            writer.add(format!("tick {number}\n"));
        }
    });
    let listener = TcpListener::bind("127.0.0.1:8010").await?;
    println!("listening on http://{}/log", listener.local_addr()?);
    let sessions = Sessions::default();
    serve::serve(listener, app(log, &sessions), sessions, ctrl_c()).await;
    Ok(())
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use axum::{body::to_bytes, http::Request};
    use tower::ServiceExt;
    use tower_wsstream::testing::{Connect, Received, Refused};

    use super::*;

    fn follow() -> Connect {
        Connect::to("/log?follow=true").offer("binary.k8s.io")
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_is_followed() -> Result<(), BoxError> {
        let log = Log::default();
        log.add("before\n".into());
        let mut client = follow()
            .connect(app(log.clone(), &Sessions::default()))
            .await?;
        for text in ["", "before\n"] {
            assert_eq!(client.receive().await, Received::Message(0, text.into()));
        }
        log.add("after\n".into());
        assert_eq!(
            client.receive().await,
            Received::Message(0, "after\n".into())
        );
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_not_followed_ends() -> Result<(), BoxError> {
        let log = Log::default();
        log.add("one\n".into());
        log.add("two\n".into());
        let client = Connect::to("/log")
            .connect(app(log, &Sessions::default()))
            .await?;
        let told = client.read_to_end().await;
        assert_eq!(told.channel(0), b"one\ntwo\n");
        assert_eq!(told.close_code, Some(1000));
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_with_a_gap_does_not_look_complete() -> Result<(), BoxError> {
        let log = Log::default();
        let connect = follow().buffer(1024);
        let mut client = connect
            .connect(app(log.clone(), &Sessions::default()))
            .await?;
        client.stall(Duration::from_secs(1)).await;
        for number in 0..LINES * 200 {
            log.add(format!("line {number}\n"));
        }
        assert_eq!(client.read_to_end().await.close_code, Some(1011));
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_leaves_makes_room() -> Result<(), BoxError> {
        let app = app(Log::default(), &Sessions::default());
        let mut readers = Vec::new();
        for _ in 0..READERS {
            readers.push(follow().connect(app.clone()).await?);
        }
        let error = follow().connect(app.clone()).await.unwrap_err();
        assert_eq!(
            error.downcast_ref::<Refused>().ok_or("no answer")?.status(),
            429
        );
        readers.pop();
        tokio::time::sleep(Duration::from_secs(5)).await;
        follow().connect(app).await?;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_is_not_followed_counts_until_it_is_sent() -> Result<(), BoxError> {
        let log = Log::default();
        log.add("one\n".into());
        let app = app(log, &Sessions::default());
        let get = async || {
            let request = Request::get("/log").body(Body::empty())?;
            Ok::<_, BoxError>(app.clone().oneshot(request).await?)
        };
        let mut unsent = Vec::new();
        for _ in 0..READERS {
            unsent.push(get().await?.into_body());
        }
        assert_eq!(get().await?.status(), 429);
        let sent = unsent.pop().ok_or("no body")?;
        assert_eq!(to_bytes(sent, usize::MAX).await?, "one\n");
        assert_eq!(get().await?.status(), 200);
        // A client that leaves.
        unsent.pop();
        assert_eq!(get().await?.status(), 200);
        Ok(())
    }
}
