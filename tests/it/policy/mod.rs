//! The policies about time: the idle timeout and the keep-alive.

mod activity;
mod config;
mod idle;
mod keep_alive;
mod overrides;

use std::{io, pin::pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};
use tower::{Layer, ServiceBuilder, util::BoxCloneService};
use tower_wsstream::{
    AcceptMode, ChannelSet, ChannelWriter, EndCause, SessionConfig, WsStreamLayer,
    policy::{ByteRate, IdleTimeout, IdleTimeoutLayer, KeepAlive, Limits, PolicyLayer, TimeLimit},
    subprotocols,
};

use crate::support::{
    ALL, BINARY, BITE, EXACT, End, Frame, HttpService, LONG, PING, PONG, Raw, TEXT, Watchdog,
    base64, config, frame, layer, never, on, once_in, open, open_watched, open_with, protocols,
    read_out, secs, serve, within,
};

const IDLE: Duration = Duration::from_secs(10);
fn idle() -> WsStreamLayer {
    layer().idle_timeout(IDLE)
}

fn beating(every: u64, timeout: u64) -> WsStreamLayer {
    layer().config(config().keep_alive(KeepAlive::every(secs(every)).timeout(secs(timeout))))
}

/// Checks that an event happened at its time, and not sooner.
#[track_caller]
fn assert_at(what: &str, at: Duration, expected: Duration) {
    assert!(
        at >= expected && at <= expected + EXACT,
        "{what} after {at:?}, not after {expected:?}"
    );
}

/// The cause and the time of a session's end.
type Ended = oneshot::Receiver<(EndCause, Instant)>;

/// Opens a session that only waits for its end, and whose writer the test holds.
async fn waiting(
    layer: WsStreamLayer,
    offer: &str,
    capacity: usize,
) -> (Raw<DuplexStream>, ChannelWriter, Ended) {
    let (tell, ended) = oneshot::channel();
    let (give, output) = oneshot::channel();
    let service = once_in(layer, |mut set: ChannelSet| async move {
        assert!(give.send(set.take_writer(1).unwrap()).is_ok());
        let cause = set.session().ended().await;
        let _ = tell.send((cause, Instant::now()));
        Ok(())
    });
    let client = open_with(service, offer, capacity).await;
    (client, output.await.unwrap(), ended)
}

async fn idle_end(start: Instant, ended: Ended) -> Duration {
    let (cause, at) = within(LONG, ended).await.unwrap();
    assert_eq!(cause, EndCause::IdleTimeout);
    at - start
}
