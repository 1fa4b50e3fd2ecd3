//! The client end for users' tests, over each transport.

mod lost;
mod sessions;
mod time;

use std::{
    future::pending,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::Router;
use bytes::Bytes;
use http::{Method, StatusCode, Version, header};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_wsstream::{
    AcceptMode, BoxError, ChannelProtocolConfig, ChannelProtocols, ChannelSet,
    ChannelType::{Read, Write},
    Encoding, EndCause, WsStreamLayer,
    policy::Limits,
    reader::{ReaderProtocols, WsReaderLayer},
    remotecommand::{ExitStatus, Protocols, RemoteCommand, RemoteCommandLayer},
    subprotocols,
    testing::{Client, Connect, Frame, Received, Refused},
};

use crate::support::{
    AFTERWARDS, ALL, End, LONG, config, echo, layer, once, protocols, read_out, session, soon,
    tasks, transports, within,
};

/// Returns requests over each transport, with each subprotocol and with none.
fn everything() -> impl Iterator<Item = (&'static str, Connect)> {
    let offering = |offer: &'static str| {
        transports("/").map(|connect| match offer {
            "" => (offer, connect),
            _ => (offer, connect.offer(offer)),
        })
    };
    ALL.into_iter().flat_map(offering)
}

async fn end_input(client: &mut Client) {
    match client.subprotocol() {
        subprotocols::V5 => client.close_channel(0).await.unwrap(),
        _ => client.close(Some(1000)).await.unwrap(),
    }
}
