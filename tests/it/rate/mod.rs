//! The rates and the time limits of sessions.

mod limits;
mod transfer;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::{Extensions, Request};
use hyper::body::Incoming;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::oneshot,
    time::Instant,
};
use tower::{Layer, ServiceBuilder, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelSet, EndCause, WsStreamLayer,
    policy::{ByteRate, KeepAlive, Limits, PolicyLayer, TimeLimit, ValidUntil},
    session::Hold,
    subprotocols,
};

use crate::support::{
    BINARY, End, LONG, PING, PONG, Raw, SOON, config, frame, layer, on, once, once_in, open_with,
    read_out, serve, within,
};

const MIB: u64 = 1 << 20;

/// Returns the layer with a rate.
fn paced(rate: ByteRate) -> WsStreamLayer {
    layer().config(config().byte_rate(rate))
}

/// Checks for 30 s, within 5 %.
#[track_caller]
fn assert_thirty_seconds(took: Duration) {
    let secs = took.as_secs_f64();
    assert!((28.5..=31.5).contains(&secs), "30 MiB took {secs} s");
}
