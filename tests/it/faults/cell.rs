//! One session, which is ended in one way, and what both sides see of it.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{
    EndCause, SessionConfig, Sessions,
    policy::{KeepAlive, Limits},
    session::SessionSummary,
};

use super::{
    carrier::{Carrier, Kind, Transport},
    client::{Client, INPUT, LARGEST, REST, Received},
    end::{End, Own},
    http2_end::Http2End,
    outcome::{Outcome, Reader, Transported, Writer},
    service::{Given, Handles, Piece, Verdict, serve_on},
};
use crate::support::{
    LONG,
    proxy::{AtEof, Far, Pace, Proxy, Rules, Way},
    secs, soon,
};

/// Output behind the end.
const LATE: &[u8] = b"late";

/// The time before a service ends by itself, in which client and proxy do their part.
const BEFORE: Duration = Duration::from_secs(6);

/// The time that an observer waits for what may never come.
const PATIENCE: Duration = Duration::from_secs(100);

/// Returns what the service writes before the end.
fn output(end: End) -> Vec<u8> {
    let len = match end {
        End::NeverReads => 1_000_000,
        End::CloseBothOk => 50_000,
        _ => 1000,
    };
    (0..len).map(|n| (n % 251) as u8).collect()
}

fn config(end: End, registry: &Sessions) -> SessionConfig {
    let config = SessionConfig::default()
        .limits(Limits::default().max_frame(LARGEST))
        .sessions(registry.clone())
        .keep_alive(None);
    match end {
        End::Idle | End::IdleIgnored => config.idle_timeout(secs(60)),
        End::TimeLimit => config.time_limit(secs(60)),
        End::Vanishes | End::StallUp | End::StallDown | End::SwallowFin => {
            config.keep_alive(KeepAlive::every(secs(20)).timeout(secs(10)))
        }
        _ => config,
    }
}

fn rules(end: End, pace: Pace, way: Way) -> Rules {
    let at_eof = match (end, way) {
        (End::SwallowFin, Way::Up) | (End::SwallowFinOk, Way::Down) => AtEof::SwallowIt,
        (End::CloseBothOk | End::CloseBothClose | End::CloseBothFin, _) => AtEof::CloseBoth,
        _ => AtEof::PassItOn,
    };
    Rules { pace, at_eof }
}

/// What the service has seen.
#[derive(Debug)]
struct Saw {
    reader: Option<(Vec<u8>, Reader)>,
    writer: Option<Writer>,
    /// The output that was accepted.
    accepted: Vec<u8>,
    cause: Option<EndCause>,
    /// Whether the service itself was content.
    content: bool,
}

/// Reads what is left, and how that ends.
async fn read_out(reader: &mut tower_wsstream::ChannelReader) -> (Vec<u8>, Reader) {
    let (mut all, mut buf) = (Vec::new(), [0; 512]);
    loop {
        match timeout(PATIENCE, reader.read(&mut buf)).await {
            Err(_) => return (all, Reader::Open),
            Ok(Ok(0)) => return (all, Reader::Eof),
            Ok(Ok(n)) => all.extend_from_slice(&buf[..n]),
            Ok(Err(error)) => return (all, Reader::Failed(error.kind())),
        }
    }
}

async fn write_late(writer: &mut (impl AsyncWrite + Unpin), accepted: &mut Vec<u8>) -> Writer {
    match timeout(PATIENCE, writer.write_all(LATE)).await {
        Err(_) => Writer::Waits,
        Ok(Ok(())) => {
            accepted.extend_from_slice(LATE);
            Writer::Works
        }
        Ok(Err(error)) => Writer::Failed(error.kind()),
    }
}

/// Plays the part of a service, outside of its task.
async fn observe(end: End, handles: Handles, ready: oneshot::Sender<()>) -> Saw {
    let Handles {
        mut reader,
        mut writer,
        session,
        verdict,
    } = handles;
    let mut accepted = Vec::new();
    let mut input = Vec::new();
    if !matches!(end, End::UpgradeFailed | End::StreamsMissing) {
        let mut first = [0; INPUT.len()];
        reader.read_exact(&mut first).await.expect("the input");
        input.extend_from_slice(&first);
        let output = output(end);
        if end == End::NeverReads {
            while let Ok(Ok(n)) = timeout(secs(1), writer.write(&output[accepted.len()..])).await {
                accepted.extend_from_slice(&output[accepted.len()..][..n]);
            }
            let _ = ready.send(());
            sleep(BEFORE).await;
            drop(writer);
            let _ = verdict.send(Verdict::Own(Own::Ok));
            let cause = timeout(PATIENCE, session.ended()).await.ok();
            let (rest, last) = read_out(&mut reader).await;
            input.extend(rest);
            return Saw {
                reader: Some((input, last)),
                writer: None,
                accepted,
                cause,
                content: true,
            };
        }
        writer.write_all(&output).await.expect("a session");
        writer.flush().await.expect("a session");
        accepted = output;
    }
    let _ = ready.send(());
    if let Some(own) = end.own() {
        sleep(BEFORE).await;
        match own {
            Own::Ok | Own::Exit => writer.shutdown().await.unwrap_or_default(),
            Own::Closes => session.close(4001, "going").expect("a session"),
            Own::Status | Own::Error | Own::Target | Own::Panic => {}
        }
        if own == Own::Closes {
            session.ended().await;
        }
        let _ = verdict.send(Verdict::Own(own));
        // An outcome that was told leaves the session open while there are writers.
        let cause = timeout(secs(1), session.ended()).await.ok();
        let late = write_late(&mut writer, &mut accepted).await;
        drop(writer);
        let (rest, last) = read_out(&mut reader).await;
        input.extend(rest);
        return Saw {
            reader: Some((input, last)),
            writer: Some(late),
            accepted,
            cause,
            content: matches!(own, Own::Ok | Own::Closes),
        };
    }
    let (mut rest, mut last) = read_out(&mut reader).await;
    while last == Reader::Open {
        // Nothing has happened yet.
        let more;
        (more, last) = read_out(&mut reader).await;
        rest.extend(more);
    }
    input.extend(rest);
    let cause = timeout(secs(1), session.ended()).await.ok();
    let late = write_late(&mut writer, &mut accepted).await;
    let content = last == Reader::Eof;
    if end.is_ignored() {
        // The service takes no notice, and is dropped with its channels.
        let mut verdict = verdict;
        soon(verdict.closed()).await;
        drop(writer);
    } else {
        drop(writer);
        let _ = verdict.send(match last {
            Reader::Failed(kind) => Verdict::PassOn(match &cause {
                Some(cause) => cause.clone().into(),
                None => kind.into(),
            }),
            _ => Verdict::Own(Own::Ok),
        });
    }
    Saw {
        reader: Some((input, last)),
        writer: Some(late),
        accepted,
        cause,
        content: content && !end.is_ignored(),
    }
}

/// Plays the part of a body.
async fn observe_body(
    end: End,
    pieces: mpsc::UnboundedSender<Piece>,
    ready: oneshot::Sender<()>,
) -> Saw {
    let output = output(end);
    for piece in output.chunks(50_000) {
        let _ = pieces.send(Piece::Data(piece.to_vec().into()));
    }
    let _ = ready.send(());
    let own = end.own();
    if let Some(own) = own {
        sleep(BEFORE).await;
        let _ = match own {
            Own::Ok => Ok(()),
            Own::Panic => pieces.send(Piece::Panics),
            _ => pieces.send(Piece::Fails("failed on purpose".into())),
        };
    } else {
        pieces.closed().await;
    }
    drop(pieces);
    Saw {
        reader: None,
        writer: None,
        accepted: output,
        cause: None,
        content: own == Some(Own::Ok),
    }
}

/// Runs one cell on its own runtime, in paused time.
pub(super) fn run(end: End, carrier: Carrier, pace: Pace) -> Outcome {
    let paused = end != End::Aborted;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(paused)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let outcome = within(end, carrier, pace).await;
        if paused {
            // Nothing is detached: not a task is left when the client has gone.
            sleep(LONG).await;
            let tasks = Handle::current().metrics().num_alive_tasks();
            assert_eq!(tasks, 0, "left of {end:?} of {carrier:?}");
        }
        outcome
    })
}

async fn within(end: End, carrier: Carrier, pace: Pace) -> Outcome {
    let registry = Sessions::default();
    let (tell, mut told) = watch::channel(None::<(SessionSummary, Instant)>);
    let config = config(end, &registry).on_end(move |summary| {
        tell.send_replace(Some((summary.clone(), Instant::now())));
    });
    let (near, far, proxy) = Proxy::spawn(|way| rules(end, pace, way));
    let (give, mut given) = mpsc::unbounded_channel();
    let seen = Arc::new(Mutex::new(Transported::default()));
    let far = Watched {
        io: far,
        seen: Arc::clone(&seen),
        http2: (carrier.transport == Transport::Http2).then(Http2End::default),
    };
    let other = (end == End::Aborted).then(Server::start);
    let server = match &other {
        Some(server) => server.handle.clone(),
        None => Handle::current(),
    };
    serve_on(&server, far, carrier, end, config, give);

    let client = Client::open(near, carrier, end).await;
    let client = match client {
        Some(mut client) => {
            if end != End::StreamsMissing {
                client.begin().await;
            }
            Some(client)
        }
        None => None,
    };
    let (ready, when_ready) = oneshot::channel();
    // A connection of SPDY that was not opened has no service.
    let observer = match timeout(secs(1), given.recv()).await {
        Ok(Some(Given::Channels(handles))) => Some(tokio::spawn(observe(end, handles, ready))),
        Ok(Some(Given::Body(pieces))) => Some(tokio::spawn(observe_body(end, pieces, ready))),
        Ok(None) | Err(_) => None,
    };
    if observer.is_some() {
        soon(when_ready).await.expect("the service is ready");
    }
    let ready_at = Instant::now();
    if end != End::Aborted {
        // What was written has arrived, and the hold of a command is over.
        sleep(secs(5)).await;
    }
    let start = match end.own() {
        None => Instant::now(),
        Some(_) => ready_at + BEFORE,
    };
    let received = Arc::new(Mutex::new(Received::default()));
    let mut silent = None;
    let reading = match client {
        Some(client) => match client.act(end, &proxy).await {
            // It is there, and does nothing.
            Some(client) if matches!(end, End::Vanishes | End::NeverReads) => {
                silent = Some(client);
                None
            }
            Some(client) => Some(tokio::spawn(client.receive(Arc::clone(&received)))),
            None => None,
        },
        None => None,
    };
    match end {
        End::Drain => drop(registry.drain(LONG)),
        End::DrainDeadline => drop(registry.drain(Duration::from_millis(500))),
        _ => {}
    }
    if let Some(other) = other {
        // The output has to be there before the server goes.
        let greeting = if is_port_on_channels(carrier) { 2 } else { 0 };
        while received.lock().unwrap().output.len() < greeting + output(end).len() {
            tokio::task::yield_now().await;
        }
        other.stop();
    }

    let ended = timeout(secs(600), told.wait_for(Option::is_some)).await;
    let summary = ended.ok().and_then(|told| told.expect("a session").clone());
    let saw = match observer {
        Some(observer) => Some(soon(observer).await.expect("no panic")),
        None => None,
    };
    if end != End::Aborted {
        sleep(secs(1)).await;
    }
    let seen = *seen.lock().unwrap();
    proxy.cut();
    if let Some(reading) = reading {
        soon(reading).await.expect("no panic");
    }
    drop(silent);
    let received = received.lock().unwrap().clone();
    outcome(
        carrier,
        saw,
        summary.map(|(s, at)| (s, at.saturating_duration_since(start))),
        received,
        seen,
    )
}

fn outcome(
    carrier: Carrier,
    saw: Option<Saw>,
    summary: Option<(SessionSummary, Duration)>,
    mut received: Received,
    transported: Transported,
) -> Outcome {
    if is_port_on_channels(carrier) {
        for bytes in [&mut received.output, &mut received.error] {
            let skipped = bytes.len().min(2);
            assert_eq!(bytes[..skipped], [80, 0][..skipped]);
            bytes.drain(..skipped);
        }
    }
    let accepted = saw.as_ref().map_or(&[][..], |saw| &saw.accepted);
    assert!(
        accepted.starts_with(&received.output),
        "{carrier:?}: the client has received what nobody wrote"
    );
    let whole = received.output == accepted;
    if let Some((input, _)) = saw.as_ref().and_then(|saw| saw.reader.as_ref()) {
        let sent = [INPUT, REST].concat();
        assert!(
            sent.starts_with(input),
            "{carrier:?}: input that nobody sent"
        );
    }
    Outcome::of(
        carrier,
        saw_parts(saw),
        summary,
        received,
        whole,
        transported,
    )
}

/// Returns whether each channel begins with the number of its port.
fn is_port_on_channels(carrier: Carrier) -> bool {
    carrier.kind == Kind::Port && !carrier.is_spdy()
}

type Parts = (Option<Reader>, Option<Writer>, Option<EndCause>, bool);

fn saw_parts(saw: Option<Saw>) -> Parts {
    match saw {
        None => (None, None, None, false),
        Some(saw) => (
            saw.reader.map(|(_, end)| end),
            saw.writer,
            saw.cause,
            saw.content,
        ),
    }
}

/// A server with a runtime of its own, which can go away.
struct Server {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Server {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(stopped);
        });
        Self {
            handle,
            stop,
            thread,
        }
    }

    fn stop(self) {
        let _ = self.stop.send(());
        self.thread.join().expect("no panic");
    }
}

/// The server's end of the connection, which notes how the server ends it.
struct Watched {
    io: Far,
    seen: Arc<Mutex<Transported>>,
    http2: Option<Http2End>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        let this = &mut *self;
        if let (Poll::Ready(Ok(n)), Some(http2)) = (&written, &mut this.http2) {
            http2.wrote(&buf[..*n], &mut this.seen.lock().unwrap());
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.io).poll_shutdown(cx);
        if self.http2.is_none() && matches!(done, Poll::Ready(Ok(()))) {
            self.seen.lock().unwrap().fin = true;
        }
        done
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.seen.lock().unwrap().dropped = true;
    }
}
