//! One run of a plan.

use std::{
    cell::{Cell, RefCell},
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::duplex,
    runtime::{Builder, Handle},
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_wsstream::{
    AcceptMode, ChannelProtocolConfig, ChannelProtocols, ChannelSet,
    ChannelType::{Read, ReadWrite, Write},
    Encoding, SessionConfig, Sessions, StreamingLayer, WsStreamLayer,
    policy::{ByteRate, KeepAlive, Limits},
    portforward::{self, PortForwardLayer},
    remotecommand::{self, RemoteCommandLayer},
};

use crate::{
    facts::Shared,
    judge::{Evidence, judge},
    notes::Notes,
    opening,
    plan::{CHANNELS, Kind, Plan, Setup, Transport},
    service,
    transport::Chopped,
};

/// The time that a session has beyond everything that is configured.
const SLACK: Duration = Duration::from_secs(15);

/// The time after which a session is drained that does not end by itself.
const PATIENCE: Duration = Duration::from_secs(100);

/// The close limit of all sessions.
const CLOSE_LIMIT: Duration = Duration::from_secs(300);

thread_local! {
    /// A panic on this thread that was not made on purpose, while a plan runs.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a plan, and returns what is wrong.
pub(crate) fn run(plan: &Plan) -> Result<(), String> {
    watch_panics();
    RUNNING.set(true);
    let verdict = panic::catch_unwind(AssertUnwindSafe(|| {
        // Without an I/O driver, a runtime costs next to nothing.
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(scenario(plan))
    }));
    RUNNING.set(false);
    match (PANIC.take(), verdict) {
        (Some(panic), _) => Err(format!("panic: {panic}")),
        (None, Ok(verdict)) => verdict,
        (None, Err(_)) => Err("panic".into()),
    }
}

fn watch_panics() {
    static HOOK: Once = Once::new();

    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| match RUNNING.get() {
            false => default(info),
            true if info.to_string().contains("on purpose") => {}
            true => {
                PANIC.with_borrow_mut(|panic| {
                    panic.get_or_insert_with(|| info.to_string());
                });
            }
        }));
    });
}

async fn scenario(plan: &Plan) -> Result<(), String> {
    let setup = &plan.setup;
    let notes = Notes::default();
    let facts = Shared::default();
    let sessions = Sessions::with_stall_reserve(setup.reserve.saturating_mul(4));
    let broken = Arc::new(AtomicBool::new(false));
    let config = config(setup, &sessions, &notes);
    let start = Instant::now();
    let (near, far) = duplex(setup.capacity);
    let far = Chopped::new(far, setup, Arc::clone(&broken));
    serve(plan, &notes, config, far);
    let client = opening::open(plan, &facts, near);
    let patience = plan.waits() + time_to_move(plan) + PATIENCE;
    let drain = async {
        sleep(setup.early_drain.map_or(patience, Duration::from_millis)).await;
        let at = Instant::now();
        let drained = sessions.drain(Duration::from_millis(setup.drain)).await;
        (at, drained)
    };
    let both = async { tokio::join!(client, drain).1 };
    let drained = timeout(patience + longest_end(plan), both).await;
    let Ok(drained) = drained else {
        let (log, facts) = (notes.log(), facts.borrow());
        return Err(format!(
            "hang: {} sessions, {} tasks\n{log:?}\n{facts:?}",
            sessions.len(),
            Handle::current().metrics().num_alive_tasks()
        ));
    };
    tasks_end(plan.waits() + SLACK).await?;
    let log = notes.log();
    let facts = facts.borrow();
    if let Err(wrong) = judge(&Evidence {
        plan,
        start,
        facts: &facts,
        log: &log,
        drained,
        broken: broken.load(Ordering::Relaxed),
    }) {
        return Err(format!("{wrong}\n{log:?}\n{facts:?}\n{drained:?}"));
    }
    Ok(())
}

/// Spawns the server of a plan.
fn serve(plan: &Plan, notes: &Notes, config: SessionConfig, far: Chopped) {
    let setup = &plan.setup;
    let (plan, notes) = (Arc::new(plan.clone()), notes.clone());
    let watched = {
        let notes = notes.clone();
        move |set: ChannelSet| {
            service::watch(&notes, set.session());
            set
        }
    };
    match setup.kind {
        Kind::Channels => {
            let run = service_fn(move |set| service::run(Arc::clone(&plan), notes.clone(), set));
            match setup.transport {
                Transport::Http1 | Transport::Http2 => {
                    let layer = WsStreamLayer::new(protocols()).config(config);
                    opening::serve(setup.transport, far, layer.layer(run));
                }
                Transport::Post => {
                    let layer = StreamingLayer::new(remotecommand::Protocols::default());
                    opening::serve(setup.transport, far, layer.config(config).layer(run));
                }
            }
        }
        Kind::Command => {
            let service = ServiceBuilder::new()
                .layer(StreamingLayer::new(remotecommand::Protocols::default()).config(config))
                .map_request(watched)
                .layer(RemoteCommandLayer::new())
                .service_fn(move |command| {
                    service::command(Arc::clone(&plan), notes.clone(), command)
                });
            opening::serve(setup.transport, far, service);
        }
        Kind::Ports => {
            let service = ServiceBuilder::new()
                .layer(StreamingLayer::new(portforward::Protocols::default()).config(config))
                .map_request(watched)
                .layer(PortForwardLayer::new())
                .service_fn(move |port| {
                    service::connection(Arc::clone(&plan), notes.clone(), port)
                });
            opening::serve(setup.transport, far, service);
        }
    }
}

/// Waits until there is no task but this one.
async fn tasks_end(most: Duration) -> Result<(), String> {
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let mut pause = Duration::from_millis(1);
    while tasks() > 0 {
        if pause > 2 * most {
            return Err(format!("{} tasks are left", tasks()));
        }
        sleep(pause).await;
        pause *= 2;
    }
    Ok(())
}

/// Returns the longest time from the call of a drain until the session is gone.
fn longest_end(plan: &Plan) -> Duration {
    let setup = &plan.setup;
    let millis = Duration::from_millis;
    let by_itself = millis(setup.grace + setup.closed_grace + 2 * setup.close_timeout)
        + 2 * CLOSE_LIMIT
        + Duration::from_secs(plan.bytes() / 2048 + 90)
        + time_to_move(plan);
    by_itself.min(millis(setup.drain)) + SLACK + plan.waits()
}

/// Returns the time that all bytes take at the byte rates.
fn time_to_move(plan: &Plan) -> Duration {
    let Some((inbound, outbound)) = plan.setup.rate else {
        return Duration::ZERO;
    };
    Duration::from_secs(2 * plan.bytes() / inbound.min(outbound))
}

fn protocols() -> ChannelProtocols {
    use tower_wsstream::subprotocols::*;
    let channels = [Read, Write, Write, ReadWrite, Read];
    const _: () = assert!(CHANNELS == 5);
    let raw = ChannelProtocolConfig::new(Encoding::Binary, channels);
    let base64 = ChannelProtocolConfig::new(Encoding::Base64, channels);
    ChannelProtocols::builder()
        .protocol(V5, raw.clone().half_close(true))
        .protocol(V4, raw.clone())
        .protocol(V4_BASE64, base64.clone())
        .protocol(CHANNEL, raw.clone())
        .protocol(BASE64_CHANNEL, base64)
        .protocol("", raw)
        .build()
        .expect("a table")
}

fn config(setup: &Setup, sessions: &Sessions, notes: &Notes) -> SessionConfig {
    let millis = Duration::from_millis;
    let mut limits = Limits::default()
        .receive_window(setup.window)
        .send_budget(setup.budget)
        .high_water(setup.high_water)
        .stall_reserve(setup.reserve);
    if let Some(most) = setup.max_frame {
        limits = limits.max_frame(most);
    }
    if let Some(most) = setup.max_message {
        limits = limits.max_message(most);
    }
    let keep_alive = setup.ping.map(|every| {
        let every = KeepAlive::every(millis(every));
        match setup.ping_timeout {
            Some(timeout) => every.timeout(millis(timeout)),
            None => every,
        }
    });
    let mut config = SessionConfig::default()
        .limits(limits)
        .keep_alive(keep_alive)
        .idle_timeout(setup.idle.map(millis))
        .time_limit(setup.time_limit.map(millis))
        .grace(millis(setup.grace))
        .closed_grace(millis(setup.closed_grace))
        .close_timeout(millis(setup.close_timeout))
        .close_limit(CLOSE_LIMIT)
        .sessions(sessions.clone());
    if setup.explicit {
        config = config.accept(AcceptMode::Explicit);
    }
    if let Some((inbound, outbound)) = setup.rate {
        config = config.byte_rate(ByteRate::default().inbound(inbound).outbound(outbound));
    }
    let notes = notes.clone();
    config.on_end(move |summary| notes.log().summaries.push(summary.clone()))
}
