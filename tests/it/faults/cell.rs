//! One session, which is ended in one way, and what both sides see of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tower_wsstream::{
    SessionConfig, Sessions,
    policy::{KeepAlive, Limits},
    session::SessionSummary,
};

use super::{
    carrier::{Carrier, Kind, Transport},
    client::{Client, INPUT, LARGEST, REST, Received},
    end::End,
    http2_end::Http2End,
    observer::{BEFORE, Saw, observe, observe_body, output},
    outcome::{Outcome, Transported},
    service::{Given, serve_on},
    watched::Watched,
};
use crate::support::{
    LONG,
    proxy::{AtEof, Pace, Proxy, Rules, Way},
    secs, soon,
};

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
        // The output has arrived, and the hold of a command is over.
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
        let known = sent.starts_with(input);
        assert!(known, "{carrier:?}: input that nobody sent");
    }
    Outcome::of(carrier, saw, summary, received, whole, transported)
}

/// Returns whether each channel begins with the number of its port.
fn is_port_on_channels(carrier: Carrier) -> bool {
    carrier.kind == Kind::Port && !carrier.is_spdy()
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
